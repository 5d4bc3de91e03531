{{ config(materialized="view") }} -- a copy of the largest table would cost more than all that is counted anew

with hourly as (
    select * from {{ ref('hourly_usage') }}
    where {{ is_main('meter') }}
),

customers as (
    select * from {{ ref('account_customers') }}
),

final as (
    select
        hourly.account_id,
        customers.stripe_customer_id,
        hourly.hour_start,
        coalesce(hourly.calls, hourly.events) as calls,
        hourly.billable_units,
        hourly.sampled_calls,
        hourly.sampled_units,
        hourly.last_call_at
    from hourly
    left join customers
        on
            hourly.account_id = customers.account_id
            and hourly.hour_start >= customers.valid_from
            and hourly.hour_start < customers.valid_until
)

select * from final
