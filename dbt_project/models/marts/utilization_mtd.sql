with standings as (
    select * from {{ ref('quota_standings') }}
),

profiles as (
    select * from {{ ref('account_profiles') }}
),

overage as (
    select * from {{ ref('overage') }}
),

advice as (
    select * from {{ ref('account_advice') }}
),

final as (
    select
        standings.account_id as account_id,
        profiles.account_name,
        coalesce(profiles.owner, nullif('{{ var("fallback_owner") }}', '')) as owner, -- noqa: RF04
        profiles.owner is null as is_owner_missing,
        profiles.csm,
        profiles.contact_email,
        profiles.slack_channel,
        profiles.segment as segment,
        profiles.renewal_on,
        coalesce(profiles.is_trial, false) as is_trial,
        coalesce(profiles.is_internal, false) as is_internal,
        coalesce(profiles.is_test, false) as is_test,
        profiles.snoozed_until,
        profiles.mrr,
        profiles.stripe_customer_id,
        standings.meter as meter,
        {{ is_main('standings.meter') }} as is_main,
        standings.aggregation,
        standings.unit,
        standings.period_start as period_start,
        standings.period_end as period_end,
        standings.period_source,
        standings.plan as plan,
        standings.quota_state as quota_state,
        standings.quota as quota,
        standings.quota_version,
        standings.quota_policy,
        overage.limit_kind,
        case when {{ adds_up('standings.aggregation') }} then coalesce(standings.used_today, 0) end as used_today,
        standings.used_mtd as used_mtd,
        standings.used_same_point_last_period,
        cast(coalesce(standings.sample_ratio, 1) as decimal(7, 6)) as sample_ratio,
        cast(coalesce(standings.ci95_pct, 0) as decimal(24, 6)) as ci95_pct,
        standings.pct_of_cap,
        standings.remaining,
        standings.level_7d,
        standings.projected_eom as projected_eom,
        standings.projected_low,
        standings.projected_high,
        standings.forecast_method,
        standings.forecast_mape,
        standings.days_to_cap_at_current_rate,
        standings.days_to_cap,
        standings.hits_cap_on,
        standings.hits_cap_in_period,
        standings.highest_threshold,
        standings.is_at_threshold,
        standings.last_crossed_at,
        standings.severity as severity,
        overage.overage_units,
        overage.overage_value,
        overage.next_plan,
        overage.next_plan_delta_mrr,
        overage.is_staying_cheaper,
        advice.next_step as recommended_action,
        case when {{ is_of_calls('standings.meter') }} then profiles.error_ratio_7d end as error_ratio_7d,
        momentum.momentum_7d as momentum_7d,
        momentum.momentum_30d as momentum_30d,
        coalesce(standings.late_calls_24h, 0) as late_calls_24h,
        standings.last_call_at as last_call_at,
        max(case when {{ adds_up('standings.aggregation') }} then standings.last_call_at end) over () as data_through,
        {{ utc_literal(as_of()) }} as as_of,
        '{{ model_version() }}' as model_version
    from standings
    left join overage
        on
            standings.account_id = overage.account_id
            and standings.meter = overage.meter
    left join profiles on standings.account_id = profiles.account_id
    left join {{ ref('momentum') }} as momentum
        on
            standings.account_id = momentum.account_id
            and standings.meter = momentum.meter
    left join advice
        on
            standings.account_id = advice.account_id
            and standings.meter = advice.meter
)

select * from final
