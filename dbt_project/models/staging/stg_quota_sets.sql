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
    {{ json_text('properties', 'plan') }} as plan
from source
where
    event_name = 'quota_set'
    and {{ utc_timestamp('event_at') }} <= {{ utc_literal(counted_until()) }}
