"""What the pages of many accounts ask of the published copy: columns of marts, a bounded number of rows at a time."""

from typing import Any

from orchestration.warehouse.queries import CALLS_METER

PAGE_ROWS = 50
CSV_ROWS = 50_000
"""Rows of a file at most."""
EXPORTED_ACCOUNTS = 5_000
"""That have a page in files unless more are asked for: those that come first in the table of accounts."""
MOST_CHOICES = 200
"""Values that a filter offers."""

ADVICE = (
    *("call_upgrade", "call_help", "help_first", "offer_upgrade", "renewal_talk", "tell_overage", "csm_check_in"),
    *("do_not_pitch", "watch", "none"),
)
"""In the order of the digest's groups (messages/groups.py): who needs somebody first."""
_URGENCY = "utilization.hits_cap_on nulls last, utilization.pct_of_cap desc nulls last"

SORTS = {
    "advice": f"list_position({list(ADVICE)}, advice.advice) nulls last, {_URGENCY}",
    "urgency": _URGENCY,
    "used": "utilization.used_mtd desc nulls last",
    "pct": "utilization.pct_of_cap desc nulls last",
    "name": "lower(coalesce(utilization.account_name, utilization.account_id))",
    "mrr": "utilization.mrr desc nulls last",
}
"""What a table of accounts can be sorted by. Nothing of a request becomes SQL."""

_ADVICE = """
    left join account_advice as advice
        on advice.account_id = utilization.account_id and advice.meter = utilization.meter
"""
_FILTERED = """
    where
        not utilization.is_internal and not utilization.is_test
        and ($q = '' or contains(lower(utilization.account_id), lower($q))
            or contains(lower(coalesce(utilization.account_name, '')), lower($q)))
        and ($segment = '' or utilization.segment = $segment)
        and ($owner = '' or lower(utilization.owner) = lower($owner) or lower(utilization.csm) = lower($owner))
        and ($plan = '' or utilization.plan = $plan)
        and ($advice = '' or (utilization.account_id, utilization.meter) in (
            select (advice.account_id, advice.meter) from account_advice as advice where advice.advice = $advice
        ))
        and ($meter = '' or utilization.meter = $meter)
"""

_ACCOUNTS_SEEN = f"""
    select utilization.account_id, utilization.account_name, utilization.meter, utilization.is_main, utilization.unit,
        utilization.segment, utilization.owner, utilization.plan, utilization.used_mtd, utilization.quota,
        utilization.pct_of_cap, utilization.ci95_pct, utilization.remaining, utilization.hits_cap_on,
        utilization.severity, utilization.period_end, utilization.mrr, advice.advice, advice.next_step, advice.reasons
    from (  -- a page first, by few columns; then its rows: a million accounts are not sorted with all of them
        select utilization.rowid as row_id
        from utilization_mtd as utilization {{joined}} {_FILTERED}
        order by {{sort}}, utilization.account_id, utilization.meter
        limit $limit offset $offset
    ) as seen
    join utilization_mtd as utilization on utilization.rowid = seen.row_id {_ADVICE}
    order by {{sort}}, utilization.account_id, utilization.meter
"""
ACCOUNTS_COUNTED = f"""
    select count(*) as rows,
        -- every account has the main meter, so without a filter of meters it is counted by that one
        case when $plan || $advice || $meter = '' then count(*) filter (utilization.is_main)
            else (
                select count(distinct utilization.account_id)
                from utilization_mtd as utilization {_FILTERED} and $plan || $advice || $meter <> ''
            )
        end as accounts
    from utilization_mtd as utilization {_FILTERED}
"""

CHOICES = """
    select kind, value from (
        select 'segment' as kind, segment as value from utilization_mtd
        union select 'owner', owner from utilization_mtd
        union select 'plan', plan from utilization_mtd
        union select 'meter', meter from utilization_mtd
        union select 'advice', advice from account_advice
    ) as choices
    where coalesce(value, '') <> ''
    qualify row_number() over (partition by kind order by value) <= $limit
    order by kind, value
"""

EXPORTED_METERS = f"""
    select
        utilization.account_id, utilization.account_name, utilization.meter, utilization.is_main, utilization.plan,
        utilization.owner, utilization.pct_of_cap, utilization.ci95_pct, utilization.severity, chosen.accounts
    from utilization_mtd as utilization
    join (
        select account_id, count(*) over () as accounts
        from (
            select utilization.account_id,
                row_number() over (order by {SORTS["advice"]}, utilization.account_id, utilization.meter) as place
            from utilization_mtd as utilization
            left join account_advice as advice
                on advice.account_id = utilization.account_id and advice.meter = utilization.meter
            where not utilization.is_internal and not utilization.is_test
        ) as ranked
        group by account_id
        order by min(place)
        limit $limit
    ) as chosen on chosen.account_id = utilization.account_id
    order by
        lower(coalesce(utilization.account_name, utilization.account_id)), utilization.account_id,
        utilization.is_main desc, utilization.meter
"""
"""By names, the meters of the accounts that come first, and how many accounts there are in all."""

