-- The hours of a billing period add up to a gauge's latest reading: the first one has all of it, the others changes.
with gauges as (
    select
        meter,
        stripe_meter
    from {{ ref('meters') }}
    where aggregation = 'latest' and stripe_meter is not null and stripe_meter <> ''
),

readings as (
    select
        readings.account_id as account_id,
        readings.meter as meter,
        date_trunc('hour', readings.read_at) as hour_start,
        max_by(readings.used, readings.reading_number) as used,
        max(readings.read_at) as last_call_at
    from {{ ref('gauge_readings') }} as readings
    inner join gauges on readings.meter = gauges.meter
    group by readings.account_id, readings.meter, date_trunc('hour', readings.read_at)
),

accounts as (
    select distinct
        account_id,
        meter
    from readings
),

customers as (
    select * from {{ ref('account_customers') }}
),

subscribed as (
    select
        accounts.account_id as account_id,
        accounts.meter as meter,
        greatest(periods.period_start, customers.valid_from) as period_start,
        least(periods.period_end, coalesce(periods.ends_at, periods.period_end), customers.valid_until) as period_end
    from accounts
    inner join customers on accounts.account_id = customers.account_id
    inner join {{ ref('stg_subscription_periods') }} as periods
        on
            customers.stripe_customer_id = periods.stripe_customer_id
            and accounts.meter = periods.meter
            and customers.valid_until > periods.period_start
            and customers.valid_from < periods.period_end
),

-- The account's own periods hold where no subscription is known; a changed quota begins no invoice.
within_subscription as (
    select distinct
        periods.account_id as account_id,
        subscribed.meter as meter,
        periods.period_start as period_start
    from {{ ref('account_periods') }} as periods
    inner join subscribed
        on
            periods.account_id = subscribed.account_id
            and periods.period_start > subscribed.period_start
            and periods.period_start < subscribed.period_end
),

own as (
    select
        accounts.account_id as account_id,
        accounts.meter as meter,
        periods.period_start as period_start
    from {{ ref('account_periods') }} as periods
    inner join accounts on periods.account_id = accounts.account_id
    left join within_subscription
        on
            accounts.account_id = within_subscription.account_id
            and accounts.meter = within_subscription.meter
            and periods.period_start = within_subscription.period_start
    where periods.source <> 'quota change' and within_subscription.account_id is null
),

starts as (
    select
        account_id,
        meter,
        date_trunc('hour', period_start) as hour_start
    from subscribed

    union distinct

    select
        account_id,
        meter,
        date_trunc('hour', period_start) as hour_start
    from own

    union distinct

    select
        accounts.account_id as account_id,
        accounts.meter as meter,
        date_trunc('hour', customers.valid_from) as hour_start
    from accounts
    inner join customers on accounts.account_id = customers.account_id
),

hours as (
    select
        account_id,
        meter,
        hour_start,
        max(is_start) as is_start,
        max(is_reading) as is_reading
    from (
        select
            account_id,
            meter,
            hour_start,
            1 as is_start,
            0 as is_reading
        from starts
        where hour_start <= {{ utc_literal(as_of()) }}

        union all

        select
            account_id,
            meter,
            hour_start,
            0 as is_start,
            1 as is_reading
        from readings
    ) as said
    group by account_id, meter, hour_start
),

numbered as (
    select
        account_id,
        meter,
        hour_start,
        is_start,
        sum(is_reading) over (
            partition by account_id, meter order by hour_start rows between unbounded preceding and current row
        ) as reading_hours
    from hours
),

-- Which reading stands at the end of an hour: the last one before, or in it.
standing_readings as (
    select
        account_id,
        meter,
        used,
        last_call_at,
        row_number() over (partition by account_id, meter order by hour_start) as reading_hours
    from readings
),

standing as (
    select
        numbered.account_id as account_id,
        numbered.meter as meter,
        numbered.hour_start as hour_start,
        numbered.is_start as is_start,
        standing_readings.used as used,
        standing_readings.last_call_at as last_call_at,
        lag(standing_readings.used) over (
            partition by numbered.account_id, numbered.meter order by numbered.hour_start
        ) as used_before
    from numbered
    inner join standing_readings
        on
            numbered.account_id = standing_readings.account_id
            and numbered.meter = standing_readings.meter
            and numbered.reading_hours = standing_readings.reading_hours
),

final as (
    select
        standing.account_id as account_id,
        customers.stripe_customer_id as stripe_customer_id,
        standing.meter as meter,
        gauges.stripe_meter as stripe_meter,
        standing.hour_start as hour_start,
        cast(0 as bigint) as calls,
        cast(
            standing.used - case when standing.is_start = 1 then 0 else coalesce(standing.used_before, 0) end as bigint
        ) as billable_units,
        cast(0 as bigint) as sampled_calls,
        cast(0 as bigint) as sampled_units,
        standing.last_call_at as last_call_at
    from standing
    inner join gauges on standing.meter = gauges.meter
    left join customers
        on
            standing.account_id = customers.account_id
            and standing.hour_start >= customers.valid_from
            and standing.hour_start < customers.valid_until
)

select * from final
where billable_units <> 0
