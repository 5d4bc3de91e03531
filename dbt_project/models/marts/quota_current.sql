with history as (
    select * from {{ ref('quota_history') }}
),

-- Calls are counted of everybody, a gauge where it was ever heard of.
known as (
    select
        account_id,
        'api-calls' as meter
    from {{ ref('hourly_usage') }}
    union distinct
    select
        account_id,
        'api-calls' as meter
    from {{ ref('stg_accounts') }}
    union distinct
    select
        account_id,
        'api-calls' as meter
    from {{ ref('stg_limits_reached') }}
    union distinct
    select
        account_id,
        'api-calls' as meter
    from history
    union distinct
    select
        account_id,
        meter
    from history
    union distinct
    select
        account_id,
        meter
    from {{ ref('gauge_readings') }}
),

in_force as (
    select * from history
    where effective_until is null
),

final as (
    select
        known.account_id,
        known.meter,
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
    from known
    left join in_force
        on
            known.account_id = in_force.account_id
            and known.meter = in_force.meter
)

select * from final
