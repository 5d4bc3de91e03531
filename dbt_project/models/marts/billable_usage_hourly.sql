with calls as (
    select * from {{ ref('stg_api_calls') }}
),

accounts as (
    select * from {{ ref('stg_accounts') }}
),

hourly as (
    select
        account_id,
        hour_start,
        count(*) as calls,
        max(event_at) as last_call_at
    from calls
    group by account_id, hour_start
),

final as (
    select
        hourly.account_id,
        accounts.stripe_customer_id,
        hourly.hour_start,
        cast(hourly.calls as bigint) as calls,
        cast(hourly.calls as bigint) as billable_units,
        hourly.last_call_at
    from hourly
    left join accounts on hourly.account_id = accounts.account_id
)

select * from final
