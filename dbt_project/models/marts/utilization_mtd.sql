with forecasts as (
    select * from {{ ref('cap_forecasts') }}
),

quotas as (
    select * from {{ ref('period_quotas') }}
    where is_current
),

usage as (
    select * from {{ ref('period_usage') }}
),

accounts as (
    select * from {{ ref('stg_accounts') }}
),

overage as (
    select * from {{ ref('overage') }}
),

routing as (
    select * from {{ ref('routing') }}
),

momentum as (
    select * from {{ ref('momentum') }}
),

error_rates as (
    select * from {{ ref('error_rates') }}
),

-- The highest threshold that the usage has reached. Of two that fall on the same unit the larger percentage.
reached as (
    select
        thresholds.account_id,
        thresholds.meter,
        thresholds.threshold,
        thresholds.severity,
        thresholds.is_in_digest
    from {{ ref('period_thresholds') }} as thresholds
    inner join forecasts
        on
            thresholds.account_id = forecasts.account_id
            and thresholds.meter = forecasts.meter
            and thresholds.period_start = forecasts.period_start
            and thresholds.reached_at_units <= forecasts.used_mtd
    qualify
        row_number() over (
            partition by thresholds.account_id, thresholds.meter
            order by thresholds.reached_at_units desc, thresholds.threshold_pct desc nulls last
        ) = 1
),

last_crossings as (
    select
        account_id,
        meter,
        max(crossed_at) as last_crossed_at
    from {{ ref('threshold_crossings') }}
    where period_end > {{ utc_literal(as_of()) }}
    group by account_id, meter
),

-- What was reached decides; a cap that is near makes it more urgent, but never out of nothing.
facts as (
    select
        forecasts.*,
        reached.threshold as highest_threshold,
        case
            when forecasts.quota_state <> 'limited' then null
            when reached.threshold is null then 'ok'
            when not reached.is_in_digest or not coalesce(forecasts.hits_cap_in_period, false) then reached.severity
            when forecasts.days_to_cap < {{ var('critical_within_days') }} then 'critical'
            when forecasts.days_to_cap < {{ var('high_within_days') }} and reached.severity <> 'critical' then 'high'
            else reached.severity
        end as severity
    from forecasts
    left join reached
        on
            forecasts.account_id = reached.account_id
            and forecasts.meter = reached.meter
),

final as (
    select
        facts.account_id as account_id,
        accounts.account_name,
        coalesce(accounts.owner, nullif('{{ var("fallback_owner") }}', '')) as owner, -- noqa: RF04
        accounts.owner is null as is_owner_missing,
        accounts.csm,
        accounts.contact_email,
        accounts.segment as segment,
        accounts.renewal_on,
        coalesce(accounts.is_trial, false) as is_trial,
        coalesce(accounts.is_internal, false) as is_internal,
        coalesce(accounts.is_test, false) as is_test,
        accounts.snoozed_until,
        accounts.mrr,
        accounts.stripe_customer_id,
        facts.meter as meter,
        quotas.unit,
        facts.period_start as period_start,
        facts.period_end as period_end,
        quotas.period_source,
        facts.plan as plan,
        facts.quota_state as quota_state,
        facts.quota as quota,
        quotas.quota_version,
        quotas.quota_policy,
        overage.limit_kind,
        case when facts.meter = 'api-calls' then coalesce(usage.used_today, 0) end as used_today,
        facts.used_mtd as used_mtd,
        usage.used_same_point_last_period,
        cast(coalesce(usage.sample_ratio, 1) as decimal(7, 6)) as sample_ratio,
        cast(coalesce(usage.ci95_pct, 0) as decimal(24, 6)) as ci95_pct,
        cast(
            case when facts.quota_state = 'limited' then {{ percentage('facts.used_mtd', 'facts.quota') }} end
            as decimal(24, 6)
        ) as pct_of_cap,
        facts.remaining,
        facts.level_7d,
        facts.projected_eom as projected_eom,
        facts.projected_low,
        facts.projected_high,
        facts.forecast_method,
        facts.forecast_mape,
        facts.days_to_cap_at_current_rate,
        facts.days_to_cap,
        facts.hits_cap_on,
        facts.hits_cap_in_period,
        facts.highest_threshold,
        last_crossings.last_crossed_at,
        facts.severity as severity,
        overage.overage_units,
        overage.overage_value,
        overage.next_plan,
        overage.next_plan_delta_mrr,
        overage.is_staying_cheaper,
        coalesce(of_segment.recommended_action, of_all.recommended_action) as recommended_action,
        error_rates.error_ratio_7d,
        momentum.momentum_7d,
        momentum.momentum_30d,
        coalesce(usage.late_calls_24h, 0) as late_calls_24h,
        usage.last_call_at,
        max(case when facts.meter = 'api-calls' then usage.last_call_at end) over () as data_through,
        {{ utc_literal(as_of()) }} as as_of,
        '{{ model_version() }}' as model_version
    from facts
    inner join quotas
        on
            facts.account_id = quotas.account_id
            and facts.meter = quotas.meter
    left join usage
        on
            facts.account_id = usage.account_id
            and facts.meter = usage.meter
    left join overage
        on
            facts.account_id = overage.account_id
            and facts.meter = overage.meter
    left join last_crossings
        on
            facts.account_id = last_crossings.account_id
            and facts.meter = last_crossings.meter
    left join accounts on facts.account_id = accounts.account_id
    left join momentum
        on
            facts.account_id = momentum.account_id
            and facts.meter = 'api-calls'
    left join error_rates
        on
            facts.account_id = error_rates.account_id
            and facts.meter = 'api-calls'
    left join routing as of_segment
        on
            facts.severity = of_segment.severity
            and accounts.segment = of_segment.segment
    left join routing as of_all
        on
            facts.severity = of_all.severity
            and of_all.segment is null
)

select * from final
