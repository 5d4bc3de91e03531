-- The moments that took reading calls are remembered for the next build, beside the marts: macros/recount.sql.
{{ config(post_hook="{{ remember_moments() }}") }}

with quotas as (
    select * from {{ ref('period_quotas') }}
    where quota_state = 'limited'
),

thresholds as (
    select * from {{ ref('period_thresholds') }}
),

totals as (
    select
        hours.account_id as account_id,
        hours.meter as meter,
        quotas.period_start as period_start,
        quotas.period_end as period_end,
        sum(hours.units) as used
    from {{ ref('hourly_usage') }} as hours
    inner join quotas
        on
            hours.account_id = quotas.account_id
            and hours.meter = quotas.meter
            and hours.hour_start >= quotas.period_start
            and hours.hour_start < quotas.period_end
    group by hours.account_id, hours.meter, quotas.period_start, quotas.period_end
),

-- What has reached no threshold, which is nearly all, is not looked into.
reaching as (
    select distinct
        totals.account_id as account_id,
        totals.meter as meter,
        totals.period_start as period_start,
        totals.period_end,
        totals.used
    from thresholds
    inner join totals
        on
            thresholds.account_id = totals.account_id
            and thresholds.meter = totals.meter
            and thresholds.period_start = totals.period_start
            and thresholds.reached_at_units <= totals.used
),

hourly as (
    select
        hours.account_id as account_id,
        hours.meter as meter,
        hours.usage_date,
        hours.hour_start,
        hours.units,
        reaching.period_start,
        reaching.used
    from {{ ref('hourly_usage') }} as hours
    inner join reaching
        on
            hours.account_id = reaching.account_id
            and hours.meter = reaching.meter
            and hours.hour_start >= reaching.period_start
            and hours.hour_start < reaching.period_end
),

days as (
    select
        account_id,
        meter,
        period_start,
        usage_date,
        used,
        sum(units) as units
    from hourly
    group by account_id, meter, period_start, usage_date, used
),

cumulated as (
    select
        *,
        sum(units) over (partition by account_id, meter, period_start order by usage_date) as units_by_day_end
    from days
),

-- The day on which the call came that reached the threshold, and which unit of that day it was; then the hour of that
-- day; then the moment. Each step looks only at what the one before has found.
crossing_days as (
    select
        cumulated.account_id,
        cumulated.meter,
        cumulated.period_start,
        cumulated.usage_date,
        cumulated.used,
        thresholds.threshold,
        thresholds.reached_at_units - (cumulated.units_by_day_end - cumulated.units) as unit_of_day
    from cumulated
    inner join thresholds
        on
            cumulated.account_id = thresholds.account_id
            and cumulated.meter = thresholds.meter
            and cumulated.period_start = thresholds.period_start
            and cumulated.units_by_day_end >= thresholds.reached_at_units
            and cumulated.units_by_day_end - cumulated.units < thresholds.reached_at_units
),

hours as (
    select
        account_id,
        meter,
        period_start,
        usage_date,
        hour_start,
        units,
        sum(units) over (
            partition by account_id, meter, period_start, usage_date order by hour_start
        ) as last_unit_of_day
    from hourly
    where
        (account_id, meter, usage_date) in (
            select
                crossed.account_id,
                crossed.meter,
                crossed.usage_date
            from crossing_days as crossed
        )
),

crossing_hours as (
    select
        crossing_days.*,
        hours.hour_start,
        cast(crossing_days.unit_of_day - (hours.last_unit_of_day - hours.units) as bigint) as unit_of_hour
    from crossing_days
    inner join hours
        on
            crossing_days.account_id = hours.account_id
            and crossing_days.meter = hours.meter
            and crossing_days.period_start = hours.period_start
            and crossing_days.usage_date = hours.usage_date
            and crossing_days.unit_of_day <= hours.last_unit_of_day
            and crossing_days.unit_of_day > hours.last_unit_of_day - hours.units
),

remembered as (
    {{ remembered_moments() }}
),

-- Which event that was takes reading the hour's events, unless the last build has.
known as (
    select
        crossing_hours.*,
        remembered.reached_at as remembered_at
    from crossing_hours
    left join remembered
        on
            crossing_hours.account_id = remembered.account_id
            and crossing_hours.meter = remembered.meter
            and crossing_hours.hour_start = remembered.hour_start
            and crossing_hours.unit_of_hour = remembered.unit_of_hour
),

hours_to_read as (
    select distinct
        account_id,
        meter,
        usage_date,
        hour_start
    from known
    where remembered_at is null
),

