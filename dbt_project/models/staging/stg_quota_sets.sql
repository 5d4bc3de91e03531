with source as (
    select * from {{ source('lake', 'raw_other_events') }}
)

select
    account_id,
    source,
    event_id,
    {{ utc_timestamp('event_at') }} as effective_at,
    {{ utc_timestamp('ingested_at') }} as ingested_at,
    quota,
    {{ json_text('properties', 'plan') }} as plan,
    -- a quota without a metric is one of calls
    coalesce(lower(replace({{ json_text('properties', 'metric') }}, '_', '-')), 'api-calls') as meter,
    {{ json_text('properties', 'used') }} as sent_used
from source
where
    event_name = 'quota_set'
    and {{ utc_timestamp('event_at') }} <= {{ utc_literal(counted_until()) }}
