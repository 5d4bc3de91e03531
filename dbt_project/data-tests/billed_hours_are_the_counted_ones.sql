{{ config(meta={"dagster": {"ref": {"name": "billing_reconciliation_hourly"}}}) }}
-- Added up in two ways: all customers' units of each day, and each hour once.
with billed as (
    select
        cast(hour_start as date) as hour_date,
        count(*) - count(distinct stripe_customer_id || ' ' || cast(hour_start as varchar)) as doubled_rows,
        sum(billable_units) as units
    from {{ ref('billing_reconciliation_hourly') }}
    group by hour_date
),

counted as (
    select
        cast(hour_start as date) as hour_date,
        sum(billable_units{% if bills_sampled() %} + sampled_units{% endif %}) as units
    from {{ ref('billable_usage_hourly') }}
    where
        stripe_customer_id is not null
        and hour_start >= {{ utc_literal(days_ago(var("billed_usage_days"))) }}
    group by hour_date
)

select
    coalesce(counted.hour_date, billed.hour_date) as hour_date,
    counted.units as units_counted,
    billed.units as units_in_billing_reconciliation_hourly,
    billed.doubled_rows
from counted
full outer join billed on counted.hour_date = billed.hour_date
where
    coalesce(counted.units, 0) <> coalesce(billed.units, 0)
    or billed.doubled_rows > 0
