with source as (
    select * from {{ source('lake', 'raw_events') }}
)

select
    account_id,
    source,
    event_id,
    {{ utc_timestamp('event_at') }} as event_at,
    event_date,
    date_trunc('hour', {{ utc_timestamp('event_at') }}) as hour_start,
    {{ utc_timestamp('ingested_at') }} as ingested_at,
    sample_weight,
    endpoint,
    status,
    properties,
    batch
from source
where
    {{ utc_timestamp('event_at') }} <= {{ utc_literal(counted_until()) }}
    -- says no more than the line before, but by it the files of later days are not even opened
    and event_date <= {{ date_literal(counted_until()) }}
