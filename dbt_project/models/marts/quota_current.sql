with quota_sets as (
    select * from {{ ref('stg_quota_sets') }}
),

known_accounts as (
    select account_id from {{ ref('billable_usage_hourly') }}
    union distinct
    select account_id from quota_sets
    union distinct
    select account_id from {{ ref('stg_accounts') }}
    union distinct
    select account_id from {{ ref('stg_limits_reached') }}
),

ranked as (
    select
        account_id,
        quota,
        plan,
        effective_at,
        row_number() over (
            partition by account_id
            order by effective_at, ingested_at, event_id, source
        ) as quota_version,
        row_number() over (
            partition by account_id
            order by effective_at desc, ingested_at desc, event_id desc, source desc
        ) as age
    from quota_sets
),

in_force as (
    select * from ranked
    where age = 1
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
        cast(in_force.quota_version as integer) as quota_version,
        in_force.effective_at
    from known_accounts
    left join in_force on known_accounts.account_id = in_force.account_id
)

select * from final
