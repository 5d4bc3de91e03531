with meters as (
    select * from {{ ref('meters') }}
),

gauges as (
    select * from meters
    where aggregation = 'latest'
),

-- A gauge's limit is also what the customer's own system reports it to be.
quota_sets as (
    select
        account_id,
        meter,
        quota,
        plan,
        effective_at,
        ingested_at,
        event_id,
        source
    from {{ ref('stg_quota_sets') }}
    where meter in (select meters.meter from meters)

    union all

    select
        account_id,
        meter,
        {{ whole_number('sent_limit') }} as quota,
        plan,
        event_at as effective_at,
        ingested_at,
        event_id,
        source
    from {{ ref('stg_limits_reached') }}
    where
        meter in (select gauges.meter from gauges)
        and {{ whole_number('sent_limit') }} is not null
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

final as (
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
)

select * from final
