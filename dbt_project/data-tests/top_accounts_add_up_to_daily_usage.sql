{{ config(meta={"dagster": {"ref": {"name": "top_accounts_30d"}}}) }}
-- Every account with usage is ranked once, and the 30 days of all of them are those of daily_usage.
with last_days as (
    select max(days_through) as days_through from {{ ref('top_accounts_30d') }}
),

days as (
    select
        count(distinct daily.account_id) as account_count,
        sum(
            case
                when daily.usage_date between last_days.days_through - 29 and last_days.days_through then daily.calls
            end
        ) as calls
    from {{ ref('daily_usage') }} as daily
    cross join last_days
),

ranked as (
    select
        count(*) as account_count,
        sum(calls) as calls,
        max(volume_rank) as last_rank
    from {{ ref('top_accounts_30d') }}
)

select
    days.account_count as accounts_in_daily_usage,
    ranked.account_count as accounts_ranked,
    ranked.last_rank,
    days.calls as calls_in_daily_usage,
    ranked.calls as calls_ranked
from days
cross join ranked
where
    days.account_count <> ranked.account_count
    or coalesce(ranked.last_rank, 0) <> ranked.account_count
    or coalesce(days.calls, 0) <> coalesce(ranked.calls, 0)
