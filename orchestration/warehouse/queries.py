"""The questions that messages, pages and commands ask of the published copy. They select columns of marts; nothing here
computes a figure. What Stripe is billed by is asked in `billing/usage_query.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from orchestration.usage.periods import first_utc_day
from orchestration.warehouse.digest_query import DIGEST_ACCOUNTS
from orchestration.warehouse.published_copy import NothingPublishedError, connected, query, rows_of


class UnknownAccountError(LookupError):
    """No account, or more than one, goes by that name."""


class NotKeptError(LookupError):
    """Calls of that day are not kept any more: nobody knows what was used."""


def data_quality(published: Path) -> dict[str, Any]:
    """The one row of the mart of that name, from the published copy."""
    [row] = query(published, DATA_QUALITY)
    return row


def kept_from(published: Path) -> date:
    """The first UTC day that there are figures of."""
    return data_quality(published).get("kept_from") or date.min


def must_have(published: Path, day: date) -> None:
    """There are figures of that UTC day.

    :raises NotKeptError: there are not; the message says what to do.
    """
    if day < (first := kept_from(published)):
        raise NotKeptError(
            f"calls before {first} are not kept (HEADROOM_LAKE_KEEP_DAYS), so usage for {day} is no longer"
            " available. Ask for later days, or restore a backup with that day into another HEADROOM_DATA and ask"
            " there"
        )


def digest_accounts(
    published: Path, since: datetime, dormant_since: datetime | None = None, named: int | None = None
) -> list[dict[str, Any]]:
    """The accounts that a digest may speak of, with their units since the hour of `since`.

    Of the dormant ones those that became so from `dormant_since` on; None: all. Of those of which only a decline is
    said so many as are `named`, the largest revenue first; None: all. Each row says how many are `left_out`.
    """
    moments = {"since": since, "dormant_since": dormant_since}
    naive = {name: at.astimezone(UTC).replace(tzinfo=None) if at else None for name, at in moments.items()}
    return query(published, DIGEST_ACCOUNTS, {**naive, "named": named})


def daily_calls(published: Path, accounts: Iterable[str]) -> dict[str, list[int]]:
    """Calls on each of the last 14 complete UTC days, by account, of those of these accounts that had any."""
    rows = query(published, DAILY_CALLS, {"accounts": sorted(set(accounts))})
    return {row["account_id"]: row["calls"] for row in rows}


def usage(
    published: Path, name: str, start: date, end: date, zone: ZoneInfo
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of utilization_mtd of an account, that of its calls first, and its calls on each day in `[start, end)`
    that had begun when it was built, zeros included.

    `name` is the account's id or, in any case of its letters, its id or name. `zone` is the business zone or UTC: the
    days are those of the one or the other.

    :raises UnknownAccountError: there is none, or more than one; the message names the nearest ones.
    :raises NotKeptError: some of the days are not kept any more.
    :raises NothingPublishedError: an earlier version published the copy, without days of the business zone.
    """
    must_have(published, first_utc_day(start, zone))
    days = USAGE_BY_DAY.format(table="daily_usage" if zone.key == "UTC" else "daily_usage_business_zone")
    with connected(published) as connection:
        account = _account(connection, name)
        as_of = account["as_of"].astimezone(zone).date()
        parameters = {"account_id": account["account_id"], "as_of": as_of, "start": start, "end": end}
        meters = rows_of(connection, METERS, {"account_id": account["account_id"]})
        try:
            return meters, rows_of(connection, days, parameters)
        except duckdb.CatalogException as error:
            raise NothingPublishedError(
                f"{published} has no days of {zone.key} yet: `headroom run` counts them, and `--utc` shows UTC days"
            ) from error


def _account(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, Any]:
    rows = rows_of(connection, ACCOUNTS_NAMED, {"name": name})
    found = [row for row in rows if row["account_id"] == name] or rows
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownAccountError(f"{len(found):,} accounts are called {name!r}; give an id: {_listed(found)}")
    nearest = rows_of(connection, ACCOUNTS_NEAREST, {"name": name})
    advice = f"the nearest: {_listed(nearest)}" if nearest else "there are no accounts yet"
    raise UnknownAccountError(f"there is no account {name!r}; {advice}")


