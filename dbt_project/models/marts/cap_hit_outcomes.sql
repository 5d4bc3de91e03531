with history as (
    select * from {{ ref('quota_history') }}
),

-- The last period of each account that has ended.
periods as (
    select
        account_id,
        max(period_start) as period_start,
        max(period_end) as period_end
    from {{ ref('account_periods') }}
    where not is_current
    group by account_id
),

current_periods as (
    select
        account_id,
        period_end
    from {{ ref('account_periods') }}
    where is_current
),

hourly as (
    select
        all_hours.account_id,
        all_hours.meter,
        all_hours.hour_start,
        all_hours.units,
        periods.period_start,
        periods.period_end
    from {{ ref('hourly_usage') }} as all_hours
    inner join periods
        on
            all_hours.account_id = periods.account_id
            and all_hours.hour_start >= periods.period_start
            and all_hours.hour_start < periods.period_end
),

used as (
    select
        account_id,
        meter,
        period_start,
        period_end,
        sum(units) as used
    from hourly
    group by account_id, meter, period_start, period_end
),

-- Limited quotas that were in force in the period and are not above its usage: few, and only they are looked into.
reachable as (
    select
        history.account_id as account_id,
        history.meter as meter,
        history.quota_version,
        history.quota,
        history.plan,
        history.base_price,
        history.effective_at,
        coalesce(history.effective_until, used.period_end) as effective_until,
        used.period_start,
        used.period_end,
        used.used
    from used
    inner join history
        on
            used.account_id = history.account_id
            and used.meter = history.meter
    where
        history.quota > 0
        and used.used >= history.quota
        and history.effective_at < used.period_end
        and coalesce(history.effective_until, used.period_end) > used.period_start
),

cumulated as (
    select
        account_id,
        meter,
        hour_start,
        sum(units) over (partition by account_id, meter order by hour_start) as units_by_hour_end
    from hourly
    where account_id in (select reachable.account_id from reachable)
),

reached as (
    select
        reachable.account_id as account_id,
        reachable.meter as meter,
        reachable.quota_version,
        greatest(min(cumulated.hour_start), max(reachable.effective_at)) as hit_from
    from cumulated
    inner join reachable
        on
            cumulated.account_id = reachable.account_id
            and cumulated.meter = reachable.meter
            and cumulated.units_by_hour_end >= reachable.quota
    group by reachable.account_id, reachable.meter, reachable.quota_version
    -- a quota that was replaced before the count came to it was not reached
    having greatest(min(cumulated.hour_start), max(reachable.effective_at)) < max(reachable.effective_until)
),

-- The first version that the account came up against. Its moment is exact where threshold_crossings has it.
hits as (
    select
        reachable.account_id as account_id,
        reachable.meter as meter,
        reachable.quota_version as quota_version,
        reachable.quota as quota,
        reachable.plan,
        reachable.base_price,
        reachable.period_start as period_start,
        reachable.period_end as period_end,
        reachable.used as used,
        coalesce(crossings.crossed_at, reached.hit_from) as hit_at,
        crossings.crossed_at is not null as is_hit_at_exact
    from reachable
    inner join reached
        on
            reachable.account_id = reached.account_id
            and reachable.meter = reached.meter
            and reachable.quota_version = reached.quota_version
    left join {{ ref('threshold_crossings') }} as crossings
        on
            reachable.account_id = crossings.account_id
            and reachable.meter = crossings.meter
            and reachable.quota_version = crossings.quota_version
            and reachable.period_start = crossings.period_start
            and crossings.threshold_pct = 100
    qualify
        row_number() over (
            partition by reachable.account_id, reachable.meter order by reached.hit_from, reachable.quota_version
        ) = 1
),

-- What the quota was later, null being the highest of all.
later_quotas as (
    select
        hits.account_id as account_id,
        hits.meter as meter,
        min(case when coalesce(history.quota, hits.quota + 1) > hits.quota then history.effective_at end) as raised_at,
        min(case when history.quota < hits.quota then history.effective_at end) as lowered_at,
        max(case when history.effective_until is null and history.quota < hits.quota then 1 else 0 end) as is_lower_now
    from history
    inner join hits
        on
            history.account_id = hits.account_id
            and history.meter = hits.meter
    where history.quota_version > hits.quota_version
    group by hits.account_id, hits.meter
),

quotas_at_end as (
    select
        history.account_id,
        history.meter,
        history.quota
    from history
    inner join hits
        on
            history.account_id = hits.account_id
            and history.meter = hits.meter
    where
        history.effective_at < hits.period_end
        and coalesce(history.effective_until, hits.period_end) >= hits.period_end
),

