"""Copies of the ledger, and what is different where one stands in the place of a ledger that was lost.

A copy does not know what was sent after it was made, and says so of itself by two marks. While it has the first, each
message is looked for at the channel before it is sent (`outbox.py`); while it has the second, nothing is reported to
Stripe until what Stripe shows was taken over. A ledger that was never a copy has neither; one that was brought back by
other means gets them when Stripe shows what it does not know (`billing/forgotten.py`).
"""

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from orchestration.ledger import marks
from orchestration.ledger.ledger import Ledger

COPIED, UNADOPTED = "copied", "unadopted"
LOOKED_FOR = timedelta(days=2)
"""After a copy was put in place: within it, whatever the lost ledger may have sent is decided anew."""


def copy(url: str, target: Path, at: datetime) -> None:
    """Copy the ledger as it is at one moment, whoever writes to it, to the new file `target`.

    :raises ValueError: it is not in SQLite.
    """
    address = sa.make_url(url)
    if address.get_backend_name() != "sqlite":
        raise ValueError(
            f"the ledger is in {address.get_backend_name()}: back it up with that server's own tools, before"
            " the lake's folder is copied"
        )
    Ledger(url).close()  # of this version, whose marks these are
    with closing(sqlite3.connect(str(address.database))) as source, closing(sqlite3.connect(target)) as copied:
        source.backup(copied)
        copied.execute("pragma journal_mode = delete")  # one file, without a log beside it
        with copied:
            copied.executemany(
                "insert or replace into marks (name, value) values (?, ?)",
                [(COPIED, at.isoformat()), (UNADOPTED, at.isoformat())],
            )


def copied_at(ledger: Ledger, now: datetime) -> datetime | None:
    """When it was copied, if that has to be minded now: it was put in the place of another one within two days."""
    found = _mark(ledger, COPIED)
    if found is None:
        return None
    made, _, used = found.partition("|")
    if not used:
        used = now.isoformat()
        with ledger.transaction() as connection:
            marks.put(connection, {COPIED: f"{made}|{used}"})
    return datetime.fromisoformat(made) if now - datetime.fromisoformat(used) < LOOKED_FOR else None


def unadopted_since(ledger: Ledger) -> datetime | None:
    """When it was copied, if what Stripe shows was not taken over since; None of any other ledger."""
    found = _mark(ledger, UNADOPTED)
    return datetime.fromisoformat(found) if found else None


def note_older(ledger: Ledger, at: datetime) -> None:
    """It was found to be a copy, though it did not say so: as of now nothing is reported until `note_adopted`."""
    with ledger.transaction() as connection:
        marks.put(connection, {COPIED: at.isoformat(), UNADOPTED: at.isoformat()})


def note_adopted(ledger: Ledger) -> None:
    """What Stripe shows was taken over."""
    with ledger.transaction() as connection:
        marks.remove(connection, [UNADOPTED])


def _mark(ledger: Ledger, name: str) -> str | None:
    with ledger.reading() as connection:
        return marks.value(connection, name)
