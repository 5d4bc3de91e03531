"""The questions that messages, pages and commands ask of the published copy. They select columns of marts; nothing here
computes a figure. What Stripe is billed by is asked in `billing/usage_query.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.warehouse.digest_query import DIGEST_ACCOUNTS
from orchestration.warehouse.published_copy import connected, query, query_kept, rows_of


class UnknownAccountError(LookupError):
    """No account, or more than one, goes by that name."""


class NotKeptError(LookupError):
    """Calls of that day are not kept any more: nobody knows what was used."""


def data_quality(published: Path) -> dict[str, Any]:
    """The one row of the mart of that name, from the published copy."""
    [row] = query_kept(published, DATA_QUALITY)
    return dict(row)


def calls_meter(published: Path) -> str | None:
    """The meter that counts calls; None without one, or without a call."""
    [row] = query_kept(published, f"select ({CALLS_METER}) as meter")
    return str(row["meter"]) if row["meter"] is not None else None


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


def daily_usage(published: Path, accounts: Iterable[str]) -> dict[tuple[str, str], list[int]]:
    """Usage on each of the last 14 complete UTC days, by account and meter, of those of these accounts that had any."""
    rows = query(published, DAILY_USAGE, {"accounts": sorted(set(accounts))})
    return {(row["account_id"], row["meter"]): row["used"] for row in rows}


def account_named(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, Any]:
    """The row of utilization_mtd, of the main meter, of the account of that id or name.

    :raises UnknownAccountError: there is none, or more than one; the message names the nearest ones.
    """
    rows = rows_of(connection, ACCOUNTS_NAMED, {"name": name})
    found = [row for row in rows if row["account_id"] == name] or rows
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownAccountError(f"{len(found):,} accounts are called {name!r}; give an id: {listed(found)}")
    nearest = rows_of(connection, ACCOUNTS_NEAREST, {"name": name})
    advice = f"the nearest: {listed(nearest)}" if nearest else "there are no accounts yet"
    raise UnknownAccountError(f"there is no account {name!r}; {advice}")


def billed_customers(published: Path, name: str) -> list[str]:
    """The Stripe customers that `name` stands for: one of these itself, or those of an account, by its id or name.

    :raises UnknownAccountError: there is none, or the account has none; the message says what to do.
    """
    with connected(published) as connection:
        if rows_of(connection, CUSTOMERS_OF, {"account_id": None, "customer": name}):
            return [name]
        account = account_named(connection, name)
        rows = rows_of(connection, CUSTOMERS_OF, {"account_id": account["account_id"], "customer": None})
    if not rows:
        raise UnknownAccountError(
            f"account {listed([account])} has no Stripe customer: its usage is counted and not billed. Name one in the"
            " accounts file (stripe_customer_id), or in the customers file"
        )
    return [row["stripe_customer_id"] for row in rows]


def account_hash(account: str) -> str:
    """SQL: column account_hash of an account, or customer_hash, as dbt's macro of that name makes it.

    With it, a question about one account reads the hours of a million others in a twelfth of the time.
    """
    return f"cast(cast('0x' || left(md5({account}), 8) as bigint) - 2147483648 as integer)"


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
        utilization.limit_kind, utilization.is_main, utilization.aggregation, utilization.forecast_method,
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


CALLS_METER = "select any_value(meter) from top_accounts_30d where calls is not null"
"""The meter that counts calls, the one of which marts have `calls`; null without one, or without a call."""


ROUTE_FACTS = """
    select
        utilization.account_id, utilization.meter, utilization.account_name, utilization.segment, utilization.owner,
        utilization.csm, utilization.contact_email, utilization.slack_channel, utilization.plan,
        utilization.limit_kind, advice.advice,
        utilization.is_trial, utilization.is_internal, utilization.is_test
    from utilization_mtd as utilization
    join account_advice as advice using (account_id, meter)
    where list_contains($accounts, utilization.account_id)
"""
"""What routes filter by and address, of these accounts."""


TOP_VALUES = f"""
    select account_id, meter, property, value, sum(used)::bigint as used,
        sum(sum(used)) over (partition by account_id, meter, property)::bigint as all_used
    from (
        select account_id, ({CALLS_METER}) as meter, 'endpoint' as property, endpoint as value, usage_date,
            calls as used
        from daily_usage_by_endpoint
        where calls > 0
        union all
        select account_id, meter, property, value, usage_date, units as used
        from daily_usage_by_property
        where meter is distinct from ({CALLS_METER})
    ) as parts
    where
        usage_date > (
            select least(max(days.last_date), (select cast(as_of as date) from data_quality)) from (
                select max(usage_date) as last_date from daily_usage_by_endpoint where calls > 0
                union all
                select max(usage_date) from daily_usage_by_property
            ) as days
        ) - 7
        and usage_date <= (select cast(as_of as date) from data_quality)
        and (account_id, meter) in (select (account_id, meter) from threshold_crossings where is_in_digest)
    group by account_id, meter, property, value
    qualify row_number() over (partition by account_id, meter, property order by sum(used) desc, value) <= 3
    order by account_id, meter, property, used desc, value
