-- Counted like hourly_usage, and after it: macros/recount.sql.
-- depends_on: {{ ref('hourly_usage_by_property') }}
{{ config(
    materialized="incremental",
    incremental_strategy="append",
    on_schema_change="fail",
    pre_hook=["{{ mark_recount() }}", "{{ delete_recounted() }}"],
) }}

with events as (
    select * from {{ ref('stg_meter_values') }}
    where
        {{ is_recounted('event_date', 'lake_at', in_lake=true) }}
        -- what a concurrent run ingests meanwhile is counted next time, with all of its hours
        and batch <= {{ recount_plan().last_batch or 0 }}
),

-- In the order of the hour: what was read before, and what comes after.
readings as (
    select
        *,
        lag(steps) over (
            partition by account_id, meter, hour_start order by event_at, ingested_at, event_id, source
        ) as steps_before,
        max(steps) over (
            partition by account_id, meter, hour_start order by event_at, ingested_at, event_id, source
            rows between unbounded preceding and 1 preceding
        ) as highest_before,
        row_number() over (
            partition by account_id, meter, hour_start
            order by event_at desc, ingested_at desc, event_id desc, source desc
        ) as place_from_end,
        row_number() over (
            partition by account_id, meter, hour_start order by event_at, ingested_at, event_id, source
        ) as place
    from events
    where
        problem is null
        and aggregation in ('latest', 'max')
),

sightings as (
    select
        *,
        row_number() over (
            partition by account_id, meter, hour_start, sent_value order by event_at, ingested_at, event_id, source
        ) as place
    from events
    where
        problem is null
        and aggregation = 'unique'
),

kept as (
    select
        account_id,
        meter,
        aggregation,
        event_date,
        hour_start,
        event_at,
        ingested_at,
        source,
        event_id,
        steps as used,
        cast(null as varchar) as sent_value,
        cast(null as varchar) as problem
    from readings
    where
        place = 1
        or (aggregation = 'latest' and (steps <> steps_before or place_from_end = 1))
        or (aggregation = 'max' and steps > highest_before)

    union all

    select
        account_id,
        meter,
        aggregation,
        event_date,
        hour_start,
        event_at,
        ingested_at,
        source,
        event_id,
        cast(null as bigint) as used,
        sent_value,
        cast(null as varchar) as problem
    from sightings
    where place = 1

    union all

    select
        account_id,
        meter,
        aggregation,
        event_date,
        hour_start,
        event_at,
        ingested_at,
        source,
        event_id,
        cast(null as bigint) as used,
        sent_value,
        problem
    from events
    where problem is not null
),

final as (
    select
        account_id,
        meter,
        aggregation,
        event_date as usage_date,
        hour_start,
        event_at,
        ingested_at,
        source,
        event_id,
        used,
        sent_value,
        problem
    from kept
)

select * from final
