-- docs/meaning/definitions.md#projection: level = mean of the last 7 complete days, shape = weekday mean of the last 28
-- over their overall mean. The overall mean is that of the weekday means, so that the seven shapes sum to seven with
-- any history. Where another method did clearly better in the account's own past, that one is taken: forecast_choice.
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
        cast({{ utc_literal(as_of()) }} as date) - usage_date as days_ago,
        case when usage_date >= {{ date_literal(days_ago(28)) }} then {{ iso_weekday('usage_date') }} end
            as recent_weekday
    from {{ ref('daily_usage') }}
    where
        is_complete
        and {{ is_forecast('meter') }}
),

levels as (
    select
        days.account_id,
        days.meter,
        -- decimals, so that sums do not depend on the order in which threads add up
        {% for weekday in range(1, 8) %}
            {{ rounded("avg(case when days.recent_weekday = " ~ weekday ~ " then days.units end)") }}
                as mean_{{ weekday }},
        {% endfor %}
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

shapes as (
    select
        methods.*,
        cast(
            {% for weekday in range(1, 8) -%}
                coalesce(mean_{{ weekday }}, 0){{ " + " if not loop.last }}
            {%- endfor %} as double
        ) / nullif(
            {% for weekday in range(1, 8) -%}
                case when mean_{{ weekday }} is null then 0 else 1 end{{ " + " if not loop.last }}
            {%- endfor %}, 0
        ) as overall_mean
    from methods
),

weekdays as (
    select
        shapes.*,
        all_weekdays.iso_weekday,
        case all_weekdays.iso_weekday
            {% for weekday in range(1, 8) -%}
                when {{ weekday }} then mean_{{ weekday }}
            {% endfor %}
        end as weekday_mean
    from shapes
    cross join (values (1), (2), (3), (4), (5), (6), (7)) as all_weekdays (iso_weekday)
),

final as (
    select
        account_id,
        meter,
        cast(iso_weekday as integer) as iso_weekday,
        cast(history_days as integer) as history_days,
        forecast_method,
        cast(case when history_days >= 3 then level_7d end as double) as level_7d,
        case forecast_method
            when 'level' then {{ rounded('level_7d') }}
            when 'level and weekday shape'
                then {{ rounded('level_7d * coalesce(cast(weekday_mean as double) / nullif(overall_mean, 0), 0)') }}
            when 'linear of complete days' then {{ rounded('period_mean') }}
        end as expected_units
    from weekdays
)

select * from final
