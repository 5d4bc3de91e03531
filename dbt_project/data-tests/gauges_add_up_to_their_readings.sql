{{ config(meta={"dagster": {"ref": {"name": "billable_meters_hourly"}}}) }}
-- Of the billing periods that run: what was said of a period so far is the latest reading, counted without the model.
with customers as (
    select * from {{ ref('account_customers') }}
    where
        {{ first_hour("valid_from") }} <= {{ utc_literal(as_of()) }}
        and valid_until > {{ utc_literal(as_of()) }}
),

latest as (
    select
        readings.account_id as account_id,
        readings.meter as meter,
        max_by(readings.used, readings.reading_number) as used
    from {{ ref('gauge_readings') }} as readings
    where {{ is_billed_by('readings.meter', ['latest']) }}
    group by readings.account_id, readings.meter
),

subscriptions as (
    select
        stripe_customer_id,
        meter,
        max(period_start) as period_start
    from {{ ref('stg_subscription_periods') }}
    where
        {{ first_hour("period_start") }} <= {{ utc_literal(as_of()) }}
        and least(period_end, coalesce(ends_at, period_end)) > {{ utc_literal(as_of()) }}
    group by stripe_customer_id, meter
),

own as (
    select
        account_id,
        max(period_start) as period_start
    from {{ ref('account_periods') }}
    where source <> 'quota change' and {{ first_hour("period_start") }} <= {{ utc_literal(as_of()) }}
    group by account_id
),

running as (
    select
        customers.account_id as account_id,
        customers.stripe_customer_id as stripe_customer_id,
        latest.meter as meter,
        latest.used as used,
        subscriptions.period_start as period_start
    from customers
    inner join latest on customers.account_id = latest.account_id
    inner join subscriptions
        on
            customers.stripe_customer_id = subscriptions.stripe_customer_id
            and latest.meter = subscriptions.meter

    union all

    select
        customers.account_id as account_id,
        customers.stripe_customer_id as stripe_customer_id,
        latest.meter as meter,
        latest.used as used,
        own.period_start as period_start
    from customers
    inner join latest on customers.account_id = latest.account_id
    inner join own on customers.account_id = own.account_id
    where
        customers.stripe_customer_id not in (
            select known.stripe_customer_id from {{ ref('stg_subscription_periods') }} as known
        )
),

added_up as (
    select
        running.account_id,
        running.meter,
        running.stripe_customer_id,
        running.period_start,
        running.used as latest_reading,
        coalesce(sum(hours.billable_units), 0) as billed
    from running
    left join {{ ref('billable_meters_hourly') }} as hours
        on
            running.account_id = hours.account_id
            and running.meter = hours.meter
            and running.stripe_customer_id = hours.stripe_customer_id
            and running.period_start <= hours.hour_start
    group by running.account_id, running.meter, running.stripe_customer_id, running.period_start, running.used
)

select * from added_up
where latest_reading <> billed
