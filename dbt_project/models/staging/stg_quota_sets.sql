with source as (
    select * from {{ source('lake', 'raw_other_events') }}
),

subjects as (
    select * from {{ ref('stg_subjects') }}
)

select
    coalesce(subjects.account_id, source.account_id) as account_id,
    source.account_id as subject,
    source.source,
    source.event_id,
    {{ utc_timestamp('source.event_at') }} as effective_at,
    {{ utc_timestamp('source.ingested_at') }} as ingested_at,
    source.quota,
    {{ json_text('source.properties', 'plan') }} as plan,
    -- a quota without a metric is one of calls
    coalesce({{ meter_of(json_text('source.properties', 'metric')) }}, 'api-calls') as meter,
    {{ json_text('source.properties', 'used') }} as sent_used
from source
-- few of them, and on the right side: profiles.yml
left join subjects
    on
        source.account_id = subjects.subject
        and source.event_at >= {{ lake_timestamp('subjects.valid_from') }}
        and source.event_at < {{ lake_timestamp('subjects.valid_until') }}
where
    source.event_name = 'quota_set'
    and source.event_at <= {{ lake_timestamp(utc_literal(counted_until())) }}
