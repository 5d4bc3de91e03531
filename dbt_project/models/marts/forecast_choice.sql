with errors as (
    select
        account_id,
        forecast_method,
        method_order,
        count(*) as forecasts,
        sum(abs(error_pct)) as abs_error_pct
    from {{ ref('forecast_backtest') }}
    group by account_id, forecast_method, method_order
),

-- Each method has made the same forecasts of an account, so that the sums compare as the means do.
ranked as (
    select
        *,
        row_number() over (partition by account_id order by abs_error_pct, method_order) as place
    from errors
),

final as (
    select
        account_id,
        forecast_method,
        cast(cast(abs_error_pct as double) / forecasts as decimal(24, 6)) as mean_abs_error_pct,
        cast(forecasts as integer) as forecasts
    from ranked
    where place = 1
)

select * from final
