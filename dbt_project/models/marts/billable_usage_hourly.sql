{{ config(materialized="view") }} -- a copy of the largest table would cost more than all that is counted anew

with hourly as (
    select * from {{ ref('hourly_usage') }}
),

ranges as (
    select * from {{ ref('stg_customers') }}
),

accounts as (
    select * from {{ ref('stg_accounts') }}
),

-- An account that stg_customers does not name has one customer at all times.
customers as (
    select
        account_id,
        stripe_customer_id,
        valid_from,
        valid_until
    from ranges

    union all

    select
        accounts.account_id,
        accounts.stripe_customer_id,
        {{ utc_literal(since_ever()) }} as valid_from,
        {{ utc_literal(for_ever()) }} as valid_until
    from accounts
    where accounts.account_id not in (select ranges.account_id from ranges)
),

final as (
    select
        hourly.account_id,
        customers.stripe_customer_id,
        hourly.hour_start,
        hourly.calls,
        hourly.billable_units,
        hourly.sampled_calls,
        hourly.last_call_at
    from hourly
    left join customers
        on
            hourly.account_id = customers.account_id
            and hourly.hour_start >= customers.valid_from
            and hourly.hour_start < customers.valid_until
)

select * from final
