-- docs/meaning/definitions.md#projection at past moments: what each method would have said, from the complete days
-- known then.
with periods as (
    select
        account_id,
        period_start,
        cast(period_start as date) as first_date,
        cast(period_end as date) as end_date,
        row_number() over (partition by account_id order by period_start desc) as periods_ago
    from {{ ref('account_periods') }}
    where
        not is_current
        and {{ days_between('period_start', 'period_end') }} >= 28
),

-- Day 8 has one week of the period behind it, 15 and 22 have two and three.
points as (
    select
        periods.*,
        forecast_days.forecast_day,
        periods.first_date + forecast_days.forecast_day - 1 as forecast_on
    from periods
    cross join (values (8), (15), (22)) as forecast_days (forecast_day)
    where periods.periods_ago <= 3
),

days as (
    select
        account_id,
        meter,
        usage_date,
        units,
        {{ iso_weekday('usage_date') }} as iso_weekday
    from {{ ref('daily_usage') }}
    where
        is_complete
        and {{ is_forecast('meter') }}
),

-- A day before the forecast is history, back to 28 days; one from then to the end of the period was still to come.
weekdays as (
    select
        days.account_id,
        days.meter,
        days.iso_weekday,
        points.forecast_on,
        {{ rounded('avg(case when days.usage_date < points.forecast_on then days.units end)') }} as weekday_mean,
        count(case when days.usage_date < points.forecast_on then 1 end) as history_days,
        cast(count(case when days.usage_date >= points.forecast_on then 1 end) as integer) as later_days,
        sum(case when days.usage_date >= points.forecast_on then days.units else 0 end) as later_units,
        sum(
            case
                when days.usage_date >= points.forecast_on - 7 and days.usage_date < points.forecast_on then days.units
                else 0
            end
        ) as week_units,
        sum(
            case
                when days.usage_date >= points.first_date and days.usage_date < points.forecast_on then days.units
                else 0
            end
        ) as used,
        count(
            case when days.usage_date >= points.first_date and days.usage_date < points.forecast_on then 1 end
        ) as used_days
    from days
    inner join points
        on
            days.account_id = points.account_id
            and days.usage_date >= points.forecast_on - 28
            and days.usage_date < points.end_date
    group by days.account_id, days.meter, days.iso_weekday, points.forecast_on
),

-- Below 3 days of history there is no forecast, as in expected_usage.
known as (
    select
        weekdays.account_id,
        weekdays.meter,
        weekdays.forecast_on,
        sum(weekdays.history_days) as history_days,
        cast(sum(weekdays.used) as bigint) as used,
        cast(sum(weekdays.used) + sum(weekdays.later_units) as bigint) as actual_units,
        sum(weekdays.later_days) as later_days,
        cast(sum(weekdays.week_units) as double) / least(sum(weekdays.history_days), 7) as level_7d,
        cast(sum(weekdays.used) as double) / sum(weekdays.used_days) as period_mean,
        -- the later days in days of average weight: each counts by its weekday's share
        cast(sum(weekdays.weekday_mean * weekdays.later_days) as double)
        / nullif(cast(avg(weekdays.weekday_mean) as double), 0) as shaped_days
    from weekdays
    group by weekdays.account_id, weekdays.meter, weekdays.forecast_on
    having sum(weekdays.history_days) >= 3 and sum(weekdays.used) + sum(weekdays.later_units) > 0
),

forecasts as (
    select
        known.*,
        methods.method_order,
        methods.forecast_method,
        cast(
            floor(
                0.5 + case
                    when methods.method_order = 3 then known.period_mean * known.later_days
                    when methods.method_order = 2 and known.history_days >= 14
                        then known.level_7d * coalesce(known.shaped_days, 0)
                    else known.level_7d * known.later_days
                end
            ) as bigint
        ) + known.used as forecast_units
    from known
    cross join (
        values (1, 'level'), (2, 'level and weekday shape'), (3, 'linear of complete days')
    ) as methods (method_order, forecast_method)
),

final as (
    select
        forecasts.account_id,
        forecasts.meter,
        points.period_start,
        cast(points.forecast_day as integer) as forecast_day,
        forecasts.forecast_method,
        cast(forecasts.method_order as integer) as method_order,
        cast(forecasts.history_days as integer) as history_days,
        forecasts.used as used_then,
        forecasts.forecast_units,
        forecasts.actual_units,
        cast(
            {{ percentage('(forecasts.forecast_units - forecasts.actual_units)', 'forecasts.actual_units') }}
            as decimal(24, 6)
        ) as error_pct
    from forecasts
    inner join points
        on
            forecasts.account_id = points.account_id
            and forecasts.forecast_on = points.forecast_on
)

select * from final
