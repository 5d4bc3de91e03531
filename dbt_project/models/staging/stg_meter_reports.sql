with source as (
    select * from {{ source('lake', 'raw_meter_reports') }}
)

select
    stripe_customer_id,
    {{ utc_timestamp('hour_start') }} as hour_start,
    hour_date,
    revision,
    units,
    identifier,
    state,
    {{ utc_timestamp('first_attempt_at') }} as first_attempt_at,
    {{ utc_timestamp('finished_at') }} as finished_at,
    error,
    stripe_units,
    {{ utc_timestamp('checked_at') }} as checked_at
from source
