-- Whole weeks against whole weeks, so that each side has the same weekdays.
with last_calls as (
    select
        account_id,
        meter,
        max(last_call_at) as last_call_at
    from {{ ref('hourly_usage') }}
    group by account_id, meter
),

last_days as (
    -- Where a meter's feed stopped, its windows stop with it: silence of everybody is no drop of each account.
    select
        meter,
        least(cast({{ utc_literal(as_of()) }} as date) - 1, cast(max(last_call_at) as date)) as days_through
    from last_calls
    group by meter
),

days as (
    select
        daily.account_id as account_id,
        daily.meter as meter,
        -- whatever a call is worth, a customer is there who calls
        coalesce(daily.calls, daily.units) as used,
        last_days.days_through,
        last_days.days_through - daily.usage_date as days_before,
        last_calls.last_call_at
    from {{ ref('daily_usage') }} as daily
    inner join last_days on daily.meter = last_days.meter
    left join last_calls
        on
            daily.account_id = last_calls.account_id
            and daily.meter = last_calls.meter
),

windows as (
    select
        account_id,
        meter,
        max(days_through) as days_through,
        max(last_call_at) as last_call_at,
        greatest(max(days_before) + 1, 0) as history_days,
        cast(sum(case when days_before between 0 and 6 then used else 0 end) as bigint) as used_7d,
        cast(sum(case when days_before between 7 and 13 then used else 0 end) as bigint) as used_previous_7d,
        cast(sum(case when days_before between 0 and 27 then used else 0 end) as bigint) as used_28d,
        cast(sum(case when days_before between 28 and 55 then used else 0 end) as bigint) as used_previous_28d
    from days
    group by account_id, meter
),

final as (
    select
        account_id,
        meter,
        days_through,
        cast(history_days as integer) as history_days,
        used_7d,
        used_previous_7d,
        cast(
            case when history_days >= 14 then {{ percentage('used_7d', 'nullif(used_previous_7d, 0)') }} - 100 end
            as decimal(24, 6)
        ) as momentum_7d,
        used_28d,
        used_previous_28d,
        cast(
            case when history_days >= 56 then {{ percentage('used_28d', 'nullif(used_previous_28d, 0)') }} - 100 end
            as decimal(24, 6)
        ) as momentum_30d,
        case
            when history_days < 14 then 'too early'
            when
                used_previous_7d >= {{ var('momentum_min_weekly_calls') }}
                and used_7d * 100 < used_previous_7d * (100 + {{ var('dropping_below_pct') }})
                then 'dropping'
            when history_days < 56 then 'too early'
            when
                used_28d >= 4 * {{ var('momentum_min_weekly_calls') }}
                and used_28d * 100 > used_previous_28d * (100 + {{ var('growing_above_pct') }})
                then 'growing'
            else 'steady'
        end as momentum_word,
        last_call_at
    from windows
)

select * from final
