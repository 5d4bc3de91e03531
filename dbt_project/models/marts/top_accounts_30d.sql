with moved as (
    select * from {{ ref('momentum') }}
),

windows as (
    select
        meter,
        max(days_through) as days_through
    from moved
    group by meter
),

-- The days with a call: fewer than daily_usage has, and the others are zeros.
days as (
    select
        daily.account_id as account_id,
        daily.meter as meter,
        windows.days_through - daily.usage_date as days_before,
        -- whatever a call is worth, a customer is there who calls
        coalesce(daily.calls, daily.units) as used
    from {{ ref('daily_usage') }} as daily
    inner join windows on daily.meter = windows.meter
    where
        daily.usage_date between windows.days_through - 29 and windows.days_through
        and coalesce(daily.calls, daily.units) > 0
),

counted as (
    select
        account_id,
        meter,
        cast(sum(used) as bigint) as used,
        count(*) as active_days,
        {% for days_before in range(29, -1, -1) -%}
            cast(coalesce(max(case when days_before = {{ days_before }} then used end), 0) as varchar)
            {{- " || ',' || " if not loop.last }}
        {%- endfor %} as used_by_day
    from days
    group by account_id, meter
),

facts as (
    select
        moved.account_id as account_id,
        moved.meter as meter,
        profiles.account_name,
        profiles.owner,
        moved.days_through,
        coalesce(counted.used, 0) as used,
        cast(sum(coalesce(counted.used, 0)) over (partition by moved.meter) as bigint) as all_used,
        cast(coalesce(counted.active_days, 0) as integer) as active_days,
        moved.last_call_at,
        max(moved.last_call_at) over (partition by moved.meter) as data_through,
        moved.momentum_7d,
        moved.momentum_30d,
        moved.momentum_word,
        coalesce(counted.used_by_day, '0' || repeat(',0', 29)) as used_by_day
    from moved
    left join counted
        on
            moved.account_id = counted.account_id
            and moved.meter = counted.meter
    left join {{ ref('account_profiles') }} as profiles on moved.account_id = profiles.account_id
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
        cast(row_number() over (partition by meter order by used desc, account_id asc) as integer) as volume_rank,
        account_id,
        meter,
        account_name,
        owner,
        case when {{ is_of_calls('meter') }} then used end as calls,
        used,
        cast({{ percentage('used', 'nullif(all_used, 0)') }} as decimal(24, 6)) as share_pct,
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
        used_by_day,
        days_through,
        data_through
    from aged
)

select * from final
