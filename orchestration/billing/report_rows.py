"""How meter reports are stored: narrow rows, with numbers for meters and customers. meter_ledger.py has the meaning."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestration.billing.metering import MeterReport, ReportState
from orchestration.billing.revisions import Report
from orchestration.ledger import engines
from orchestration.ledger.tables import meter_reports, report_customers, report_meters

STORED = meter_reports.c
TABLE = (
    sa.select(report_customers.c.stripe_customer_id, *STORED)
    .join_from(meter_reports, report_customers, STORED.customer_id == report_customers.c.id)
    .subquery("reports")
    .c
)
"""What reports are asked by: their columns as stored, with the customers' names."""


FirstReport = tuple[int, int, int, int, bytes]
"""Hour, customer, units, value and identifier of a first revision, as they are stored."""
NO_ATTEMPTS = {"attempts": 0, "answered_errors": 0, "checks": 0}


def is_newest(table: Any = TABLE) -> sa.ColumnElement[bool]:
    """Whether a report is the last revision of its customer and hour."""
    newer = meter_reports.alias()
    same = (newer.c[name] == table[name] for name in ("meter_id", "customer_id", "hour_start"))
    return ~sa.exists().where(*same, newer.c.revision > table.revision)


@cache
def meter_id(env: str, event_name: str) -> sa.ScalarSelect[int]:
    """The number of an environment's meter; null, which no row has, before its first report."""
    table = report_meters.c
    return sa.select(table.id).where(table.env == env, table.meter == event_name).scalar_subquery()


@cache
def first_hours(env: str, event_name: str, states: tuple[ReportState, ...]) -> sa.Select[Any]:
    """Of a meter, one row with a column for each state: its first hour, which the index has, or null.

    Every run asks for them: the statement is put together once.
    """
    is_stored = STORED.meter_id == meter_id(env, event_name)
    first = sa.select(sa.func.min(STORED.hour_start))
    return sa.select(*(first.where(is_stored, STORED.state == state).scalar_subquery() for state in states))


def of_hour(meter: sa.ScalarSelect[int]) -> tuple[sa.ColumnElement[bool], ...]:
    """The stored revisions of a customer's hour: of the parameters `of_customer` and `of_hour`."""
    hour = STORED.hour_start == sa.bindparam("of_hour", type_=STORED.hour_start.type)
    return STORED.meter_id == meter, STORED.customer_id == _customer_id("of_customer"), hour


def of_revision(meter: sa.ScalarSelect[int]) -> tuple[sa.ColumnElement[bool], ...]:
    """The stored row with the key that `key_of` gives."""
    return *of_hour(meter), STORED.revision == sa.bindparam("of_revision")


def key_of(report: Report | MeterReport) -> dict[str, object]:
    return {"of_customer": report.stripe_customer_id, "of_hour": report.hour_start, "of_revision": report.revision}


def insert(connection: sa.Connection, env: str, event_name: str, reports: Sequence[Mapping[str, Any]]) -> None:
    """New rows, from the attributes of reports. Called in a transaction that writes.

    :raises ValueError: another revision of the hour has the identifier; Stripe would drop the new one.
    """
    _require_new(connection, meter_id(env, event_name), reports)
    _know(connection, report_meters, [{"env": env, "meter": event_name}])
    customers = sorted({each["stripe_customer_id"] for each in reports})
    _know(connection, report_customers, [{"stripe_customer_id": customer} for customer in customers])
    names = tuple(name for name in reports[0] if name != "stripe_customer_id")
    connection.execute(_insertion(meter_id(env, event_name), names), list(reports))


@cache
def _insertion(meter: sa.ScalarSelect[int], names: tuple[str, ...]) -> sa.Insert:
    """Of rows with these columns, beside a customer's name."""
    values = {name: sa.bindparam(name, type_=STORED[name].type) for name in names}
    return sa.insert(meter_reports).values(meter_id=meter, customer_id=_customer_id("stripe_customer_id"), **values)


