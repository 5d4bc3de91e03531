{{ config(meta={"dagster": {"ref": {"name": "daily_usage_by_endpoint"}}}) }}
-- Two counts of the same calls, made one after the other: on the days that were counted again, and on an old one with
-- each hour, they agree for each account.
with endpoints as (
    select
        account_id,
        usage_date,
        sum(calls) as calls
    from {{ ref('daily_usage_by_endpoint') }}
    where {{ is_tested_day('usage_date') }}
    group by account_id, usage_date
),

days as (
    select
        account_id,
        usage_date,
        calls
    from {{ ref('daily_usage') }}
    where
        {{ is_tested_day('usage_date') }}
        and {{ is_of_calls('meter') }}
)

select
    coalesce(days.account_id, endpoints.account_id) as account_id,
    coalesce(days.usage_date, endpoints.usage_date) as usage_date,
    days.calls as calls_in_daily_usage,
    endpoints.calls as calls_in_daily_usage_by_endpoint
from days
full outer join endpoints
    on
        days.account_id = endpoints.account_id
        and days.usage_date = endpoints.usage_date
where
    {{ is_counted_from_calls('coalesce(days.usage_date, endpoints.usage_date)') }}
    and coalesce(days.calls, 0) <> coalesce(endpoints.calls, 0)
