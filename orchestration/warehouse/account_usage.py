"""How much one account used on each day, of any of its meters: what `headroom usage` asks of the published copy."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from orchestration.usage.meters import meter_name
from orchestration.usage.periods import first_utc_day
from orchestration.usage.units import adds_up
from orchestration.warehouse import queries
from orchestration.warehouse.published_copy import NothingPublishedError, OutdatedCopyError, connected, rows_of


class UnknownMeterError(LookupError):
    """The account has no such meter."""


UNKNOWN = (queries.UnknownAccountError, UnknownMeterError, queries.NotKeptError)
"""Why a question has no answer; the messages say what to do."""


def usage(
    published: Path, name: str, start: date, end: date, zone: ZoneInfo, meter: str | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of utilization_mtd of an account, and its usage of the first of them on each day in `[start, end)` that
    had begun when it was built, zeros included.

    `name` is the account's id or, in any case of its letters, its id or name. The first row is that of `meter`, which
    is then the only one, else that of the main meter. `zone` is the business zone or UTC: the days are those of the one
    or the other. What does not add up is the figure at the end of each day, null before the first reading.

    :raises queries.UnknownAccountError: there is none, or more than one; the message names the nearest ones.
    :raises UnknownMeterError: the account has no such meter; the message names those that it has.
    :raises queries.NotKeptError: some of the days are not kept any more.
    :raises NothingPublishedError: an earlier version published the copy, without days of the business zone.
    """
    queries.must_have(published, first_utc_day(start, zone))
    with connected(published) as connection:
        account = queries.account_named(connection, name)
        meters = _meters(connection, account, meter)
        return meters, days_of(connection, published, meters[0], start, end, zone)


def days_of(
    connection: duckdb.DuckDBPyConnection,
    published: Path,
    row: Mapping[str, Any],
    start: date,
    end: date,
    zone: ZoneInfo,
) -> list[dict[str, Any]]:
    """The same days, of the account and meter of a row with `is_calls`. Whether they are kept is not checked.

    :raises NothingPublishedError: an earlier version published the copy, without days of the business zone.
    """
    as_of = row["as_of"].astimezone(zone).date()
    last = min(end - timedelta(days=1), as_of)
    days = [start + timedelta(days=number) for number in range((last - start).days + 1)]
    asked = {**{name: row[name] for name in ("account_id", "meter", "unit")}, "days": days, "as_of": as_of}
    if not adds_up(row["aggregation"]):
        ends = [datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC) for day in days]
        asked |= {
            "ends": [at.replace(tzinfo=None) for at in ends],
            "is_by_period": row["aggregation"] != "latest",
        }
        return rows_of(connection, READINGS_BY_DAY, asked)
    table, found = "daily_usage", ""
    if zone.key != "UTC":
        table, found = "daily_usage_business_zone", f"and daily.account_hash = {queries.account_hash('$account_id')}"
    asked |= {"is_calls": row["is_calls"]}
    try:
        return rows_of(connection, USAGE_BY_DAY.format(table=table, found=found), asked)
    except OutdatedCopyError as error:
        raise NothingPublishedError(
            f"{published} has no days of {zone.key} yet: `headroom run` counts them, and `--utc` shows UTC days"
        ) from error


def _meters(
    connection: duckdb.DuckDBPyConnection, account: Mapping[str, Any], meter: str | None
) -> list[dict[str, Any]]:
    rows = rows_of(connection, METERS, {"account_id": account["account_id"]})
    if meter is None:
        return rows
    if found := [row for row in rows if row["meter"] == meter_name(meter)]:
        return found
    known = ", ".join(row["meter"] for row in rows)
    raise UnknownMeterError(f"account {queries.listed([account])} has no meter {meter!r}, only {known}")


METERS = f"""
    select utilization.*, meters.unit_singular, coalesce(utilization.meter = ({queries.CALLS_METER}), false) as is_calls
    from utilization_mtd as utilization
    left join meters using (meter)
    where account_id = $account_id
    order by utilization.is_main desc, meter
"""


USAGE_COLUMNS = ("account_id", "meter", "usage_date", "calls", "units", "unit", "is_complete")
USAGE_BY_DAY = """
    select $account_id as account_id, $meter as meter, days.usage_date,
        case when $is_calls then coalesce(daily.calls, 0) end as calls,
        coalesce(daily.units, 0) as units, $unit as unit,
        days.usage_date < $as_of as is_complete
    from (select unnest($days::date[]) as usage_date) as days
    left join {table} as daily
        on daily.usage_date = days.usage_date and daily.account_id = $account_id and daily.meter = $meter
        {found}
    order by days.usage_date
"""
READINGS_BY_DAY = """
    select $account_id as account_id, $meter as meter, days.usage_date, null::bigint as calls,
        coalesce(
            (
                select arg_max(readings.used, readings.reading_number)
                from gauge_readings as readings
                where
                    readings.account_id = $account_id and readings.meter = $meter and readings.read_at < days.ends_at
                    -- what begins again in each usage period is of the one in which the day ends
                    and readings.period_start is not distinct from case when $is_by_period then (
                        select max(periods.period_start) from account_periods as periods
                        where periods.account_id = $account_id and periods.period_start < days.ends_at
                    ) end
            ),
            case when $is_by_period then 0 end
        ) as units, $unit as unit, days.usage_date < $as_of as is_complete
    from (select unnest($days::date[]) as usage_date, unnest($ends::timestamp[]) as ends_at) as days
    order by days.usage_date
"""
