-- depends_on: {{ ref('meters') }}
with source as (
    select * from {{ source('lake', 'raw_subscription_periods') }}
)

select
    stripe_customer_id,
    subscription_id,
    subscription_item_id,
    -- empty is the main one, whatever meters.csv calls it
    case when meter = '' then {{ text_literal(main_meter()) }} else meter end as meter,
    {{ utc_timestamp('period_start') }} as period_start,
    {{ utc_timestamp('period_end') }} as period_end,
    status,
    is_trial,
    {{ utc_timestamp('ends_at') }} as ends_at
from source
