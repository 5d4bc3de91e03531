with history as (
    select * from {{ ref('quota_history') }}
),

known_accounts as (
    select account_id from {{ ref('hourly_usage') }}
    union distinct
    select account_id from history
    union distinct
    select account_id from {{ ref('stg_accounts') }}
    union distinct
    select account_id from {{ ref('stg_limits_reached') }}
),

in_force as (
    select * from history
    where effective_until is null
),

final as (
    select
        known_accounts.account_id,
        case
            when in_force.account_id is null then 'unknown'
            when in_force.quota is null then 'unlimited'
            when in_force.quota = 0 then 'blocked'
            else 'limited'
        end as quota_state,
        in_force.quota,
        in_force.plan,
        in_force.quota_version,
        in_force.effective_at
    from known_accounts
    left join in_force on known_accounts.account_id = in_force.account_id
)

select * from final
