{{ config(meta={"dagster": {"ref": {"name": "forecast_backtest"}}}) }}
-- Forecasts are compared with what was counted: used_then and the days after it are the whole period, once.
with periods as (
    select
        periods.account_id,
        daily.meter,
        periods.period_start,
        sum(daily.units) as units
    from {{ ref('daily_usage') }} as daily
    inner join {{ ref('account_periods') }} as periods
        on
            daily.account_id = periods.account_id
            and daily.usage_date >= cast(periods.period_start as date)
            and daily.usage_date < cast(periods.period_end as date)
    where not periods.is_current
    group by periods.account_id, daily.meter, periods.period_start
)

select
    backtest.account_id,
    backtest.meter,
    backtest.period_start,
    backtest.forecast_day,
    backtest.actual_units,
    periods.units
from {{ ref('forecast_backtest') }} as backtest
left join periods
    on
        backtest.account_id = periods.account_id
        and backtest.meter = periods.meter
        and backtest.period_start = periods.period_start
group by
    backtest.account_id,
    backtest.meter,
    backtest.period_start,
    backtest.forecast_day,
    backtest.actual_units,
    periods.units
having coalesce(periods.units, 0) <> backtest.actual_units or count(*) <> 3
