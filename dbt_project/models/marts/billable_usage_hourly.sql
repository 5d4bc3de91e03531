{{ config(materialized="view") }} -- a copy of the largest table would cost more than all that is counted anew

with hourly as (
    select * from {{ ref('hourly_usage') }}
),

accounts as (
    select * from {{ ref('stg_accounts') }}
),

final as (
    select
        hourly.account_id,
        accounts.stripe_customer_id,
        hourly.hour_start,
        hourly.calls,
        hourly.billable_units,
        hourly.sampled_calls,
        hourly.last_call_at
    from hourly
    left join accounts on hourly.account_id = accounts.account_id
)

select * from final
