"""What the lake's copy of the meter reports lacks, and the rows of its days. `meter_ledger.py` notes what changed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.report_rows import STORED, TABLE
from orchestration.ledger import marks
from orchestration.ledger.columns import EpochHour, EpochTime

ROWS = 10_000
"""Read at a time, where all of a day are."""


def changed_days(ledger: MeterLedger) -> dict[date, str]:
    """UTC days of which a report was written since the copy; the text is another one with each change."""
    return ledger.marked_days("changed|")


def days(ledger: MeterLedger) -> list[date]:
    """UTC days with reports."""
    with ledger.ledger.reading() as connection:
        hours = connection.scalars(sa.select(STORED.hour_start).distinct().where(ledger.is_stored))
        return sorted({hour.date() for hour in hours})


def rows_of(ledger: MeterLedger, day: date, columns: Sequence[str]) -> Iterator[Sequence[Sequence[Any]]]:
    """Those columns of all revisions of a day's hours in order, so many at a time that memory is bounded.

    Moments as they are stored, in microseconds since 1970: to make datetimes of them costs more than all the rest.
    """
    raw = [_raw(TABLE[name]) for name in columns]
    conditions, window = ledger.of_day(day)
    query = sa.select(*raw).where(*conditions).order_by(TABLE.hour_start, TABLE.customer_id, TABLE.revision)
    with ledger.ledger.reading() as connection:
        yield from connection.execution_options(yield_per=ROWS).execute(query, window).partitions()


def _raw(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    if isinstance(column.type, EpochHour):
        return sa.type_coerce(column, sa.BigInteger) * 3_600_000_000
    return sa.type_coerce(column, sa.BigInteger) if isinstance(column.type, EpochTime) else column


def note_copied(ledger: MeterLedger, changed: Mapping[date, str], seal: str) -> None:
    """These changes are in the copy with that seal. What changed meanwhile is left for the next one."""
    with ledger.ledger.transaction() as connection:
        marks.remove_unchanged(connection, {ledger.named(f"changed|{day}"): value for day, value in changed.items()})
        ledger.set_marks(connection, {"copy": seal})
