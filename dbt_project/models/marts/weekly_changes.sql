-- Midnight UTC of this week's Monday: the week before it is the last complete one.
{%- set week_end = days_ago(as_of_weekday() | int - 1) %}
{%- set week_start = days_ago(as_of_weekday() | int + 6) %}
{%- set week_before = days_ago(as_of_weekday() | int + 13) %}
with days as (
    -- from the account's first call on, so the first day is that of the first call
    select
        account_id,
        meter,
        usage_date,
        -- whatever a call is worth, a customer is there who calls
        coalesce(calls, units) as used,
        max(case when coalesce(calls, units) > 0 then usage_date end) over (partition by account_id, meter)
            as last_call_on
    from {{ ref('daily_usage') }}
    where usage_date < {{ date_literal(week_end) }}
),

weeks as (
    select
        account_id,
        meter,
        min(usage_date) as first_call_on,
        max(last_call_on) as last_call_on,
        sum(case when usage_date >= {{ date_literal(week_start) }} then used else 0 end) as used,
        sum(
            case
                when usage_date >= {{ date_literal(week_before) }} and usage_date < {{ date_literal(week_start) }}
                    then used
                else 0
            end
        ) as used_week_before,
        count(case when used > 0 and usage_date > last_call_on - 30 then 1 end) as active_days
    from days
    group by account_id, meter
),

facts as (
    select
        *,
        first_call_on <= {{ date_literal(week_before) }} as is_comparable,
        last_call_on + case
            when active_days <= {{ var('tried_out_days') }} then {{ var('tried_out_dormant_after_days') }}
            else {{ var('dormant_after_days') }}
        end as dormant_on
    from weeks
),

final as (
    select
        account_id,
        meter,
        {{ date_literal(week_start) }} as week_start,
        first_call_on,
        last_call_on,
        cast(used as bigint) as used,
        cast(used_week_before as bigint) as used_week_before,
        cast(
            case when is_comparable then {{ percentage('used', 'nullif(used_week_before, 0)') }} - 100 end
            as decimal(24, 6)
        ) as change_pct,
        case
            when first_call_on >= {{ date_literal(week_start) }} then 'new'
            when dormant_on >= {{ date_literal(week_start) }} and dormant_on < {{ date_literal(week_end) }}
                then 'dormant'
            when
                is_comparable
                and used_week_before >= {{ var('momentum_min_weekly_calls') }}
                and used * 100 < used_week_before * (100 + {{ var('dropping_below_pct') }})
                then 'dropping'
            when
                is_comparable
                and used >= 4 * {{ var('momentum_min_weekly_calls') }}
                and used * 100 > used_week_before * (100 + {{ var('growing_above_pct') }})
                then 'growing'
            else ''
        end as change_word
    from facts
)

select * from final
