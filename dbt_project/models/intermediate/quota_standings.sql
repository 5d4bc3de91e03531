with forecasts as (
    select * from {{ ref('cap_forecasts') }}
),

-- The highest threshold that the usage has reached. Of two that fall on the same unit the larger percentage.
reached as (
    select
        thresholds.account_id,
        thresholds.meter,
        thresholds.threshold,
        thresholds.severity,
        thresholds.is_in_digest,
        max(case when thresholds.is_in_digest then 1 else 0 end)
            over (partition by thresholds.account_id, thresholds.meter) as any_announced,
        max(case when thresholds.is_in_digest and not thresholds.pace_matters then 1 else 0 end)
            over (partition by thresholds.account_id, thresholds.meter) as any_at_any_pace
    from {{ ref('period_thresholds') }} as thresholds
    inner join forecasts
        on
            thresholds.account_id = forecasts.account_id
            and thresholds.meter = forecasts.meter
            and thresholds.period_start = forecasts.period_start
            and thresholds.reached_at_units <= forecasts.used_mtd
    qualify
        row_number() over (
            partition by thresholds.account_id, thresholds.meter
            order by thresholds.reached_at_units desc, thresholds.threshold_pct desc nulls last
        ) = 1
),

last_crossings as (
    select
        account_id,
        meter,
        max(crossed_at) as last_crossed_at
    from {{ ref('threshold_crossings') }}
    where period_end > {{ utc_literal(as_of()) }}
    group by account_id, meter
),

-- What was reached decides; a cap that is near makes it more urgent, but never out of nothing.
final as (
    select
        forecasts.account_id as account_id,
        forecasts.meter as meter,
        forecasts.unit,
        forecasts.aggregation,
        forecasts.period_start as period_start,
        forecasts.period_end,
        forecasts.period_source,
        forecasts.plan,
        forecasts.quota_state,
        forecasts.quota,
        forecasts.quota_version,
        forecasts.quota_policy,
        forecasts.used_today,
        forecasts.used_mtd,
        forecasts.used_same_point_last_period,
        forecasts.sample_ratio,
        forecasts.ci95_pct,
        cast(
            case
                when forecasts.quota_state = 'limited'
                    then {{ percentage('forecasts.used_mtd', 'forecasts.quota') }}
            end as decimal(24, 6)
        ) as pct_of_cap,
        forecasts.remaining,
        forecasts.level_7d,
        forecasts.projected_eom,
        forecasts.projected_low,
        forecasts.projected_high,
        forecasts.forecast_method,
        forecasts.forecast_mape,
        forecasts.days_to_cap_at_current_rate,
        forecasts.days_to_cap,
        forecasts.hits_cap_on,
        forecasts.hits_cap_in_period,
        reached.threshold as highest_threshold,
        last_crossings.last_crossed_at,
        case
            when forecasts.quota_state <> 'limited' then null
            when reached.threshold is null then 'ok'
            when not reached.is_in_digest or not coalesce(forecasts.hits_cap_in_period, false) then reached.severity
            when forecasts.days_to_cap < {{ var('critical_within_days') }} then 'critical'
            when forecasts.days_to_cap < {{ var('high_within_days') }} and reached.severity <> 'critical' then 'high'
            else reached.severity
        end as severity,
        coalesce(reached.any_announced = 1, false) as is_at_threshold,
        coalesce(reached.any_announced = 1 and reached.any_at_any_pace = 0, false) as does_pace_matter,
        forecasts.late_calls_24h,
        forecasts.last_call_at
    from forecasts
    left join reached
        on
            forecasts.account_id = reached.account_id
            and forecasts.meter = reached.meter
    left join last_crossings
        on
            forecasts.account_id = last_crossings.account_id
            and forecasts.meter = last_crossings.meter
)

select * from final
