-- Only days that a build has to count again are read, and each is replaced as a whole: macros/recount.sql.
{% set is_next_day = "false" -%}
{% if business_days_split_hours() -%}
    {% set is_next_day = business_date("event_at") ~ " > " ~ business_date("hour_start") -%}
{% endif -%}
{{ config(
    materialized="incremental",
    incremental_strategy="append",
    on_schema_change="fail",
    pre_hook=["{{ mark_recount() }}", "{{ delete_recounted_days() }}"],
) }}

with calls as (
    select * from {{ ref('stg_api_calls') }}
    where
        {{ is_recounted('event_date') }}
        -- what a concurrent run ingests meanwhile is counted next time, with all of its days
        and batch <= {{ recount_plan().last_batch or 0 }}
),

final as (
    select
        account_id,
        event_date as usage_date,
        hour_start,
        cast(count(*) as bigint) as events,
        cast(sum(sample_weight) as bigint) as calls,
        cast(sum(units) as bigint) as units,
        cast(sum(case when sample_weight = 1 then endpoint_weight else 0 end) as bigint) as billable_units,
        cast(sum(case when sample_weight > 1 then sample_weight else 0 end) as bigint) as sampled_calls,
        cast(sum(case when sample_weight > 1 then units else 0 end) as bigint) as sampled_units,
        {{ sampling_variance('sample_weight', 'endpoint_weight') }} as sampling_variance,
        cast(sum(case when ingested_at >= {{ plus_hours('event_at', 24) }} then sample_weight else 0 end) as bigint)
            as late_calls,
        max(case when ingested_at >= {{ plus_hours('event_at', 24) }} then ingested_at end) as last_late_at,
        cast(sum(case when {{ is_next_day }} then sample_weight else 0 end) as bigint) as next_day_calls,
        cast(sum(case when {{ is_next_day }} then units else 0 end) as bigint) as next_day_units,
        max(event_at) as last_call_at,
        max(ingested_at) as last_arrived_at
    from calls
    group by account_id, event_date, hour_start
)

select * from final