-- The join on event_date adds nothing to the result, but by it only the files of days with a crossing are opened.
events as (
    select
        recorded.account_id,
        recorded.meter,
        recorded.hour_start,
        recorded.event_at,
        recorded.units
    from {{ ref('stg_meter_values') }} as recorded
    inner join hours_to_read
        on
            recorded.event_date = hours_to_read.usage_date
            and recorded.account_id = hours_to_read.account_id
            and recorded.meter = hours_to_read.meter
            and recorded.hour_start = hours_to_read.hour_start
    where recorded.problem is null
),

-- Which of the hour's units those of a moment are: up to last_unit_of_hour.
moments as (
    select
        account_id,
        meter,
        hour_start,
        event_at,
        sum(units) as units,
        sum(sum(units)) over (partition by account_id, meter, hour_start order by event_at) as last_unit_of_hour
    from events
    group by account_id, meter, hour_start, event_at
),

crossing_calls as (
    select
        known.account_id,
        known.meter,
        known.period_start,
        known.threshold,
        known.used,
        known.hour_start,
        known.unit_of_hour,
        coalesce(known.remembered_at, moments.event_at) as reached_at
    from known
    left join moments
        on
            known.account_id = moments.account_id
            and known.meter = moments.meter
            and known.hour_start = moments.hour_start
            and known.unit_of_hour <= moments.last_unit_of_hour
            and known.unit_of_hour > moments.last_unit_of_hour - moments.units
),

-- A gauge crosses with the first reading of the period that shows so much where the one before did not, or with a quota
-- that is changed to below what it shows.
crossing_readings as (
    select
        quotas.account_id as account_id,
        quotas.meter as meter,
        quotas.period_start as period_start,
        thresholds.threshold,
        max_by(readings.used, readings.reading_number) as used,
        min(
            case
                when
                    readings.used >= thresholds.reached_at_units
                    and coalesce(readings.previous_used, -1) < thresholds.reached_at_units
                    and readings.read_at >= quotas.period_start
                    and readings.read_at >= quotas.effective_at
                    then readings.read_at
            end
        ) as risen_at,
        max_by(readings.read_at, case when readings.read_at < quotas.effective_at then readings.reading_number end)
            as read_before_at,
        max_by(readings.used, case when readings.read_at < quotas.effective_at then readings.reading_number end)
        >= max(thresholds.reached_at_units) and max(quotas.effective_at) >= max(quotas.period_start) as is_lowered_below
    from quotas
    inner join thresholds
        on
            quotas.account_id = thresholds.account_id
            and quotas.meter = thresholds.meter
            and quotas.period_start = thresholds.period_start
    inner join {{ ref('gauge_readings') }} as readings
        on
            quotas.account_id = readings.account_id
            and quotas.meter = readings.meter
            and quotas.period_end > readings.read_at
    where readings.period_start is null or readings.period_start = quotas.period_start
    group by quotas.account_id, quotas.meter, quotas.period_start, thresholds.threshold
),

reached as (
    select
        account_id,
        meter,
        period_start,
        threshold,
        used,
        hour_start,
        unit_of_hour,
        reached_at
    from crossing_calls

    union all

    select
        account_id,
        meter,
        period_start,
        threshold,
        used,
        cast(null as timestamp) as hour_start,
        cast(null as bigint) as unit_of_hour,
        case when is_lowered_below then read_before_at else risen_at end as reached_at
    from crossing_readings
    where is_lowered_below or risen_at is not null
),

final as (
    select
        reached.account_id as account_id,
        reached.meter as meter,
        quotas.unit,
        reached.period_start as period_start,
        quotas.period_end,
        quotas.quota_version,
        reached.threshold as threshold,
        thresholds.threshold_pct,
        thresholds.reached_at_units,
        thresholds.severity,
        thresholds.is_in_digest,
        thresholds.pace_matters,
        quotas.quota,
        cast(reached.used as bigint) as used,
        cast({{ percentage('reached.used', 'quotas.quota') }} as decimal(24, 6)) as pct_of_cap,
        reached.reached_at,
        reached.hour_start,
        reached.unit_of_hour,
        greatest(reached.reached_at, quotas.effective_at) as crossed_at,
        case
            when quotas.effective_at <= reached.reached_at then 'usage'
            when quotas.sent_quota > quotas.previous_quota then 'quota_raised'
            else 'quota_lowered'
        end as cause
    from reached
    inner join quotas
        on
            reached.account_id = quotas.account_id
            and reached.meter = quotas.meter
            and reached.period_start = quotas.period_start
    inner join thresholds
        on
            reached.account_id = thresholds.account_id
            and reached.meter = thresholds.meter
            and reached.period_start = thresholds.period_start
            and reached.threshold = thresholds.threshold
)

select * from final