def billed_customers(published: Path, name: str) -> list[str]:
    """The Stripe customers that `name` stands for: one of these itself, or those of an account, by its id or name.

    :raises UnknownAccountError: there is none, or the account has none; the message says what to do.
    """
    with connected(published) as connection:
        if rows_of(connection, CUSTOMERS_OF, {"account_id": None, "customer": name}):
            return [name]
        account = _account(connection, name)
        rows = rows_of(connection, CUSTOMERS_OF, {"account_id": account["account_id"], "customer": None})
    if not rows:
        raise UnknownAccountError(
            f"account {_listed([account])} has no Stripe customer: its usage is counted and not billed. Name one in the"
            " accounts file (stripe_customer_id), or in the customers file"
        )
    return [row["stripe_customer_id"] for row in rows]


UTILIZATION = """
    select * from utilization_mtd
    where severity <> 'ok'
    order by hits_cap_on nulls last, pct_of_cap desc nulls last, mrr desc nulls last, account_id, meter
"""


CROSSINGS = """
    select
        crossings.account_id, crossings.meter, crossings.unit, crossings.period_start, crossings.period_end,
        crossings.threshold, crossings.crossed_at, crossings.cause, crossings.quota, crossings.used,
        crossings.pct_of_cap, crossings.pace_matters, utilization.ci95_pct,
        case when crossings.period_start = utilization.period_start then utilization.severity
            else crossings.severity end as severity,
        utilization.account_name, utilization.owner, utilization.plan, utilization.mrr, utilization.renewal_on,
        utilization.limit_kind,
        utilization.projected_eom, utilization.hits_cap_on, utilization.hits_cap_in_period,
        crossings.period_start = utilization.period_start as is_current_period
    from threshold_crossings as crossings
    join utilization_mtd as utilization using (account_id, meter)
    where
        crossings.is_in_digest and not utilization.is_internal and not utilization.is_test
        -- when the snooze is over, they are news
        and coalesce(utilization.snoozed_until <= cast(utilization.as_of as date), true)
    order by account_id, meter, crossings.period_start, crossings.quota, crossings.threshold
"""


TOP_ENDPOINTS = """
    select account_id, endpoint, sum(calls)::bigint as calls,
        sum(sum(calls)) over (partition by account_id)::bigint as all_calls
    from daily_usage_by_endpoint
    where
        usage_date > (
            select least(max(usage_date), (select cast(as_of as date) from data_quality)) from daily_usage_by_endpoint
        ) - 7
        and usage_date <= (select cast(as_of as date) from data_quality)
        and account_id in (select account_id from threshold_crossings where is_in_digest and meter = 'api-calls')
    group by account_id, endpoint
    qualify row_number() over (partition by account_id order by sum(calls) desc, endpoint) <= 3
    order by account_id, calls desc, endpoint
"""


USED_BY = """
    select account_id, account_name, meter, period_start, quota, used_mtd as used, pct_of_cap
    from utilization_mtd
    where account_id in (select unnest($accounts::varchar[])) and not is_internal and not is_test
    order by account_id, meter
"""


DAILY_CALLS = """
    select daily.account_id, list(daily.calls order by daily.usage_date) as calls
    from daily_usage as daily
    cross join (select cast(as_of as date) as today from data_quality) as quality
    -- complete days: a bar of the morning's calls would look like a drop
    where
        daily.usage_date >= quality.today - 14 and daily.usage_date < quality.today
        and daily.account_id in (select unnest($accounts::varchar[]))
    group by daily.account_id
"""


PERIOD_DAYS = """
    select hours.account_id, list(hours.units order by hours.utc_day) as units,
        list(hours.utc_day order by hours.utc_day) as days
    from (
        select usage.account_id, cast(usage.hour_start as date) as utc_day, sum(usage.units)::bigint as units
        from hourly_usage as usage
        join utilization_mtd as counted on counted.account_id = usage.account_id and counted.meter = 'api-calls'
        where
            list_contains($accounts, usage.account_id) and usage.hour_start >= counted.period_start
            and usage.hour_start < least(date_trunc('day', counted.as_of), counted.period_end)
        group by usage.account_id, utc_day
    ) as hours
    group by hours.account_id
"""


