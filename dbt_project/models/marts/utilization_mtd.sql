with quotas as (
    select * from {{ ref('quota_current') }}
),

accounts as (
    select * from {{ ref('stg_accounts') }}
),

thresholds as (
    select * from {{ ref('thresholds') }}
),

periods as (
    select
        account_id,
        period_start,
        period_end,
        source as period_source,
        cast(period_start as date) as start_date,
        -- of a lifetime there is no end to forecast
        case when source <> 'lifetime' then {{ days_between(date_literal(as_of()), 'period_end') }} end as days_to_end
    from {{ ref('account_periods') }}
    where is_current
),

-- Usage in the period: UTC days, complete ones apart from today's, which is still running.
used as (
    select
        daily.account_id,
        cast(sum(daily.calls) as bigint) as used_mtd,
        cast(sum(case when daily.is_complete then daily.calls else 0 end) as bigint) as used_complete
    from {{ ref('daily_usage') }} as daily
    inner join periods
        on
            daily.account_id = periods.account_id
            and daily.usage_date >= periods.start_date
    group by daily.account_id
),

-- Usage of the business day: the one that people mean by today. It may begin within an hour.
today as (
    select
        account_id,
        cast(sum(sample_weight) as bigint) as used_today
    from {{ ref('stg_api_calls') }}
    where
        event_date >= {{ date_literal(business_day_start()) }}
        and event_at >= {{ utc_literal(business_day_start()) }}
    group by account_id
),

-- How exact used_mtd is (definitions D8).
sampling as (
    select
        hourly.account_id,
        sum(hourly.events) as events,
        sum(hourly.sampling_variance) as variance
    from {{ ref('hourly_usage') }} as hourly
    inner join periods
        on
            hourly.account_id = periods.account_id
            and hourly.usage_date >= periods.start_date
    group by hourly.account_id
),

last_calls as (
    select
        account_id,
        max(last_call_at) as last_call_at
    from {{ ref('hourly_usage') }}
    group by account_id
),

-- Calls still expected in the period, and how far each of the next seven days gets, today's weekday first.
expected as (
    select
        weekdays.account_id,
        weekdays.iso_weekday,
        weekdays.history_days,
        weekdays.forecast_method,
        weekdays.level_7d,
        weekdays.expected_calls,
        weekdays.expected_calls
        * {{ weekdays_ahead('weekdays.iso_weekday', 'periods.days_to_end') }} as expected_later_calls,
        (weekdays.iso_weekday - {{ as_of_weekday() }} + 7) % 7 as days_ahead
    from {{ ref('expected_usage') }} as weekdays
    inner join periods on weekdays.account_id = periods.account_id
),

expected_week as (
    select
        *,
        cast(sum(expected_calls) over (partition by account_id) as double) as weekly_calls,
        cast(sum(expected_calls) over (partition by account_id order by days_ahead) as double) as calls_by_day_end
    from expected
),

forecasts as (
    select
        account_id,
        max(forecast_method) as forecast_method,
        max(level_7d) as level_7d,
        cast(max(case when days_ahead = 0 then expected_calls end) as double) as expected_today_calls,
        cast(sum(expected_later_calls) as double) as expected_later_calls,
        max(weekly_calls) as weekly_calls
    from expected_week
    group by account_id
),

momentum as (
    select * from {{ ref('momentum') }}
),

facts as (
    select
        quotas.account_id,
        accounts.account_name,
        coalesce(accounts.owner, nullif('{{ var("fallback_owner") }}', '')) as owner, -- noqa: RF04
        accounts.owner is null as is_owner_missing,
        accounts.csm,
        accounts.segment,
        accounts.renewal_on,
        coalesce(accounts.is_trial, false) as is_trial,
        coalesce(accounts.is_internal, false) as is_internal,
        coalesce(accounts.is_test, false) as is_test,
        accounts.snoozed_until,
        accounts.mrr,
        accounts.stripe_customer_id,
        coalesce(quotas.plan, accounts.plan) as plan,
        periods.period_start,
        periods.period_end,
        periods.period_source,
        quotas.quota_state,
        quotas.quota,
        quotas.quota_version,
        coalesce(today.used_today, 0) as used_today,
        coalesce(used.used_mtd, 0) as used_mtd,
        coalesce(used.used_complete, 0) as used_complete,
        sampling.events,
        sampling.variance,
        last_calls.last_call_at,
        momentum.momentum_7d,
        momentum.momentum_30d,
        case when quotas.quota_state = 'limited' then quotas.quota - coalesce(used.used_mtd, 0) end as remaining,
        coalesce(forecasts.forecast_method, 'too early') as forecast_method,
        forecasts.level_7d,
        forecasts.expected_today_calls,
        forecasts.expected_later_calls,
        forecasts.weekly_calls
    from quotas
    inner join periods on quotas.account_id = periods.account_id
    left join accounts on quotas.account_id = accounts.account_id
    left join used on quotas.account_id = used.account_id
    left join today on quotas.account_id = today.account_id
    left join sampling on quotas.account_id = sampling.account_id
    left join last_calls on quotas.account_id = last_calls.account_id
    left join forecasts on quotas.account_id = forecasts.account_id
    left join momentum on quotas.account_id = momentum.account_id
),

