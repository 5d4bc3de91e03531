with profiles as (
    select * from {{ ref('account_profiles') }}
    -- of those that ever called
    where momentum_word is not null
),

-- A row for each day since the account's first call, days without one included: daily_usage has no holes.
days as (
    select
        daily.account_id,
        daily.usage_date,
        daily.calls
    from {{ ref('daily_usage') }} as daily
    inner join profiles on daily.account_id = profiles.account_id
    where daily.usage_date between profiles.days_through - 29 and profiles.days_through
),

used as (
    select
        account_id,
        cast(sum(calls) as bigint) as calls,
        count(*) as days_listed,
        count(case when calls > 0 then 1 end) as active_days,
        {{ joined_text("',' || cast(calls as varchar)", 'usage_date') }} as calls_listed
    from days
    group by account_id
),

facts as (
    select
        profiles.account_id as account_id,
        profiles.account_name,
        profiles.owner,
        profiles.days_through,
        coalesce(used.calls, 0) as calls,
        cast(sum(coalesce(used.calls, 0)) over () as bigint) as all_calls,
        cast(coalesce(used.active_days, 0) as integer) as active_days,
        profiles.last_call_at,
        max(profiles.last_call_at) over () as data_through,
        profiles.momentum_7d,
        profiles.momentum_30d,
        profiles.momentum_word,
        -- each count has its comma before it; the days before the first call are zeros
        substr(
            repeat(',0', cast(30 - coalesce(used.days_listed, 0) as integer)) || coalesce(used.calls_listed, ''), 2
        ) as calls_by_day
    from profiles
    left join used on profiles.account_id = used.account_id
),

aged as (
    select
        *,
        cast({{ hours_between('last_call_at', 'data_through') }} as bigint) as last_call_age_hours,
        case
            when active_days <= {{ var('tried_out_days') }}
                then least({{ var('tried_out_dormant_after_days') }}, {{ var('dormant_after_days') }})
            else {{ var('dormant_after_days') }}
        end as dormant_after_days
    from facts
),

final as (
    select
        cast(row_number() over (order by calls desc, account_id asc) as integer) as volume_rank,
        account_id,
        account_name,
        owner,
        calls,
        cast({{ percentage('calls', 'nullif(all_calls, 0)') }} as decimal(24, 6)) as share_pct,
        active_days,
        last_call_at,
        last_call_age_hours,
        momentum_7d,
        momentum_30d,
        case
            when last_call_age_hours >= 24 * dormant_after_days then 'dormant'
            when momentum_word = 'dropping' then 'check in'
            else momentum_word
        end as trend,
        case
            when last_call_age_hours >= 24 * dormant_after_days
                then {{ plus_hours('last_call_at', '24 * dormant_after_days') }}
        end as dormant_at,
        calls_by_day,
        days_through,
        data_through
    from aged
)

select * from final
