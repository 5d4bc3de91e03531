with source as (
    select * from {{ source('lake', 'raw_dispositions') }}
)

select
    message_key,
    source,
    account_id,
    meter,
    disposition,
    {{ utc_timestamp('said_at') }} as said_at,
    {{ utc_timestamp('withdrawn_at') }} as withdrawn_at
from source
