{{ config(meta={"dagster": {"ref": {"name": "daily_usage"}}}) }}
-- Nothing is lost or doubled on the way from the lake: the hours that were counted again, and an old day with each
-- hour, are the sums of the accepted events; the hours of every day add up to it.
with events as (
    select
        meter,
        hour_start,
        sum(sample_weight) as weight,
        sum(units) as units
    from {{ ref('stg_meter_values') }}
    where
        {{ is_tested('event_date', 'lake_at', in_lake=true) }}
        and {{ adds_up('aggregation') }}
        and problem is null
        -- what a concurrent run has ingested since is counted next time
        and batch <= {{ recount_plan().last_batch or 0 }}
    group by meter, hour_start
),

hours as (
    select
        meter,
        usage_date,
        hour_start,
        sum(calls) as calls,
        sum(units) as units
    from {{ ref('hourly_usage') }}
    group by meter, usage_date, hour_start
),

days_of_hours as (
    select
        meter,
        usage_date,
        sum(calls) as calls,
        sum(units) as units
    from hours
    group by meter, usage_date
),

days as (
    select
        meter,
        usage_date,
        sum(calls) as calls,
        sum(units) as units
    from {{ ref('daily_usage') }}
    group by meter, usage_date
)

select
    coalesce(events.meter, hours.meter) as meter,
    coalesce(events.hour_start, hours.hour_start) as hour_start,
    events.weight as calls_before,
    hours.calls as calls_after,
    events.units as units_before,
    hours.units as units_after
from hours
full outer join events
    on
        hours.meter = events.meter
        and hours.hour_start = events.hour_start
where
    {{ is_tested(
        'coalesce(hours.usage_date, cast(events.hour_start as date))', 'coalesce(hours.hour_start, events.hour_start)'
    ) }}
    and (
        coalesce(hours.units, 0) <> coalesce(events.units, 0)
        or hours.calls <> events.weight
        or (hours.meter is null) <> (events.meter is null)
    )

union all

select
    coalesce(days.meter, hours.meter) as meter,
    {{ midnight('coalesce(days.usage_date, hours.usage_date)') }} as hour_start,
    hours.calls as calls_before,
    days.calls as calls_after,
    hours.units as units_before,
    days.units as units_after
from days
full outer join days_of_hours as hours
    on
        days.meter = hours.meter
        and days.usage_date = hours.usage_date
where
    coalesce(days.calls, 0) <> coalesce(hours.calls, 0)
    or coalesce(days.units, 0) <> coalesce(hours.units, 0)
