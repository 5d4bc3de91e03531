-- docs/definitions.md#projection: level = mean of the last 7 complete days, shape = weekday mean of the last 28 over
-- their overall mean. The overall mean is that of the weekday means, so that the seven shapes sum to seven with any
-- history. Where another method did clearly better in the account's own past, that one is taken: forecast_choice.
with choices as (
    select * from {{ ref('forecast_choice') }}
),

periods as (
    select
        account_id,
        cast(period_start as date) as start_date
    from {{ ref('account_periods') }}
    where is_current
),

days as (
    select
        account_id,
        meter,
        usage_date,
        units,
        {{ iso_weekday('usage_date') }} as iso_weekday,
        cast({{ utc_literal(as_of()) }} as date) - usage_date as days_ago
    from {{ ref('daily_usage') }}
    where
        is_complete
        and {{ is_forecast('meter') }}
),

levels as (
    select
        days.account_id,
        days.meter,
        max(days.days_ago) as history_days,
        avg(case when days.days_ago <= 7 then days.units end) as level_7d,
        avg(case when days.usage_date >= periods.start_date then days.units end) as period_mean
    from days
    left join periods on days.account_id = periods.account_id
    group by days.account_id, days.meter
),

methods as (
    select
        levels.*,
        case
            when levels.history_days < 3 then 'too early'
            when levels.history_days < 14 then 'level'
            else coalesce(choices.forecast_method, 'level and weekday shape')
        end as forecast_method
    from levels
    left join choices
        on
            levels.account_id = choices.account_id
            and levels.meter = choices.meter
),

weekdays as (
    select
        account_id,
        meter,
        iso_weekday,
        -- decimals, so that sums do not depend on the order in which threads add up
        {{ rounded('avg(units)') }} as weekday_mean
    from days
    where days_ago <= 28
    group by account_id, meter, iso_weekday
),

shapes as (
    select
        account_id,
        meter,
        iso_weekday,
        cast(weekday_mean as double)
        / nullif(cast(avg(weekday_mean) over (partition by account_id, meter) as double), 0) as shape_ratio
    from weekdays
),

final as (
    select
        methods.account_id as account_id,
        methods.meter as meter,
        cast(all_weekdays.iso_weekday as integer) as iso_weekday,
        cast(methods.history_days as integer) as history_days,
        methods.forecast_method,
        cast(case when methods.history_days >= 3 then methods.level_7d end as double) as level_7d,
        case methods.forecast_method
            when 'level' then {{ rounded('methods.level_7d') }}
            when 'level and weekday shape' then {{ rounded('methods.level_7d * coalesce(shapes.shape_ratio, 0)') }}
            when 'linear of complete days' then {{ rounded('methods.period_mean') }}
        end as expected_units
    from methods
    cross join (values (1), (2), (3), (4), (5), (6), (7)) as all_weekdays (iso_weekday)
    left join shapes
        on
            methods.account_id = shapes.account_id
            and methods.meter = shapes.meter
            and all_weekdays.iso_weekday = shapes.iso_weekday
)

select * from final
