-- Each account's current period and the one before.
with numbered_periods as (
    select
        account_id,
        period_start,
        period_end,
        row_number() over (partition by account_id order by period_start desc) as periods_ago
    from {{ ref('account_periods') }}
),

periods as (
    select * from numbered_periods
    where periods_ago <= 2
),

first_days as (
    select
        account_id,
        cast(min(period_start) as date) as first_date
    from periods
    group by account_id
),

hourly as (
    select all_hours.*
    from {{ ref('hourly_usage') }} as all_hours
    inner join first_days
        on
            all_hours.account_id = first_days.account_id
            and all_hours.usage_date >= first_days.first_date
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
            history.account_id = periods.account_id
            and history.effective_at < periods.period_end
            and coalesce(history.effective_until, periods.period_end) >= periods.period_end
    where history.quota > 0
),

days as (
    select
        account_id,
        usage_date,
        sum(calls) as calls
    from hourly
    group by account_id, usage_date
),

cumulated as (
    select
        quotas.*,
        days.usage_date,
        sum(days.calls) over (
            partition by quotas.account_id, quotas.period_start order by days.usage_date
        ) as calls_by_day_end,
        days.calls,
        sum(days.calls) over (partition by quotas.account_id, quotas.period_start) as used
    from quotas
    inner join days
        on
            quotas.account_id = days.account_id
            and quotas.period_start <= days.usage_date
            and quotas.period_end > days.usage_date
),

-- The day on which the call came that reached the threshold, and which call of that day it was; then the hour of that
-- day; then the moment. Each step looks only at what the one before has found.
crossing_days as (
    select
        cumulated.*,
        thresholds.threshold_pct,
        thresholds.severity,
        thresholds.is_in_digest,
        {{ ceiling_division('cumulated.quota * thresholds.threshold_pct', '100') }}
        - (cumulated.calls_by_day_end - cumulated.calls) as call_of_day
    from cumulated
    inner join {{ ref('thresholds') }} as thresholds
        on
            cumulated.calls_by_day_end * 100 >= cumulated.quota * thresholds.threshold_pct
            and (cumulated.calls_by_day_end - cumulated.calls) * 100
            < cumulated.quota * thresholds.threshold_pct
),

hours as (
    select
        hourly.account_id,
        hourly.usage_date,
        hourly.hour_start,
        hourly.calls,
        sum(hourly.calls) over (
            partition by hourly.account_id, hourly.usage_date order by hourly.hour_start
        ) as last_call_of_day
    from hourly
    where
        (hourly.account_id, hourly.usage_date) in (
            select
                crossed.account_id,
                crossed.usage_date
            from crossing_days as crossed
        )
),

crossing_hours as (
    select
        crossing_days.*,
        hours.hour_start,
        crossing_days.call_of_day - (hours.last_call_of_day - hours.calls) as call_of_hour
    from crossing_days
    inner join hours
        on
            crossing_days.account_id = hours.account_id
            and crossing_days.usage_date = hours.usage_date
            and crossing_days.call_of_day <= hours.last_call_of_day
            and crossing_days.call_of_day > hours.last_call_of_day - hours.calls
),

hours_to_read as (
    select distinct
        account_id,
        usage_date,
        hour_start
    from crossing_hours
),

-- Which of the hour's calls those of a moment are: up to last_call_of_hour. The join on event_date adds nothing to the
-- result, but by it only the files of days with a crossing are opened.
moments as (
    select
        calls.account_id,
        calls.hour_start,
        calls.event_at,
        sum(calls.sample_weight) as calls,
        sum(sum(calls.sample_weight)) over (
            partition by calls.account_id, calls.hour_start
            order by calls.event_at
        ) as last_call_of_hour
    from {{ ref('stg_api_calls') }} as calls
    inner join hours_to_read
        on
            calls.event_date = hours_to_read.usage_date
            and calls.account_id = hours_to_read.account_id
            and calls.hour_start = hours_to_read.hour_start
    group by calls.account_id, calls.hour_start, calls.event_at
),

final as (
    select
        crossing_hours.account_id,
        crossing_hours.period_start,
        crossing_hours.period_end,
        crossing_hours.quota_version,
        crossing_hours.threshold_pct,
        crossing_hours.severity,
        crossing_hours.is_in_digest,
        crossing_hours.quota,
        cast(crossing_hours.used as bigint) as used,
        cast({{ percentage('crossing_hours.used', 'crossing_hours.quota') }} as decimal(24, 6)) as pct_of_cap,
        greatest(moments.event_at, crossing_hours.effective_at) as crossed_at,
        case
            when crossing_hours.effective_at <= moments.event_at then 'usage'
            when crossing_hours.quota > crossing_hours.previous_quota then 'quota_raised'
            else 'quota_lowered'
        end as cause
    from crossing_hours
    inner join moments
        on
            crossing_hours.account_id = moments.account_id
            and crossing_hours.hour_start = moments.hour_start
            and crossing_hours.call_of_hour <= moments.last_call_of_hour
            and crossing_hours.call_of_hour > moments.last_call_of_hour - moments.calls
)

select * from final
