-- The hours of a billing period add up to a gauge's latest reading: the first one has all of it, the others changes.
with readings as (
    select
        readings.account_id as account_id,
        readings.meter as meter,
        date_trunc('hour', readings.read_at) as hour_start,
        max_by(readings.used, readings.reading_number) as used,
        max(readings.read_at) as last_call_at
    from {{ ref('gauge_readings') }} as readings
    where {{ is_billed_by('readings.meter', ['latest']) }}
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
        customers.stripe_customer_id as stripe_customer_id,
        periods.period_start as period_start,
        greatest(periods.period_start, customers.valid_from) as begins_at,
        least(periods.period_end, coalesce(periods.ends_at, periods.period_end), customers.valid_until) as ends_at
    from accounts
    inner join customers on accounts.account_id = customers.account_id
    inner join {{ ref('stg_subscription_periods') }} as periods
        on
            customers.stripe_customer_id = periods.stripe_customer_id
            and accounts.meter = periods.meter
            and customers.valid_until > periods.period_start
            and customers.valid_from < periods.period_end
),

-- A changed quota splits an account's own period, and begins no invoice.
own_parts as (
    select
        account_id,
        period_end,
        max(case when source <> 'quota change' then period_start end)
            over (partition by account_id order by period_start) as billed_from
    from {{ ref('account_periods') }}
),

own_periods as (
    select
        account_id,
        billed_from,
        max(period_end) as period_end
    from own_parts
    where billed_from is not null
    group by account_id, billed_from
),

own as (
    select
        accounts.account_id as account_id,
        accounts.meter as meter,
        customers.stripe_customer_id as stripe_customer_id,
        periods.billed_from as period_start,
        greatest(periods.billed_from, customers.valid_from) as begins_at,
        least(periods.period_end, customers.valid_until) as ends_at
    from accounts
    inner join customers on accounts.account_id = customers.account_id
    inner join own_periods as periods
        on
            accounts.account_id = periods.account_id
            and customers.valid_until > periods.billed_from
            and customers.valid_from < periods.period_end
),

-- The account's own periods hold where no subscription is known.
within_subscription as (
    select distinct
        own.account_id as account_id,
        own.meter as meter,
        own.begins_at as begins_at
    from own
    inner join subscribed
        on
            own.account_id = subscribed.account_id
            and own.meter = subscribed.meter
            and own.begins_at >= subscribed.begins_at
            and own.begins_at < subscribed.ends_at
),

begun as (
    select
        account_id,
        meter,
        stripe_customer_id,
        period_start,
        {{ first_hour("begins_at") }} as hour_start,
        ends_at
    from subscribed

    union all

    select
        own.account_id as account_id,
        own.meter as meter,
        own.stripe_customer_id as stripe_customer_id,
        own.period_start as period_start,
        {{ first_hour("own.begins_at") }} as hour_start,
        own.ends_at as ends_at
    from own
    left join within_subscription
        on
            own.account_id = within_subscription.account_id
            and own.meter = within_subscription.meter
            and own.begins_at = within_subscription.begins_at
    where within_subscription.account_id is null

    union all

    -- a customer begins a period also where none is known
    select
        accounts.account_id as account_id,
        accounts.meter as meter,
        customers.stripe_customer_id as stripe_customer_id,
        {{ utc_literal(since_ever()) }} as period_start,
        {{ first_hour("customers.valid_from") }} as hour_start,
        customers.valid_until as ends_at
    from accounts
    inner join customers on accounts.account_id = customers.account_id
),

said as (
    select
        account_id,
        meter,
        stripe_customer_id,
        period_start,
        hour_start,
        0 as is_reading
    from begun
    where hour_start < ends_at and hour_start <= {{ utc_literal(as_of()) }}

    union all

    select
        readings.account_id as account_id,
        readings.meter as meter,
        customers.stripe_customer_id as stripe_customer_id,
        {{ utc_literal(since_ever()) }} as period_start,
        readings.hour_start as hour_start,
        1 as is_reading
    from readings
    left join customers
        on
            readings.account_id = customers.account_id
            and readings.hour_start >= customers.valid_from
            and readings.hour_start < customers.valid_until
),

hours as (
    select
        account_id,
        meter,
        stripe_customer_id,
        hour_start,
        max(period_start) as period_start,
        max(is_reading) as is_reading
    from said
    group by account_id, meter, stripe_customer_id, hour_start
),

numbered as (
    select
        account_id,
        meter,
        stripe_customer_id,
        hour_start,
        max(period_start) over (
            partition by account_id, meter, stripe_customer_id
            order by hour_start rows between unbounded preceding and current row
        ) as billed_from,
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

-- What a customer was billed of the period so far is what stood when it was last said.
standing as (
    select
        numbered.account_id as account_id,
        numbered.meter as meter,
        numbered.stripe_customer_id as stripe_customer_id,
        numbered.hour_start as hour_start,
        standing_readings.used as used,
        standing_readings.last_call_at as last_call_at,
        lag(standing_readings.used) over (
            partition by numbered.account_id, numbered.meter, numbered.stripe_customer_id, numbered.billed_from
            order by numbered.hour_start
        ) as used_before
    from numbered
    inner join standing_readings
        on
            numbered.account_id = standing_readings.account_id
            and numbered.meter = standing_readings.meter
            and numbered.reading_hours = standing_readings.reading_hours
),

gauges as (
    select
        account_id,
        stripe_customer_id,
        meter,
        hour_start,
        cast(used - coalesce(used_before, 0) as bigint) as billable_units,
        cast(0 as bigint) as sampled_units,
        last_call_at
    from standing
),

-- What starts at 0 with the account's own usage period, and grows in it.
grown as (
    select
        account_id,
        meter,
        period_start,
        date_trunc('hour', read_at) as hour_start,
        max(used) as used,
        max(read_at) as last_call_at
    from {{ ref('gauge_readings') }}
    where {{ is_billed_by('meter', ['max', 'unique']) }}
    group by account_id, meter, period_start, date_trunc('hour', read_at)
),

-- What adds up, and the growth of what does not, by hour.
counted as (
    select
        account_id,
        meter,
        hour_start,
        cast(
            used - coalesce(
                lag({{ nullable('used') }}) over (partition by account_id, meter, period_start order by hour_start), 0
            ) as bigint
        ) as billable_units,
        cast(0 as bigint) as sampled_units,
        last_call_at
    from grown

    union all

    select
        account_id,
        meter,
        hour_start,
        billable_units,
        sampled_units,
        last_call_at
    from {{ ref('hourly_usage') }}
    where {{ is_billed_by('meter', ['count', 'sum']) }}
),

all_hours as (
    select * from gauges

    union all

    select
        counted.account_id as account_id,
        customers.stripe_customer_id as stripe_customer_id,
        counted.meter as meter,
        counted.hour_start as hour_start,
        counted.billable_units as billable_units,
        counted.sampled_units as sampled_units,
        counted.last_call_at as last_call_at
    from counted
    left join customers
        on
            counted.account_id = customers.account_id
            and counted.hour_start >= customers.valid_from
            and counted.hour_start < customers.valid_until
),

final as (
    select
        account_id,
        stripe_customer_id,
        meter,
        {{ stripe_meter_of('meter') }} as stripe_meter,
        hour_start,
        cast(0 as bigint) as calls,
        billable_units,
        cast(0 as bigint) as sampled_calls,
        sampled_units,
        last_call_at
    from all_hours
)

select * from final
where billable_units <> 0 or sampled_units <> 0
