"""What the lake's copy of the meter reports lacks, and the rows of its days. `meter_ledger.py` notes what changed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.report_rows import STORED, TABLE
from orchestration.ledger.columns import EpochHour, EpochTime
from orchestration.ledger.tables import marks

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
    query = sa.select(*raw).where(*ledger.of_day(day)).order_by(TABLE.hour_start, TABLE.customer_id, TABLE.revision)
    with ledger.ledger.reading() as connection:
        yield from connection.execution_options(yield_per=ROWS).execute(query).partitions()


def _raw(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    if isinstance(column.type, EpochHour):
        return sa.type_coerce(column, sa.BigInteger) * 3_600_000_000
    return sa.type_coerce(column, sa.BigInteger) if isinstance(column.type, EpochTime) else column


def note_copied(ledger: MeterLedger, changed: Mapping[date, str], seal: str) -> None:
    """These changes are in the copy with that seal. What changed meanwhile is left for the next one."""
    with ledger.ledger.transaction() as connection:
        for day, value in changed.items():
            name = ledger.named(f"changed|{day}")
            connection.execute(sa.delete(marks).where(marks.c.name == name, marks.c.value == value))
        ledger.set_mark(connection, "copy", seal)