quotas_now as (
    select
        account_id,
        meter,
        quota,
        plan,
        base_price
    from history
    where effective_until is null
),

activity as (
    select
        all_hours.account_id as account_id,
        all_hours.meter as meter,
        max(all_hours.last_call_at) as last_call_at,
        max(max(all_hours.last_call_at)) over (partition by all_hours.meter) as data_through,
        sum(
            case
                when
                    all_hours.hour_start >= hits.period_end
                    and all_hours.hour_start < current_periods.period_end
                    then all_hours.units
                else 0
            end
        ) as used_this_period
    from {{ ref('hourly_usage') }} as all_hours
    left join hits
        on
            all_hours.account_id = hits.account_id
            and all_hours.meter = hits.meter
    left join current_periods on all_hours.account_id = current_periods.account_id
    group by all_hours.account_id, all_hours.meter
),

-- Days are counted as a whole: a 429 before the hit on its day counts as well.
answers as (
    select
        endpoints.account_id,
        sum(endpoints.calls_with_status) as calls_with_status,
        sum(endpoints.calls) as calls_from_hit_day,
        sum(endpoints.throttled_calls) as throttled_calls
    from {{ ref('daily_usage_by_endpoint') }} as endpoints
    inner join hits
        on
            endpoints.account_id = hits.account_id
            and endpoints.usage_date >= cast(hits.hit_at as date)
            and endpoints.usage_date < cast(hits.period_end as date)
    where {{ is_of_calls('hits.meter') }}
    group by endpoints.account_id
),

facts as (
    select
        hits.account_id as account_id,
        hits.meter as meter,
        hits.quota_version,
        hits.quota as quota,
        hits.plan as plan,
        hits.period_start,
        hits.period_end,
        hits.used,
        hits.hit_at,
        hits.is_hit_at_exact,
        quotas_at_end.quota as quota_at_end,
        quotas_now.quota as quota_now,
        quotas_now.plan as plan_now,
        cast(quotas_now.base_price - hits.base_price as decimal(18, 2)) as plan_delta_mrr,
        later_quotas.raised_at,
        later_quotas.lowered_at,
        coalesce(later_quotas.is_lower_now, 0) = 1 as is_lower_now,
        case when {{ is_of_calls('hits.meter') }} then coalesce(answers.calls_from_hit_day, 0) end
            as calls_from_hit_day,
        case when answers.calls_with_status > 0 then answers.throttled_calls end as throttled_calls,
        activity.used_this_period,
        activity.last_call_at,
        activity.last_call_at < {{ plus_days('activity.data_through', -14) }} as is_silent
    from hits
    inner join activity
        on
            hits.account_id = activity.account_id
            and hits.meter = activity.meter
    left join quotas_at_end
        on
            hits.account_id = quotas_at_end.account_id
            and hits.meter = quotas_at_end.meter
    left join quotas_now
        on
            hits.account_id = quotas_now.account_id
            and hits.meter = quotas_now.meter
    left join later_quotas
        on
            hits.account_id = later_quotas.account_id
            and hits.meter = later_quotas.meter
    left join answers
        on
            hits.account_id = answers.account_id
            and {{ is_of_calls('hits.meter') }}
),

final as (
    select
        account_id,
        meter,
        period_start,
        period_end,
        quota_version,
        quota,
        plan,
        hit_at,
        is_hit_at_exact,
        cast(used as bigint) as used,
        quota_at_end,
        cast(case when quota_at_end > 0 then {{ percentage('used', 'quota_at_end') }} end as decimal(24, 6))
            as pct_of_cap_at_end,
        cast(case when quota_at_end > 0 and used > quota_at_end then used - quota_at_end else 0 end as bigint)
            as overage_units,
        case
            when is_lower_now then 'downgraded'
            when raised_at is not null then 'upgraded'
            when is_silent then 'churned'
            when throttled_calls > 0 then 'absorbed'
            else 'as before'
        end as outcome,
        case when is_lower_now then lowered_at else raised_at end as quota_changed_at,
        quota_now,
        plan_now,
        plan_delta_mrr,
        cast(calls_from_hit_day as bigint) as calls_from_hit_day,
        cast(throttled_calls as bigint) as throttled_calls,
        cast(used_this_period as bigint) as used_this_period,
        last_call_at,
        is_silent
    from facts
)

select * from final
