-- Counted like hourly_usage, and after it: macros/recount.sql.
-- depends_on: {{ ref('hourly_usage_by_endpoint') }}
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

split as (
    {%- for split in grouped() %}
    select
        account_id,
        meter,
        event_date,
        hour_start,
        {{ text_literal(split.property) }} as property,
        coalesce({{ property_of(split.property) }}, '') as property_value,
        units
    from events
    where meter = {{ text_literal(split.meter) }}
    {{ "union all" if not loop.last }}
    {%- else %}
    select
        account_id,
        meter,
        event_date,
        hour_start,
        '' as property,
        '' as property_value,
        units
    from events
    where false
    {%- endfor %}
),

final as (
    select
        account_id,
        meter,
        event_date as usage_date,
        hour_start,
        property,
        property_value as value, -- noqa: RF04
        cast(count(*) as bigint) as events,
        cast(sum(units) as bigint) as units
    from split
    group by account_id, meter, event_date, hour_start, property, property_value
)

select * from final