UNKNOWN_ACCOUNTS = """
    select granted.account_id
    from (select unnest($accounts::varchar[]) as account_id) as granted
    anti join utilization_mtd as known on known.account_id = granted.account_id
"""
"""Of these accounts the ones that the figures know nothing of."""

MAIN_METER = "select meter from meters where is_main"

TOP = """
    select top.*, accounts.unit, accounts.plan
    from (
        select * from top_accounts_30d
        where meter = $meter
        order by volume_rank, account_id
        limit 20
    ) as top
    join utilization_mtd as accounts on accounts.account_id = top.account_id and accounts.meter = top.meter
    order by top.volume_rank, top.account_id
"""

CHANGED = f"""
    select changed.* exclude (row_id, place), utilization.account_name, utilization.owner, utilization.csm,
        utilization.mrr, advice.advice, advice.next_step as recommended_action,
        case when changed.meter = ({CALLS_METER}) then 'calls' else utilization.unit end as unit
    from (
        select changes.*, utilization.rowid as row_id, utilization.is_main,
            count(*) over (partition by changes.change_word) as of_word,
            row_number() over (
                partition by changes.change_word
                order by utilization.is_main desc, abs(changes.used - changes.used_week_before) desc,
                    changes.account_id, changes.meter
            ) as place
        from weekly_changes as changes
        join utilization_mtd as utilization
            on utilization.account_id = changes.account_id and utilization.meter = changes.meter
        where changes.change_word <> '' and not utilization.is_internal and not utilization.is_test
        qualify place <= $limit
    ) as changed
    join utilization_mtd as utilization on utilization.rowid = changed.row_id
    left join account_advice as advice on advice.account_id = changed.account_id and advice.meter = changed.meter
    order by changed.is_main desc, abs(changed.used - changed.used_week_before) desc, changed.account_id, changed.meter
"""
"""The largest of each kind, as queries.WEEKLY_CHANGES has all of them; and how many there are."""
WEEK = "select week_start from weekly_changes limit 1"

TOP_METERS = "select distinct meter from top_accounts_30d order by meter limit $limit"

RESOLVED = """
    select utilization.account_id, utilization.account_name, utilization.meter, utilization.is_main, advice.next_step
    from account_advice as advice
    join utilization_mtd as utilization
        on utilization.account_id = advice.account_id and utilization.meter = advice.meter
    where advice.situation = 'resolved' and not utilization.is_internal and not utilization.is_test
    order by utilization.account_id, utilization.meter
    limit $limit
"""

REJECTED_BY_REASON = """
    select reason, count(*) as lines, sum(lost_events)::bigint as lost_events, max(rejected_at) as last_at
    from events_rejected
    group by reason
    order by lines desc, reason
    limit 50
"""
UNMAPPED_IDS = "select * from unmapped_usage limit 50"
PARITY = """
    select state, count(*) as hours, sum(billable_units)::bigint as counted, sum(reported_units)::bigint as reported,
        sum(stripe_units)::bigint as at_stripe
    from billing_reconciliation_hourly
    group by state
    order by state
"""

ACCOUNT_USAGE = """
    select account_id, account_name, meter, is_main, unit, aggregation, period_start, period_end, plan, quota,
        limit_kind, used_mtd, remaining, pct_of_cap, ci95_pct, data_through, as_of
    from utilization_mtd
    where account_id = $account_id
    order by is_main desc, meter
"""
USAGE_AFTER = """
    select account_id, account_name, meter, is_main, unit, aggregation, period_start, period_end, plan, quota,
        limit_kind, used_mtd, remaining, pct_of_cap, ci95_pct, data_through, as_of
    from utilization_mtd
    -- every account has the main meter
    where account_id > $after and account_id <= (
        select max(account_id) from (
            select account_id from utilization_mtd where is_main and account_id > $after
            order by account_id limit $limit
        )
    )
    order by account_id, is_main desc, meter
"""
CUSTOMER_THRESHOLDS = """
    select threshold, threshold_pct, reached_at_units
    from period_thresholds
    where account_id = $account_id and meter = $meter and period_start = $period_start::timestamp
    order by reached_at_units
"""


def accounts_seen(sort: str) -> str:
    """The question of a table of accounts, sorted by one of SORTS.

    :raises KeyError: it cannot be sorted by that.
    """
    return _ACCOUNTS_SEEN.format(sort=SORTS[sort], joined=_ADVICE if "advice." in SORTS[sort] else "")


def filters(parameters: dict[str, Any]) -> dict[str, str]:
    """What a table of accounts is filtered by: empty values let everything through. The rest is not looked at."""
    return {name: str(parameters.get(name, ""))[:1024] for name in ("q", "segment", "owner", "plan", "advice", "meter")}
