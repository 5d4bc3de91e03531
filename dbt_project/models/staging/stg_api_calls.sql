with source as (
    select * from {{ source('lake', 'raw_events') }}
)

select
    account_id,
    source,
    event_id,
    {{ utc_timestamp('event_at') }} as event_at,
    cast({{ utc_timestamp('event_at') }} as date) as event_date,
    date_trunc('hour', {{ utc_timestamp('event_at') }}) as hour_start,
    {{ utc_timestamp('ingested_at') }} as ingested_at,
    endpoint,
    status,
    properties
from source
where
    event_name in ('api_call', 'api_request')
    and {{ utc_timestamp('event_at') }} <= {{ utc_literal(counted_until()) }}
