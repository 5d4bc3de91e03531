"""Statements about a meter's reports that every run makes, each put together once in a process.

SQLAlchemy takes twice as long to put one together, and to find what it compiled of the last one like it, as SQLite
takes to answer. So what differs from call to call is a parameter, and conditions are constants.
"""

from functools import cache, lru_cache
from typing import Any

import sqlalchemy as sa

from orchestration.billing import report_rows as rows
from orchestration.billing.metering import ReportState
from orchestration.billing.report_rows import STORED, TABLE
from orchestration.ledger.tables import meter_reports

Meter = sa.ScalarSelect[int]
"""The number of a meter, from `report_rows.meter_id`."""
IS_NEWEST, IS_STORED_NEWEST = rows.is_newest(TABLE), rows.is_newest(STORED)
OF_CUSTOMER = TABLE.stripe_customer_id == sa.bindparam("customer")
SINCE = TABLE.hour_start >= sa.bindparam("since", type_=TABLE.hour_start.type)
BEFORE = TABLE.hour_start < sa.bindparam("before", type_=TABLE.hour_start.type)
_ANY_STATE = TABLE.state.in_(ReportState)
"""The index begins with the state: without it the whole history would be read for each day."""


@lru_cache(256)
def chosen(meter: Meter, conditions: tuple[sa.ColumnElement[bool], ...], has_limit: bool) -> sa.Select[Any]:
    """Reports that meet conditions on TABLE, as `MeterLedger.reports` orders them; `most` of them with a limit.

    Conditions that are no constants are put together again, and push others out.
    """
    columns = [column for column in TABLE if column.name not in ("meter_id", "customer_id")]
    by = TABLE.customer_id if has_limit else TABLE.stripe_customer_id
    query = (
        sa.select(*columns).where(TABLE.meter_id == meter, *conditions).order_by(TABLE.hour_start, by, TABLE.revision)
    )
    return query.limit(sa.bindparam("most", type_=sa.Integer())) if has_limit else query


@cache
def recorded(meter: Meter) -> sa.Select[Any]:
    """What a plan asks of the revisions of hours from `since` to `before`, in order."""
    columns = (TABLE.stripe_customer_id, TABLE.hour_start, TABLE.revision, TABLE.units, TABLE.value, TABLE.state)
    at = sa.func.coalesce(TABLE.finished_at, TABLE.created_at, type_=TABLE.created_at.type)
    return sa.select(*columns, at).where(*of_hours(meter)).order_by(TABLE.revision)


def of_hours(meter: Meter) -> tuple[sa.ColumnElement[bool], ...]:
    """The reports of hours from `since` to `before`, in any state."""
    return TABLE.meter_id == meter, _ANY_STATE, SINCE, BEFORE


@cache
def open_hours(meter: Meter, states: tuple[ReportState, ...]) -> sa.Select[Any]:
    """Hours of which a newest revision is in one of the states."""
    is_open = (STORED.state.in_(states), IS_STORED_NEWEST)
    return sa.select(STORED.hour_start).distinct().where(STORED.meter_id == meter, *is_open)


@cache
def unconfirmed(meter: Meter, states: tuple[ReportState, ...]) -> sa.Select[Any]:
    """By customer with reports in those states since before `taken_before`: the first hour and the last; the customer
    that waits longest first.
    """
    is_old = TABLE.finished_at < sa.bindparam("taken_before", type_=TABLE.finished_at.type)
    return (
        sa.select(TABLE.stripe_customer_id, sa.func.min(TABLE.hour_start), sa.func.max(TABLE.hour_start))
        .where(TABLE.meter_id == meter, TABLE.state.in_(states), is_old)
        .group_by(TABLE.stripe_customer_id)
        .order_by(sa.func.min(sa.func.coalesce(TABLE.checked_at, TABLE.finished_at)), TABLE.stripe_customer_id)
    )


@cache
def change(meter: Meter, names: tuple[str, ...]) -> sa.Update:
    """Write these attributes, each from the parameter `to_` and its name, into the row of `report_rows.key_of`."""
    values = {name: sa.bindparam(f"to_{name}", type_=STORED[name].type) for name in names}
    return sa.update(meter_reports).where(*rows.of_revision(meter)).values(**values)
