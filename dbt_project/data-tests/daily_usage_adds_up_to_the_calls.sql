{{ config(meta={"dagster": {"ref": {"name": "daily_usage"}}}) }}
-- No call is lost or doubled on the way from the lake: the days that were counted again, and an old one with each
-- hour, add up to the distinct accepted calls; all others to the hours.
with calls as (
    select
        event_date as usage_date,
        sum(sample_weight) as calls,
        sum(units) as units
    from {{ ref('stg_api_calls') }}
    where
        {{ is_tested('event_date') }}
        and {{ is_counted_from_calls('event_date') }}
        -- what a concurrent run has ingested since is counted next time
        and batch <= {{ recount_plan().last_batch or 0 }}
    group by event_date
),

hours as (
    select
        usage_date,
        sum(calls) as calls,
        sum(units) as units
    from {{ ref('hourly_usage') }}
    where {{ is_of_calls('meter') }}
    group by usage_date
),

days as (
    select
        usage_date,
        sum(calls) as calls,
        sum(units) as units
    from {{ ref('daily_usage') }}
    where {{ is_of_calls('meter') }}
    group by usage_date
)

select
    coalesce(calls.usage_date, hours.usage_date, days.usage_date) as usage_date,
    calls.calls as calls_in_lake,
    hours.calls as calls_in_hourly_usage,
    days.calls as calls_in_daily_usage,
    calls.units as units_in_lake,
    hours.units as units_in_hourly_usage,
    days.units as units_in_daily_usage
from days
full outer join hours on days.usage_date = hours.usage_date
full outer join calls on coalesce(days.usage_date, hours.usage_date) = calls.usage_date
where
    coalesce(days.calls, 0) <> coalesce(hours.calls, 0)
    or coalesce(days.units, 0) <> coalesce(hours.units, 0)
    or (
        {{ is_tested('coalesce(calls.usage_date, hours.usage_date, days.usage_date)') }}
        and (
            coalesce(days.calls, 0) <> coalesce(calls.calls, 0)
            or coalesce(days.units, 0) <> coalesce(calls.units, 0)
        )
    )
