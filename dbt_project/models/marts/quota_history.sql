with plans as (
    select
        plan,
        meter,
        base_price
    from {{ ref('plans') }}
),

-- A gauge's limit is also what the customer's own system reports it to be.
quota_sets as (
    select
        account_id,
        meter,
        case when event_name = 'quota_set' then quota else limit_units end as quota,
        plan,
        event_at as effective_at,
        ingested_at,
        event_id,
        source
    from {{ ref('meter_events') }}
    where
        (event_name = 'quota_set' and aggregation is not null)
        or (aggregation = 'latest' and limit_units is not null)
),

numbered as (
    select
        *,
        row_number() over (
            partition by account_id, meter
            order by effective_at, ingested_at, event_id, source
        ) as set_number
    from quota_sets
),

compared as (
    select
        *,
        lag(quota) over (partition by account_id, meter order by set_number) as previous_quota
    from numbered
),

-- A quota that is sent again unchanged is no new version: it must not arm thresholds again.
versions as (
    select
        *,
        sum(case when set_number > 1 and coalesce(quota, -1) = coalesce(previous_quota, -1) then 0 else 1 end) over (
            partition by account_id, meter
            order by set_number
        ) as quota_version
    from compared
),

grouped as (
    select
        account_id,
        meter,
        quota_version,
        min(effective_at) as effective_at,
        max(quota) as quota,
        max_by(plan, set_number) as plan
    from versions
    group by account_id, meter, quota_version
),

ranged as (
    select
        account_id,
        meter,
        cast(quota_version as integer) as quota_version,
        quota,
        lag(quota) over (partition by account_id, meter order by quota_version) as previous_quota,
        plan,
        effective_at,
        lead(effective_at) over (partition by account_id, meter order by quota_version) as effective_until
    from grouped
),

final as (
    select
        ranged.account_id,
        ranged.meter as meter,
        ranged.quota_version,
        ranged.quota,
        ranged.previous_quota,
        ranged.plan as plan,
        ranged.effective_at,
        ranged.effective_until,
        plans.base_price
    from ranged
    left join plans
        on
            ranged.plan = plans.plan
            and ranged.meter = plans.meter
)

select * from final