"""


USED_BY = """
    select account_id, account_name, meter, is_main, unit, period_start, quota, used_mtd as used, pct_of_cap
    from utilization_mtd
    where account_id in (select unnest($accounts::varchar[])) and not is_internal and not is_test
    order by account_id, meter
"""


DAILY_USAGE = """
    -- whatever a call is worth, a customer is there who calls
    select daily.account_id, daily.meter,
        list(coalesce(daily.calls, daily.units) order by daily.usage_date) as used
    from daily_usage as daily
    cross join (select cast(as_of as date) as today from data_quality) as quality
    -- complete days: a bar of the morning's usage would look like a drop
    where
        daily.usage_date >= quality.today - 14 and daily.usage_date < quality.today
        and daily.account_id in (select unnest($accounts::varchar[]))
    group by daily.account_id, daily.meter
"""


PERIOD_DAYS = """
    select hours.account_id, hours.meter, list(hours.units order by hours.utc_day) as units,
        list(hours.utc_day order by hours.utc_day) as days
    from (
        select usage.account_id, usage.meter, cast(usage.hour_start as date) as utc_day,
            sum(usage.units)::bigint as units
        from hourly_usage as usage
        join utilization_mtd as counted using (account_id, meter)
        where
            list_contains($accounts, usage.account_id) and usage.hour_start >= counted.period_start
            and usage.hour_start < least(date_trunc('day', counted.as_of), counted.period_end)
        group by usage.account_id, usage.meter, utc_day
    ) as hours
    group by hours.account_id, hours.meter
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


WEEKLY_CHANGES = f"""
    select changes.*, accounts.is_main, accounts.account_name, accounts.owner, accounts.csm, accounts.mrr,
        case when changes.meter = ({CALLS_METER}) then 'calls' else accounts.unit end as unit,
        advice.advice, advice.next_step as recommended_action
    from weekly_changes as changes
    join utilization_mtd as accounts using (account_id, meter)
    left join account_advice as advice using (account_id, meter)
    where not accounts.is_internal and not accounts.is_test
    order by accounts.is_main desc, abs(changes.used - changes.used_week_before) desc, changes.account_id, changes.meter
"""


CAP_HITS = """
    select outcomes.*, accounts.is_main, accounts.unit, accounts.account_name, accounts.owner, accounts.mrr,
        accounts.recommended_action
    from cap_hit_outcomes as outcomes
    join utilization_mtd as accounts using (account_id, meter)
    where not accounts.is_internal and not accounts.is_test
    order by accounts.mrr desc nulls last, accounts.is_main desc, outcomes.used desc, outcomes.account_id,
        outcomes.meter
"""


ALERT_OUTCOMES = """
    select outcomes.*
    from alert_outcomes as outcomes
    join utilization_mtd as accounts using (account_id, meter)
    where not accounts.is_internal and not accounts.is_test
    order by outcomes.alerted_at, outcomes.account_id, outcomes.meter
"""


ACCOUNTS_NAMED = """
    select * from utilization_mtd
    where rowid in (  -- the names of all first, and then the other columns of the one
        select rowid from utilization_mtd
        where
            is_main
            and (account_id = $name or lower(account_id) = lower($name) or lower(account_name) = lower($name))
    )
    order by account_id
"""


ACCOUNTS_NEAREST = """
    select account_id, account_name
    from utilization_mtd, (select lower($name)) as given (name)
    where is_main
    order by
        not contains(lower(account_id), name) and not contains(lower(coalesce(account_name, '')), name),
        greatest(
            jaro_winkler_similarity(lower(account_id), name),
            jaro_winkler_similarity(lower(coalesce(account_name, '')), name)
        ) desc,
        account_id
    limit 3
"""


DATA_QUALITY = "select * from data_quality"


THRESHOLD_RULES = "select * from thresholds"
PLAN_RULES = "select * from plans"
TIER_RULES = "select * from plan_tiers"
ROUTING_RULES = "select * from routing"
METER_RULES = "select * from meters"


ADVISED = """
    select
        utilization.account_id, utilization.account_name, utilization.meter, utilization.is_main,
        utilization.severity, advice.advice, advice.next_step
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


def listed(rows: Sequence[Mapping[str, Any]]) -> str:
    """The first ten of these accounts, by id and name."""
    names = [
        f"{row['account_id']} ({row['account_name']})" if row["account_name"] else row["account_id"] for row in rows
    ]
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
