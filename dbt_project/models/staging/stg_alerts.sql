with source as (
    select * from {{ source('lake', 'raw_alerts') }}
)

select
    account_id,
    meter,
    {{ utc_timestamp('period_start') }} as period_start,
    quota,
    threshold,
    {{ utc_timestamp('crossed_at') }} as crossed_at,
    {{ utc_timestamp('alerted_at') }} as alerted_at,
    message_key
from source