-- Definitions D3: whole weeks first, then the day of the week in which the rest is used up.
weeks_to_cap as (
    select
        account_id,
        floor(remaining / weekly_calls) as whole_weeks,
        remaining - floor(remaining / weekly_calls) * weekly_calls as rest
    from facts
    where remaining > 0 and weekly_calls > 0
),

days_to_cap as (
    select
        weeks_to_cap.account_id,
        min(
            weeks_to_cap.whole_weeks * 7 + expected_week.days_ahead
            -- not below 0: the rest is used up before a later day begins, which must not win
            + greatest(
                0,
                (weeks_to_cap.rest - expected_week.calls_by_day_end + cast(expected_week.expected_calls as double))
                / cast(expected_week.expected_calls as double)
            )
        ) as days_left
    from weeks_to_cap
    inner join expected_week on weeks_to_cap.account_id = expected_week.account_id
    where
        expected_week.expected_calls > 0
        and expected_week.calls_by_day_end >= weeks_to_cap.rest
    group by weeks_to_cap.account_id
),

-- The 80 % is decided here and in threshold_crossings: integers, and reached exactly counts (definitions D1).
reached as (
    select
        facts.account_id,
        max(thresholds.threshold_pct) as highest_threshold_pct
    from facts
    inner join thresholds on facts.used_mtd * 100 >= facts.quota * thresholds.threshold_pct
    where facts.quota_state = 'limited'
    group by facts.account_id
),

final as (
    select
        facts.account_id,
        facts.account_name,
        facts.owner,
        facts.is_owner_missing,
        facts.csm,
        facts.segment,
        facts.renewal_on,
        facts.is_trial,
        facts.is_internal,
        facts.is_test,
        facts.snoozed_until,
        facts.mrr,
        facts.stripe_customer_id,
        facts.plan,
        facts.period_start,
        facts.period_end,
        facts.period_source,
        facts.quota_state,
        facts.quota,
        facts.quota_version,
        facts.used_today,
        facts.used_mtd,
        cast(
            case when facts.events > 0 then {{ ratio('facts.events', 'facts.used_mtd') }} else 1 end
            as decimal(7, 6)
        ) as sample_ratio,
        cast(
            case
                when facts.variance > 0 then 196 * sqrt(cast(facts.variance as double)) / facts.used_mtd
                else 0
            end as decimal(24, 6)
        ) as ci95_pct,
        cast(
            case when facts.quota_state = 'limited' then {{ percentage('facts.used_mtd', 'facts.quota') }} end
            as decimal(24, 6)
        ) as pct_of_cap,
        facts.remaining,
        facts.level_7d,
        cast(
            facts.used_complete
            + greatest(facts.used_mtd - facts.used_complete, floor(facts.expected_today_calls + 0.5))
            + floor(facts.expected_later_calls + 0.5) as bigint
        ) as projected_eom,
        facts.forecast_method,
        cast(
            case
                when facts.remaining <= 0 then 0
                when facts.remaining > 0 then facts.remaining / nullif(facts.level_7d, 0)
            end as double
        ) as days_to_cap_at_current_rate,
        cast(case when facts.remaining <= 0 then 0 else days_to_cap.days_left end as double) as days_to_cap,
        case
            when facts.remaining <= 0 then {{ business_date(utc_literal(as_of())) }}
            -- a century ahead is no forecast, and past the range of timestamps it is an error
            when days_to_cap.days_left < 36500
                then {{ business_date(plus_days(utc_literal(as_of()), 'days_to_cap.days_left')) }}
        end as hits_cap_on,
        case
            when facts.remaining <= 0 then true
            when days_to_cap.days_left is not null
                then
                    {{ plus_days(utc_literal(as_of()), 'least(days_to_cap.days_left, 36500)') }} < facts.period_end
        end as hits_cap_in_period,
        reached.highest_threshold_pct,
        case when facts.quota_state = 'limited' then coalesce(thresholds.severity, 'ok') end as severity,
        facts.momentum_7d,
        facts.momentum_30d,
        facts.last_call_at,
        max(facts.last_call_at) over () as data_through,
        {{ utc_literal(as_of()) }} as as_of
    from facts
    left join days_to_cap on facts.account_id = days_to_cap.account_id
    left join reached on facts.account_id = reached.account_id
    left join thresholds on reached.highest_threshold_pct = thresholds.threshold_pct
)

select * from final
