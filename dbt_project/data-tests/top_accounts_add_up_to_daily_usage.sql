{{ config(meta={"dagster": {"ref": {"name": "top_accounts_30d"}}}) }}
-- Every account with usage is ranked once, and the 30 days of all of them are those of daily_usage.
with last_days as (
    select
        meter,
        max(days_through) as days_through
    from {{ ref('top_accounts_30d') }}
    group by meter
),

days as (
    select
        daily.meter as meter,
        count(distinct daily.account_id) as account_count,
        sum(
            case
                when daily.usage_date between last_days.days_through - 29 and last_days.days_through
                    then coalesce(daily.calls, daily.units)
            end
        ) as used
    from {{ ref('daily_usage') }} as daily
    left join last_days on daily.meter = last_days.meter
    group by daily.meter
),

ranked as (
    select
        meter,
        count(*) as account_count,
        sum(used) as used,
        max(volume_rank) as last_rank
    from {{ ref('top_accounts_30d') }}
    group by meter
)

select
    coalesce(days.meter, ranked.meter) as meter,
    days.account_count as accounts_in_daily_usage,
    ranked.account_count as accounts_ranked,
    ranked.last_rank,
    days.used as used_in_daily_usage,
    ranked.used as used_ranked
from days
full outer join ranked on days.meter = ranked.meter
where
    coalesce(days.account_count, 0) <> coalesce(ranked.account_count, 0)
    or coalesce(ranked.last_rank, 0) <> ranked.account_count
    or coalesce(days.used, 0) <> coalesce(ranked.used, 0)
