-- Each account's current period and the one before.
with numbered_periods as (
    select
        *,
        row_number() over (partition by account_id order by period_start desc) as periods_ago
    from {{ ref('account_periods') }}
),

scope as (
    select
        known.account_id as account_id,
        known.meter as meter,
        known.aggregation,
        known.unit,
        known.quota_policy,
        known.listed_plan,
        periods.period_start,
        periods.period_end,
        periods.source as period_source,
        periods.is_current
    from {{ ref('quota_current') }} as known
    inner join numbered_periods as periods on known.account_id = periods.account_id
    where periods.periods_ago <= 2
),

versions as (
    select
        scope.*,
        history.quota_version,
        history.quota as sent_quota,
        history.previous_quota,
        history.plan,
        history.effective_at,
        -- the first quota is that of the time before it as well
        case
            when history.quota_version = 1 then scope.period_start
            else greatest(history.effective_at, scope.period_start)
        end as holds_from,
        least(coalesce(history.effective_until, scope.period_end), scope.period_end) as holds_until
    from scope
    inner join {{ ref('quota_history') }} as history
        on
            scope.account_id = history.account_id
            and scope.meter = history.meter
            and scope.period_end > history.effective_at
            and coalesce(history.effective_until, scope.period_end) > scope.period_start
),

-- carry: the quota that is in force when the period ends, or now, counts for all of the period's usage.
in_force as (
    select * from versions
    where holds_until = period_end
),

-- prorate: each quota counts for its share of the period, a blocked one as 0; unlimited time has no share. A limit in
-- force is at least one unit.
prorated as (
    select
        account_id,
        meter,
        period_start,
        greatest({{ weighted_mean('sent_quota', seconds_between('holds_from', 'holds_until')) }}, 1) as quota
    from versions
    where
        quota_policy = 'prorate'
        and period_source <> 'lifetime'
        and sent_quota is not null
    group by account_id, meter, period_start
),

final as (
    select
        scope.account_id as account_id,
        scope.meter as meter,
        scope.unit as unit,
        scope.period_start as period_start,
        scope.period_end as period_end,
        scope.period_source as period_source,
        scope.is_current as is_current,
        scope.quota_policy as quota_policy,
        case
            when in_force.quota_version is null then 'unknown'
            when in_force.sent_quota is null then 'unlimited'
            when in_force.sent_quota = 0 then 'blocked'
            else 'limited'
        end as quota_state,
        case
            when in_force.sent_quota > 0 then coalesce(prorated.quota, in_force.sent_quota)
            else in_force.sent_quota
        end as quota,
        in_force.quota_version,
        in_force.sent_quota,
        in_force.previous_quota,
        in_force.effective_at,
        coalesce(in_force.plan, scope.listed_plan) as plan,
        scope.aggregation as aggregation
    from scope
    left join in_force
        on
            scope.account_id = in_force.account_id
            and scope.meter = in_force.meter
            and scope.period_start = in_force.period_start
    left join prorated
        on
            scope.account_id = prorated.account_id
            and scope.meter = prorated.meter
            and scope.period_start = prorated.period_start
)

select * from final
