with source as (
    select * from {{ source('lake', 'raw_prepaid_credit') }}
)

select
    stripe_customer_id,
    currency,
    remaining,
    {{ utc_timestamp('burns_down_at') }} as burns_down_at,
    {{ utc_timestamp('read_at') }} as read_at
from source