CRITICAL_HARD_LIMITS = """
    select account_id, meter, advice.advice, advice.next_step as recommended_action
    from utilization_mtd as utilization
    join account_advice as advice using (account_id, meter)
    where
        utilization.severity = 'critical' and utilization.limit_kind = 'hard'
        -- what is served past its limit is not refused
        and advice.reasons not like '%served_past_limit%'
"""


WEEKLY_CHANGES = """
    select changes.*, accounts.account_name, accounts.owner, accounts.csm, accounts.mrr,
        advice.advice, advice.next_step as recommended_action
    from weekly_changes as changes
    join utilization_mtd as accounts on accounts.account_id = changes.account_id and accounts.meter = 'api-calls'
    left join account_advice as advice on advice.account_id = changes.account_id and advice.meter = 'api-calls'
    where not accounts.is_internal and not accounts.is_test
    order by abs(changes.calls - changes.calls_week_before) desc, changes.account_id
"""


CAP_HITS = """
    select outcomes.*, accounts.account_name, accounts.owner, accounts.mrr, accounts.recommended_action
    from cap_hit_outcomes as outcomes
    join utilization_mtd as accounts on accounts.account_id = outcomes.account_id and accounts.meter = 'api-calls'
    where not accounts.is_internal and not accounts.is_test
    order by accounts.mrr desc nulls last, outcomes.used desc, outcomes.account_id
"""


ACCOUNTS_NAMED = """
    select * from utilization_mtd
    where
        meter = 'api-calls'
        and (account_id = $name or lower(account_id) = lower($name) or lower(account_name) = lower($name))
    order by account_id
"""


METERS = """
    select * from utilization_mtd where account_id = $account_id order by meter <> 'api-calls', meter
"""


ACCOUNTS_NEAREST = """
    select account_id, account_name
    from utilization_mtd, (select lower($name)) as given (name)
    where meter = 'api-calls'
    order by
        not contains(lower(account_id), name) and not contains(lower(coalesce(account_name, '')), name),
        greatest(
            jaro_winkler_similarity(lower(account_id), name),
            jaro_winkler_similarity(lower(coalesce(account_name, '')), name)
        ) desc,
        account_id
    limit 3
"""


USAGE_COLUMNS = ("account_id", "usage_date", "calls", "units", "is_complete")
USAGE_BY_DAY = """
    select $account_id as account_id, days.usage_date, coalesce(daily.calls, 0) as calls,
        coalesce(daily.units, 0) as units,
        days.usage_date < $as_of as is_complete
    from (
        select cast(unnest(generate_series($start, least($end - 1, $as_of), interval 1 day)) as date) as usage_date
    ) as days
    left join {table} as daily on daily.usage_date = days.usage_date and daily.account_id = $account_id
    order by days.usage_date
"""


DATA_QUALITY = "select * from data_quality"


THRESHOLD_RULES = "select * from thresholds"
PLAN_RULES = "select * from plans"
TIER_RULES = "select * from plan_tiers"
ROUTING_RULES = "select * from routing"


ADVISED = """
    select
        utilization.account_id, utilization.account_name, utilization.meter, utilization.severity, advice.advice,
        advice.next_step
    from utilization_mtd as utilization
    left join account_advice as advice using (account_id, meter)
    where not utilization.is_internal and not utilization.is_test
    order by utilization.account_id, utilization.meter
"""


CUSTOMERS_OF = """
    select distinct stripe_customer_id
    from (
        select account_id, stripe_customer_id from stg_customers
        union all
        select account_id, stripe_customer_id from stg_accounts
    ) as customers
    where stripe_customer_id is not null and (account_id = $account_id or stripe_customer_id = $customer)
    order by stripe_customer_id
"""


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [
        f"{row['account_id']} ({row['account_name']})" if row["account_name"] else row["account_id"] for row in rows
    ]
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
