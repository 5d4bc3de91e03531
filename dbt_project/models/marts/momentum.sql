-- Whole weeks against whole weeks, so that each side has the same weekdays.
with last_calls as (
    select
        account_id,
        max(last_call_at) as last_call_at
    from {{ ref('hourly_usage') }}
    group by account_id
),

last_days as (
    -- Where the feed stopped, the windows stop with it: silence of everybody is no drop of each account.
    select least(cast({{ utc_literal(as_of()) }} as date) - 1, cast(max(last_call_at) as date)) as days_through
    from last_calls
),

days as (
    select
        daily.account_id as account_id,
        daily.calls,
        last_days.days_through,
        last_days.days_through - daily.usage_date as days_before,
        last_calls.last_call_at
    from {{ ref('daily_usage') }} as daily
    cross join last_days
    left join last_calls on daily.account_id = last_calls.account_id
),

windows as (
    select
        account_id,
        max(days_through) as days_through,
        max(last_call_at) as last_call_at,
        greatest(max(days_before) + 1, 0) as history_days,
        cast(sum(case when days_before between 0 and 6 then calls else 0 end) as bigint) as calls_7d,
        cast(sum(case when days_before between 7 and 13 then calls else 0 end) as bigint) as calls_previous_7d,
        cast(sum(case when days_before between 0 and 27 then calls else 0 end) as bigint) as calls_28d,
        cast(sum(case when days_before between 28 and 55 then calls else 0 end) as bigint) as calls_previous_28d
    from days
    group by account_id
),

final as (
    select
        account_id,
        days_through,
        cast(history_days as integer) as history_days,
        calls_7d,
        calls_previous_7d,
        cast(
            case when history_days >= 14 then {{ percentage('calls_7d', 'nullif(calls_previous_7d, 0)') }} - 100 end
            as decimal(24, 6)
        ) as momentum_7d,
        calls_28d,
        calls_previous_28d,
        cast(
            case when history_days >= 56 then {{ percentage('calls_28d', 'nullif(calls_previous_28d, 0)') }} - 100 end
            as decimal(24, 6)
        ) as momentum_30d,
        case
            when history_days < 14 then 'too early'
            when
                calls_previous_7d >= {{ var('momentum_min_weekly_calls') }}
                and calls_7d * 100 < calls_previous_7d * (100 + {{ var('dropping_below_pct') }})
                then 'dropping'
            when history_days < 56 then 'too early'
            when
                calls_28d >= 4 * {{ var('momentum_min_weekly_calls') }}
                and calls_28d * 100 > calls_previous_28d * (100 + {{ var('growing_above_pct') }})
                then 'growing'
            else 'steady'
        end as momentum_word,
        last_call_at
    from windows
)

select * from final
