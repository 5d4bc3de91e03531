"""First reports, of hours that the ledger has nothing of: all of a first plan, and later all of each new hour.

The engine that has the usage makes them by the million, and only those about which there is nothing to decide. What is
late, large or not positive, and whatever is of an hour with reports, is for metering.py.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.billing.approval import LARGE_HOUR
from orchestration.billing.metering import HORIZON, Mode, ReportState, Terms
from orchestration.billing.report_rows import FirstReport

ROWS = 10_000
"""Read at a time."""


class FirstReports:
    """Those of the usage that a connection to the published copy has, by the terms of one plan."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, terms: Terms, sampled: int, days: Collection[date], end: datetime
    ) -> None:
        """Of those UTC days, and of hours before `end`: later ones are not closed. Units of sampled calls count
        `sampled` times.
        """
        self.state = ReportState.PREVIEWED if terms.is_preview else ReportState.PREPARED
        self._connection, horizon = connection, terms.now - HORIZON
        self._register("open_since", terms.final_before.keys(), map(_naive, terms.final_before.values()), _MOMENT)
        moments = {"horizon": horizon, "others_since": terms.others_final_before or horizon, "end": end}
        bounds = {name: _naive(moment) for name, moment in moments.items()}
        connection.execute(HOURS, {**bounds, "sampled": sampled, "largest": LARGE_HOUR - 1, "days": list(days)})
        self._names = {"name": f"{terms.env}|{terms.event_name}|", "is_total": terms.mode is Mode.TOTAL}

    def by_customer(self, recorded: Collection[datetime]) -> Iterator[tuple[str, int, int]]:
        """(Customer, its hours, their units), without the hours that have reports."""
        yield from self._rows(BY_CUSTOMER, recorded)

    def by_day(self, recorded: Collection[datetime]) -> Iterator[tuple[str, date, int]]:
        """(Customer, UTC day, units), as before."""
        yield from self._rows(BY_DAY, recorded)

    def number(self, customers: Mapping[str, int]) -> None:
        """By what numbers the ledger knows customers: all that have first reports."""
        self._register("customer_numbers", customers.keys(), customers.values(), pa.int64())

    def of_day(self, day: date, recorded: Collection[datetime]) -> Iterator[list[FirstReport]]:
        """The reports of a day, in the order of their hours and customers, some of them at a time."""
        found = self._connection.execute(REPORTS, {"day": day, "recorded": _all_naive(recorded), **self._names})
        while rows := found.fetchmany(ROWS):
            yield rows

    def others(self, day: date, recorded: Collection[datetime]) -> list[tuple[str, datetime, int]]:
        """(Customer, hour, units) of all other hours of a day with usage."""
        found = self._connection.execute(OTHERS, {"day": day, "recorded": _all_naive(recorded)}).fetchall()
        return [(customer, hour.replace(tzinfo=UTC), units) for customer, hour, units in found]

    def _rows(self, sql: str, recorded: Collection[datetime]) -> Iterator[tuple[Any, ...]]:
        found = self._connection.execute(sql, {"recorded": _all_naive(recorded)})
        while rows := found.fetchmany(ROWS):
            yield from rows

    def _register(self, name: str, customers: Iterable[str], values: Iterable[object], kind: pa.DataType) -> None:
        columns = {"stripe_customer_id": pa.array(customers, pa.string()), "value": pa.array(values, kind)}
        self._connection.register(f"headroom_{name}", pa.table(columns))


_MOMENT = pa.timestamp("us")


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _all_naive(moments: Iterable[datetime]) -> list[datetime]:
    return [_naive(moment) for moment in moments]


# Made once of all days: each of them is asked for several times.
HOURS = """
    create or replace temp table headroom_hours as
    select
        hours.*,
        cast(hours.hour_start as date) as day,
        hours.units between 1 and $largest
        and hours.hour_start >= greatest($horizon, coalesce(open_since.value, $others_since)) as is_ordinary
    from (
        select
            stripe_customer_id, hour_start, cast(sum(billable_units + $sampled * sampled_units) as bigint) as units
        from billable_usage_hourly
        where
            stripe_customer_id is not null and hour_start < $end
            and list_contains(cast($days as date[]), cast(hour_start as date))
        group by stripe_customer_id, hour_start
    ) as hours
    left join headroom_open_since as open_since on hours.stripe_customer_id = open_since.stripe_customer_id
    order by hour_start, hours.stripe_customer_id
"""
_IS_FIRST = "(hours.is_ordinary and not list_contains(cast($recorded as timestamp[]), hours.hour_start))"


BY_CUSTOMER = f"""
    select stripe_customer_id, count(*) as hours, cast(sum(units) as bigint) as units
    from headroom_hours as hours where {_IS_FIRST}
    group by stripe_customer_id
"""


BY_DAY = f"""
    select stripe_customer_id, day, cast(sum(units) as bigint) as units
    from headroom_hours as hours where {_IS_FIRST}
    group by stripe_customer_id, day
"""


OTHERS = f"""
    select stripe_customer_id, hour_start, units from headroom_hours as hours
    where hours.day = $day and not {_IS_FIRST}
"""


# The identifier is metering.identifier_of a first revision.
REPORTS = f"""
    select
        epoch_us(hours.hour_start) // 3600000000 as hour,
        numbers.value as customer,
        hours.units,
        hours.units as value,
        unhex(left(sha256(concat(
            $name, hours.stripe_customer_id, strftime(hours.hour_start, '|%Y-%m-%dT%H:%M:%S+00:00|1'),
            case when $is_total then '|' || hours.units else '' end
        )), 40)) as identifier
    from headroom_hours as hours
    inner join headroom_customer_numbers as numbers on hours.stripe_customer_id = numbers.stripe_customer_id
    where hours.day = $day and {_IS_FIRST}
    order by hour, customer
"""
