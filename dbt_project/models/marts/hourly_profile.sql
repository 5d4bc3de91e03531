{{ config(materialized="view") }} -- 24 rows for each account: what one or some of them have is counted when asked for

-- Not a CTE: DuckDB goes through all hours for one that is read twice, also when asked for one account among a million.
{% set hours -%}
(
    select
        account_id,
        account_hash,
        usage_date,
        cast(extract(hour from hour_start) as integer) as hour_of_day,
        calls
    from {{ ref('hourly_usage') }}
    where
        {{ is_of_calls('meter') }}
        and usage_date >= {{ date_literal(days_ago(28)) }}
        and usage_date < {{ date_literal(days_ago(0)) }}
)
{%- endset %}

-- daily_usage has a row for each day since the first call: a young account's mean is not over days before it
with lifetimes as (
    select
        account_id,
        count(*) as days -- noqa: RF04
    from {{ ref('daily_usage') }}
    where
        {{ is_of_calls('meter') }}
        and usage_date >= {{ date_literal(days_ago(28)) }}
        and usage_date < {{ date_literal(days_ago(0)) }}
    group by account_id
),

days as (
    select
        hours.account_id,
        hours.account_hash,
        hours.usage_date,
        sum(hours.calls) as calls,
        max(hours.calls) as busiest_hour_calls
    from {{ hours }} as hours
    group by hours.account_id, hours.account_hash, hours.usage_date
),

accounts as (
    select
        account_id,
        account_hash,
        count(*) as active_days,
        sum(calls) as calls,
        sum(busiest_hour_calls) as busiest_hours_calls
    from days
    group by account_id, account_hash
),

hours_of_day as (
    select
        account_id,
        account_hash,
        hour_of_day,
        sum(calls) as calls
    from {{ hours }} as hours
    group by account_id, account_hash, hour_of_day
),

measured as (
    select
        account_id,
        account_hash,
        active_days,
        calls,
        {{ ratio('busiest_hours_calls * 24', 'calls') }} as burstiness_ratio
    from accounts
),

final as (
    select
        measured.account_id as account_id,
        all_hours.hour_of_day as hour_of_day,
        cast(lifetimes.days as integer) as days, -- noqa: RF04
        cast(coalesce(hours_of_day.calls, 0) as bigint) as calls,
        cast({{ ratio('coalesce(hours_of_day.calls, 0)', 'lifetimes.days') }} as decimal(24, 6)) as mean_calls,
        cast({{ ratio('coalesce(hours_of_day.calls, 0)', 'measured.calls') }} as decimal(7, 6)) as share_ratio,
        cast(measured.burstiness_ratio as decimal(9, 6)) as burstiness_ratio,
        case
            when measured.calls < measured.active_days * {{ var('bursty_min_calls_per_day') }} then 'too few calls'
            when measured.burstiness_ratio >= {{ var('bursty_min_ratio') }} then 'bursty'
            else 'steady'
        end as burstiness,
        measured.account_hash as account_hash
    from measured
    cross join {{ hours_of_day() }} as all_hours (hour_of_day)
    left join lifetimes on measured.account_id = lifetimes.account_id
    left join hours_of_day
        on
            measured.account_id = hours_of_day.account_id
            and measured.account_hash = hours_of_day.account_hash
            and all_hours.hour_of_day = hours_of_day.hour_of_day
)

select * from final
