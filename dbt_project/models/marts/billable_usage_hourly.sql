{{ config(materialized="view") }} -- a copy of the largest table would cost more than all that is counted anew

with hourly as (
    select * from {{ ref('hourly_usage') }}
),

customers as (
    select * from {{ ref('account_customers') }}
),

final as (
    select
        hourly.account_id,
        customers.stripe_customer_id,
        hourly.hour_start,
        hourly.calls,
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
