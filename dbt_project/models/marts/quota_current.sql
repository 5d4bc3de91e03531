with history as (
    select * from {{ ref('quota_history') }}
),

accounts as (
    select * from {{ ref('stg_accounts') }}
),

meters as (
    select * from {{ ref('meters') }}
),

-- In order, and so are the marts that join it: one account is then found without reading the others.
known as (
    select * from {{ ref('account_meters') }}
    order by account_id, meter
),

in_force as (
    select * from history
    where effective_until is null
),

final as (
    select
        known.account_id as account_id,
        known.meter as meter,
        case
            when in_force.account_id is null then 'unknown'
            when in_force.quota is null then 'unlimited'
            when in_force.quota = 0 then 'blocked'
            else 'limited'
        end as quota_state,
        in_force.quota,
        in_force.plan as plan,
        in_force.quota_version,
        in_force.effective_at,
        meters.aggregation,
        {{ step_of('meters.unit', 'meters.decimals') }} as unit,
        meters.quota_policy,
        accounts.account_id is not null as is_listed,
        accounts.plan as listed_plan,
        accounts.period_kind,
        accounts.period_anchor,
        accounts.period_ends_on
    from known
    left join in_force
        on
            known.account_id = in_force.account_id
            and known.meter = in_force.meter
    left join meters on known.meter = meters.meter
    left join accounts on known.account_id = accounts.account_id
)

select * from final
