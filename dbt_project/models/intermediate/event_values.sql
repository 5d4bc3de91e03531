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
        -- what adds up is in hourly_usage
        and (not {{ adds_up('aggregation') }} or problem is not null)
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
            partition by account_id, meter, hour_start, sent_value order by event_at, ingested_at, event_id, source
        ) as place_of_value,
        row_number() over (
            partition by account_id, meter, hour_start order by event_at, ingested_at, event_id, source
        ) as place
    from events
    where problem is null
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
        steps as used,
        case when aggregation = 'unique' then sent_value end as sent_value,
        problem
    from readings
    where
        (aggregation = 'unique' and place_of_value = 1)
        or (aggregation = 'max' and (place = 1 or steps > highest_before))
        or (aggregation = 'latest' and (place = 1 or steps <> steps_before or place_from_end = 1))

    union all

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
        cast(null as bigint) as used,
        sent_value,
        problem
    from events
    where problem is not null
)

select * from final
