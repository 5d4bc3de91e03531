-- depends_on: {{ ref('meters') }}
-- One select for each meter: an event may set the quotas of several.
with source as (
    select * from {{ source('lake', 'raw_other_events') }}
    where
        event_name = 'quota_set'
        and event_at <= {{ lake_timestamp(utc_literal(counted_until())) }}
),

subjects as (
    select * from {{ ref('stg_subjects') }}
),

named as (
    select
        source.*,
        {{ meter_of(json_text('source.properties', 'metric')) }} as metric,
        {{ json_text('source.properties', 'plan') }} as plan,
        {{ json_text('source.properties', 'used') }} as sent_used,
        case
            when source.quota is not null then cast(source.quota as varchar)
            -- the first that is there, null included
            when {{ json_has('source.properties', ['api_quota_monthly']) }}
                then {{ json_text('source.properties', 'api_quota_monthly') }}
            when {{ json_has('source.properties', ['quota']) }} then {{ json_text('source.properties', 'quota') }}
            else {{ json_text('source.properties', 'limit') }}
        end as sent_quota,
        {{ json_has('source.properties', ['api_quota_monthly', 'quota', 'limit']) }} as has_quota,
        {{ json_has('source.properties', quota_properties()) }} as has_quota_of_a_meter
    from source
),

sets as (
    -- of the meter that it names, or of the main one
    select
        *,
        coalesce(metric, {{ text_literal(main_meter()) }}) as meter
    from named
    where
        (metric is not null or has_quota or not has_quota_of_a_meter)
        and not {{ has_quota_by_property('coalesce(metric, ' ~ text_literal(main_meter()) ~ ')', 'properties') }}

    {% for meter in meters() if meter.quota_property %}
        union all

        select
            * replace ({{ json_text('properties', meter.quota_property) }} as sent_quota),
            {{ text_literal(meter.meter) }} as meter
        from named
        where
            coalesce(metric, {{ text_literal(meter.meter) }}) = {{ text_literal(meter.meter) }}
            and {{ json_has('properties', [meter.quota_property]) }}
    {% endfor %}
)

select
    coalesce(subjects.account_id, sets.account_id) as account_id,
    sets.account_id as subject,
    sets.source as source, -- noqa: RF04
    sets.event_id,
    {{ utc_timestamp('sets.event_at') }} as effective_at,
    {{ utc_timestamp('sets.ingested_at') }} as ingested_at,
    {{ steps('sets.sent_quota', scale_of('sets.meter')) }} as quota,
    sets.plan as plan,
    sets.meter as meter,
    sets.sent_used as sent_used
from sets
-- few of them, and on the right side: profiles.yml
left join subjects
    on
        sets.account_id = subjects.subject
        and sets.event_at >= {{ lake_timestamp('subjects.valid_from') }}
        and sets.event_at < {{ lake_timestamp('subjects.valid_until') }}
where sets.sent_quota is null or {{ value_problem('sets.sent_quota', scale_of('sets.meter')) }} is null
