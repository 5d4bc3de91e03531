with hourly as (
    select * from {{ ref('hourly_usage') }}
),

daily as (
    select
        account_id,
        meter,
        usage_date,
        cast(sum(calls) as bigint) as calls,
        cast(sum(units) as bigint) as units
    from hourly
    group by account_id, meter, usage_date
),

-- In order: the days of one account are then found without reading the others.
lifetimes as (
    select
        account_id,
        meter,
        min(usage_date) as first_date,
        greatest(max(usage_date), cast({{ utc_literal(as_of()) }} as date)) as last_date
    from daily
    group by account_id, meter
    order by account_id, meter
),

account_days as (
    select
        account_id,
        meter,
        {{ days_from('first_date', 'last_date') }} as usage_date
    from lifetimes
),

final as (
    select
        account_days.account_id as account_id,
        account_days.meter as meter,
        account_days.usage_date as usage_date,
        case when {{ is_of_calls('account_days.meter') }} then coalesce(daily.calls, 0) end as calls,
        coalesce(daily.units, 0) as units,
        account_days.usage_date < cast({{ utc_literal(as_of()) }} as date) as is_complete
    from account_days
    left join daily
        on
            account_days.account_id = daily.account_id
            and account_days.meter = daily.meter
            and account_days.usage_date = daily.usage_date
)

select * from final
