-- Only hours that a build has to count again are read, and each is replaced as a whole: macros/recount.sql.
{% set is_next_day = "false" -%}
{% if business_days_split_hours() -%}
    {% set is_next_day = business_date("event_at") ~ " > " ~ business_date("hour_start") -%}
{% endif -%}
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
        and {{ adds_up('aggregation') }}
        and problem is null
),

counted as (
    select
        account_id,
        meter,
        event_date as usage_date,
        hour_start,
        cast(count(*) as bigint) as events,
        cast(sum(sample_weight) as bigint) as calls,
        cast(sum(units) as bigint) as units,
        cast(sum(case when sample_weight = 1 then units else 0 end) as bigint) as billable_units,
        cast(sum(case when sample_weight > 1 then sample_weight else 0 end) as bigint) as sampled_calls,
        cast(sum(case when sample_weight > 1 then units else 0 end) as bigint) as sampled_units,
        {{ sampling_variance('sample_weight', 'endpoint_weight * steps') }} as sampling_variance,
        cast(sum(case when ingested_at >= {{ plus_hours('event_at', 24) }} then sample_weight else 0 end) as bigint)
            as late_calls,
        max(case when ingested_at >= {{ plus_hours('event_at', 24) }} then ingested_at end) as last_late_at,
        cast(sum(case when {{ is_next_day }} then sample_weight else 0 end) as bigint) as next_day_calls,
        cast(sum(case when {{ is_next_day }} then units else 0 end) as bigint) as next_day_units,
        max(event_at) as last_call_at,
        max(ingested_at) as last_arrived_at
    from events
    group by account_id, meter, event_date, hour_start
),

final as (
    select
        account_id,
        meter,
        usage_date,
        hour_start,
        events,
        case when {{ is_of_calls('meter') }} then calls end as calls,
        units,
        billable_units,
        sampled_calls,
        sampled_units,
        sampling_variance,
        late_calls,
        last_late_at,
        next_day_calls,
        next_day_units,
        last_call_at,
        last_arrived_at,
        {{ account_hash('account_id') }} as account_hash
    from counted
)

select * from final
