with source as (
    select * from {{ source('lake', 'raw_other_events') }}
)

select
    account_id,
    source,
    event_id,
    {{ utc_timestamp('event_at') }} as event_at,
    {{ utc_timestamp('ingested_at') }} as ingested_at,
    {{ json_text('properties', 'metric') }} as metric,
    {{ json_text('properties', 'limit') }} as sent_limit,
    {{ json_text('properties', 'used') }} as sent_used,
    {{ json_text('properties', 'plan') }} as plan,
    coalesce(lower(replace({{ json_text('properties', 'metric') }}, '_', '-')), '') as meter
from source
where
    event_name = 'usage.limit_reached'
    and {{ utc_timestamp('event_at') }} <= {{ utc_literal(counted_until()) }}
