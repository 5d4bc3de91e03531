with hourly as (
    select * from {{ ref('billable_usage_hourly') }}
),

periods as (
    select
        {{ utc_literal(previous_period_start()) }} as period_start,
        {{ utc_literal(period_start()) }} as period_end
    union all
    select
        {{ utc_literal(period_start()) }} as period_start,
        {{ utc_literal(period_end()) }} as period_end
),

-- The quota that was in force when the period ended, or is now: a change applies to the whole period's usage.
quotas as (
    select
        history.account_id,
        periods.period_start,
        periods.period_end,
        history.quota_version,
        history.quota,
        history.previous_quota,
        history.effective_at
    from {{ ref('quota_history') }} as history
    inner join periods
        on
            history.effective_at < periods.period_end
            and coalesce(history.effective_until, periods.period_end) >= periods.period_end
    where history.quota > 0
),

cumulated as (
    select
        quotas.*,
        hourly.hour_start,
        hourly.calls,
        sum(hourly.calls) over (
            partition by quotas.account_id, quotas.period_start order by hourly.hour_start
        ) as calls_by_hour_end,
        sum(hourly.calls) over (partition by quotas.account_id, quotas.period_start) as used
    from quotas
    inner join hourly
        on
            quotas.account_id = hourly.account_id
            and quotas.period_start <= hourly.hour_start
            and quotas.period_end > hourly.hour_start
),

-- The hour in which the call came that reached the threshold, and which call of that hour it was.
crossing_hours as (
    select
        cumulated.*,
        thresholds.threshold_pct,
        thresholds.severity,
        thresholds.is_in_digest,
        {{ ceiling_division('cumulated.quota * thresholds.threshold_pct', '100') }}
        - (cumulated.calls_by_hour_end - cumulated.calls) as call_of_hour
    from cumulated
    inner join {{ ref('thresholds') }} as thresholds
        on
            cumulated.calls_by_hour_end * 100 >= cumulated.quota * thresholds.threshold_pct
            and (cumulated.calls_by_hour_end - cumulated.calls) * 100
            < cumulated.quota * thresholds.threshold_pct
),

calls_of_hours as (
    select
        calls.account_id,
        calls.hour_start,
        calls.event_at,
        row_number() over (
            partition by calls.account_id, calls.hour_start
            order by calls.event_at, calls.event_id, calls.source
        ) as call_of_hour
    from {{ ref('stg_api_calls') }} as calls
    where
        calls.event_at >= {{ utc_literal(previous_period_start()) }}
        and (calls.account_id, calls.hour_start) in (
            select
                crossed.account_id,
                crossed.hour_start
            from crossing_hours as crossed
        )
),

final as (
    select
        crossing_hours.account_id,
        crossing_hours.period_start,
        crossing_hours.quota_version,
        crossing_hours.threshold_pct,
        crossing_hours.severity,
        crossing_hours.is_in_digest,
        crossing_hours.quota,
        cast(crossing_hours.used as bigint) as used,
        cast({{ percentage('crossing_hours.used', 'crossing_hours.quota') }} as decimal(24, 6)) as pct_of_cap,
        greatest(calls_of_hours.event_at, crossing_hours.effective_at) as crossed_at,
        case
            when crossing_hours.effective_at <= calls_of_hours.event_at then 'usage'
            when crossing_hours.quota > crossing_hours.previous_quota then 'quota_raised'
            else 'quota_lowered'
        end as cause
    from crossing_hours
    inner join calls_of_hours
        on
            crossing_hours.account_id = calls_of_hours.account_id
            and crossing_hours.hour_start = calls_of_hours.hour_start
            and crossing_hours.call_of_hour = calls_of_hours.call_of_hour
)

select * from final
