{{ config(meta={"dagster": {"ref": {"name": "forecast_backtest"}}}) }}
-- Forecasts are compared with what was counted: used_then and the days after it are the whole month, once.
with months as (
    select
        account_id,
        cast(date_trunc('month', usage_date) as date) as month_start,
        sum(calls) as calls
    from {{ ref('daily_usage') }}
    group by account_id, cast(date_trunc('month', usage_date) as date)
)

select
    backtest.account_id,
    backtest.period_start,
    backtest.forecast_day,
    backtest.actual_calls,
    months.calls
from {{ ref('forecast_backtest') }} as backtest
left join months
    on
        backtest.account_id = months.account_id
        and cast(backtest.period_start as date) = months.month_start
group by backtest.account_id, backtest.period_start, backtest.forecast_day, backtest.actual_calls, months.calls
having coalesce(months.calls, 0) <> backtest.actual_calls or count(*) <> 3
