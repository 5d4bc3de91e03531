-- Definitions D2: level = mean of the last 7 complete days, shape = weekday mean of the last 28 over their overall
-- mean. The overall mean is that of the weekday means, so that the seven shapes sum to seven with any history.
with days as (
    select
        account_id,
        usage_date,
        calls,
        {{ iso_weekday('usage_date') }} as iso_weekday,
        cast({{ utc_literal(as_of()) }} as date) - usage_date as days_ago
    from {{ ref('daily_usage') }}
    where is_complete
),

levels as (
    select
        account_id,
        max(days_ago) as history_days,
        avg(case when days_ago <= 7 then calls end) as level_7d
    from days
    group by account_id
),

weekdays as (
    select
        account_id,
        iso_weekday,
        -- decimals, so that sums do not depend on the order in which threads add up
        cast(avg(calls) as decimal(24, 6)) as weekday_mean
    from days
    where days_ago <= 28
    group by account_id, iso_weekday
),

shapes as (
    select
        account_id,
        iso_weekday,
        cast(weekday_mean as double)
        / nullif(cast(avg(weekday_mean) over (partition by account_id) as double), 0) as shape_ratio
    from weekdays
),

final as (
    select
        levels.account_id,
        cast(all_weekdays.iso_weekday as integer) as iso_weekday,
        cast(levels.history_days as integer) as history_days,
        case
            when levels.history_days < 3 then 'too early'
            when levels.history_days < 14 then 'level'
            else 'level and weekday shape'
        end as forecast_method,
        cast(case when levels.history_days >= 3 then levels.level_7d end as double) as level_7d,
        cast(
            case
                when levels.history_days >= 14
                    then levels.level_7d * coalesce(shapes.shape_ratio, 0)
                when levels.history_days >= 3 then levels.level_7d
            end as decimal(24, 6)
        ) as expected_calls
    from levels
    cross join (values (1), (2), (3), (4), (5), (6), (7)) as all_weekdays (iso_weekday)
    left join shapes
        on
            levels.account_id = shapes.account_id
            and all_weekdays.iso_weekday = shapes.iso_weekday
)

select * from final