def insert_first(
    connection: sa.Connection, env: str, event_name: str, state: ReportState, at: datetime, reports: list[FirstReport]
) -> None:
    """First revisions, of customers with numbers: a million of them, so nothing of a row is converted here."""
    same = {"state": state, "created_at": at}
    numbers = {
        "meter_id": connection.scalar(sa.select(meter_id(env, event_name))),
        "revision": 1,
        **{name: _stored(name, value, connection) for name, value in same.items()},
        **NO_ATTEMPTS,
    }
    statement = sa.insert(meter_reports).values(
        hour_start=sa.bindparam("hour", type_=sa.Integer()),
        customer_id=sa.bindparam("customer", type_=sa.Integer()),
        units=sa.bindparam("count", type_=sa.BigInteger()),
        value=sa.bindparam("sent", type_=sa.BigInteger()),
        identifier=sa.bindparam("digest", type_=sa.LargeBinary()),
        **{name: sa.literal_column(str(number)) for name, number in numbers.items()},
    )
    engines.execute_many(connection, statement, ("hour", "customer", "count", "sent", "digest"), reports)


def _stored(name: str, value: object, connection: sa.Connection) -> int:
    kind: Any = STORED[name].type
    return int(kind.process_bind_param(value, connection.dialect))


def know(connection: sa.Connection, env: str, event_name: str, customers: Iterable[str]) -> dict[str, int]:
    """Give them numbers, and the meter, where they have none: all customers' numbers. Called in a transaction that
    writes, so nobody else gives one meanwhile.
    """
    known = dict(connection.execute(_NUMBERS).tuples().all())
    new = sorted({*customers} - known.keys())
    _know(connection, report_meters, [{"env": env, "meter": event_name}])
    _know(connection, report_customers, [{"stripe_customer_id": customer} for customer in new])
    if not new:
        return known
    return dict(connection.execute(_NUMBERS).tuples().all())


_NUMBERS = sa.select(report_customers.c.stripe_customer_id, report_customers.c.id)


def _require_new(connection: sa.Connection, meter: sa.ScalarSelect[int], reports: Sequence[Mapping[str, Any]]) -> None:
    """An index of all identifiers would be a third of the ledger, and they are made of the key: only the revisions of
    the same hour are looked at.
    """
    for each in reports:
        if each["revision"] > 1:
            key = {"of_customer": each["stripe_customer_id"], "of_hour": each["hour_start"]}
            if connection.scalar(_same_identifier(meter), {**key, "of_identifier": each["identifier"]}) is not None:
                raise ValueError(f"{each['identifier']} is the identifier of another revision")


@cache
def _same_identifier(meter: sa.ScalarSelect[int]) -> sa.Select[Any]:
    is_same = STORED.identifier == sa.bindparam("of_identifier", type_=STORED.identifier.type)
    return sa.select(STORED.revision).where(*of_hour(meter), is_same)


def _customer_id(parameter: str) -> sa.ScalarSelect[int]:
    """The number of the customer that the parameter names."""
    name = report_customers.c.stripe_customer_id
    return sa.select(report_customers.c.id).where(name == sa.bindparam(parameter, type_=name.type)).scalar_subquery()


def _know(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, str]]) -> None:
    if not rows:
        return
    names = [{f"of_{name}": value for name, value in row.items()} for row in rows]
    connection.execute(_insertion_of_new(table, tuple(rows[0])), names)


@cache
def _insertion_of_new(table: sa.Table, names: tuple[str, ...]) -> sa.Insert:
    """Of the parameters `of_` and a column's name, where the table has no such row."""
    given = [sa.bindparam(f"of_{name}", type_=table.c[name].type) for name in names]
    is_known = sa.exists().where(*(table.c[name] == value for name, value in zip(names, given, strict=True)))
    return sa.insert(table).from_select([*names], sa.select(*given).where(~is_known))
