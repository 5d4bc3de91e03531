-- Calls up to five minutes ahead of the clock are counted: what is ahead of the period's end is not this period's.
with periods as (
    select
        account_id,
        period_start,
        period_end,
        lag({{ nullable('period_start') }}) over (partition by account_id order by period_start) as previous_start,
        is_current
    from {{ ref('account_periods') }}
),

current_periods as (
    select
        account_id,
        period_start,
        period_end,
        previous_start,
        -- as far into the period before as this one is now
        {{ plus_hours('previous_start', hours_between('period_start', utc_literal(as_of()))) }} as same_point
    from periods
    where is_current
),

counted as (
    select
        hourly.account_id,
        hourly.meter,
        sum(case when hourly.hour_start >= periods.period_start then hourly.units else 0 end) as used_mtd,
        sum(
            case
                when hourly.hour_start >= periods.period_start and hourly.usage_date < {{ date_literal(as_of()) }}
                    then hourly.units
                else 0
            end
        ) as used_complete,
        sum(
            case
                when
                    hourly.hour_start >= periods.previous_start
                    and hourly.hour_start < least(periods.same_point, periods.period_start)
                    then hourly.units
                else 0
            end
        ) as used_same_point,
        max(periods.previous_start) as previous_start,
        sum(case when hourly.hour_start >= periods.period_start then hourly.events else 0 end) as events,
        -- what the events stand for: each for itself, but for those that were sampled
        sum(
            case
                when hourly.hour_start >= periods.period_start then coalesce(hourly.calls, hourly.events)
                else 0
            end
        ) as calls,
        sum(case when hourly.hour_start >= periods.period_start then hourly.sampling_variance else 0 end) as variance,
        sum(
            case
                when
                    hourly.hour_start >= periods.period_start
                    and hourly.last_late_at >= {{ plus_hours(utc_literal(as_of()), -24) }}
                    then hourly.late_calls
                else 0
            end
        ) as late_calls_24h,
        max(hourly.last_call_at) as last_call_at
    from {{ ref('hourly_usage') }} as hourly
    inner join current_periods as periods
        on
            hourly.account_id = periods.account_id
            and hourly.hour_start < periods.period_end
    group by hourly.account_id, hourly.meter
),

-- Usage of the business day: the one that people mean by today.
today as (
    select
        account_id,
        meter,
        units as used_today
    from {{ ref('daily_usage_business_zone') }}
    where usage_date = {{ business_date(utc_literal(as_of())) }}
),

last_readings as (
    select
        readings.account_id,
        readings.meter,
        max_by(readings.used, readings.reading_number) as used_mtd,
        max(readings.read_at) as last_call_at
    from {{ ref('gauge_readings') }} as readings
    inner join current_periods as periods
        on
            readings.account_id = periods.account_id
            and readings.read_at < periods.period_end
    -- what starts at 0 with each period has readings of this one alone
    where readings.period_start is null or readings.period_start = periods.period_start
    group by readings.account_id, readings.meter
),

final as (
    select
        counted.account_id as account_id,
        counted.meter as meter,
        cast(coalesce(today.used_today, 0) as bigint) as used_today,
        cast(counted.used_mtd as bigint) as used_mtd,
        cast(counted.used_complete as bigint) as used_complete,
        cast(case when counted.previous_start is not null then counted.used_same_point end as bigint)
            as used_same_point_last_period,
        cast(
            case when counted.events > 0 then {{ ratio('counted.events', 'counted.calls') }} else 1 end as decimal(7, 6)
        ) as sample_ratio,
        cast(
            case
                when counted.variance > 0
                    then {{ rounded('196 * sqrt(cast(counted.variance as double)) / counted.used_mtd') }}
                else 0
            end as decimal(24, 6)
        ) as ci95_pct,
        cast(counted.late_calls_24h as bigint) as late_calls_24h,
        counted.last_call_at
    from counted
    left join today
        on
            counted.account_id = today.account_id
            and counted.meter = today.meter

    union all

    select
        account_id,
        meter,
        cast(null as bigint) as used_today,
        used_mtd,
        cast(null as bigint) as used_complete,
        cast(null as bigint) as used_same_point_last_period,
        cast(1 as decimal(7, 6)) as sample_ratio,
        cast(0 as decimal(24, 6)) as ci95_pct,
        cast(0 as bigint) as late_calls_24h,
        last_call_at
    from last_readings
)

select * from final
