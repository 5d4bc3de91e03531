with standings as (
    select * from {{ ref('quota_standings') }}
),

overage as (
    select * from {{ ref('overage') }}
),

profiles as (
    select * from {{ ref('account_profiles') }}
),

raises as (
    select * from {{ ref('quota_raises') }}
),

-- Yes or no: an unknown fact is not one.
facts as (
    select
        standings.account_id as account_id,
        standings.meter as meter,
        standings.unit as unit,
        standings.plan as plan,
        standings.severity as severity,
        standings.hits_cap_on as hits_cap_on,
        standings.is_at_threshold as is_at_threshold,
        overage.limit_kind as limit_kind,
        overage.currency as currency,
        overage.next_plan as next_plan,
        overage.next_plan_delta_mrr as next_plan_delta_mrr,
        profiles.segment as segment,
        profiles.renewal_on as renewal_on,
        profiles.owner as owner, -- noqa: RF04
        profiles.csm as csm,
        raises.account_id is not null and not standings.is_at_threshold as is_raised,
        coalesce(standings.used_mtd >= standings.quota, false) and standings.quota_state = 'limited' as is_over,
        coalesce(standings.hits_cap_in_period, false) as is_running_out,
        standings.hits_cap_in_period is null as is_unforeseen,
        not standings.does_pace_matter or coalesce(standings.hits_cap_in_period, true) as is_pace_news,
        -- what is not projected says how far it has come, and not where it goes
        not {{ adds_up('standings.aggregation') }} or coalesce(standings.forecast_method = 'none', false) as is_gauge,
        coalesce(overage.limit_kind = 'hard', false) as is_hard,
        coalesce(overage.limit_kind = 'hard', false)
        and case
            when not {{ adds_up('standings.aggregation') }} then coalesce(standings.used_mtd > standings.quota, false)
            else
                coalesce(
                    standings.used_mtd * 100 > standings.quota * (100 + {{ var('hard_limit_tolerance_pct') }}), false
                )
                -- refused calls are counted as well
                and (
                    not {{ is_of_calls('standings.meter') }}
                    or coalesce(profiles.throttled_ratio_7d * 100, 0) < {{ var('hard_limit_tolerance_pct') }}
                )
        end as is_served_past_limit,
        coalesce(overage.is_staying_cheaper, false) as is_staying_cheaper,
        coalesce(not overage.is_staying_cheaper and overage.next_plan_delta < 0, false) as is_upgrade_cheaper,
        coalesce(not overage.is_staying_cheaper and overage.next_plan_delta = 0, false) as is_same_cost,
        coalesce(overage.limit_kind <> 'hard' and overage.included_units = 0, false) as is_pay_per_use,
        coalesce(profiles.is_internal, false) or coalesce(profiles.is_test, false) as is_internal,
        coalesce(profiles.is_trial, false) as is_trial,
        coalesce(profiles.snoozed_until > cast({{ utc_literal(as_of()) }} as date), false) as is_snoozed,
        coalesce(
            {{ days_between(date_literal(as_of()), 'profiles.renewal_on') }}
            between 0 and {{ var('renewal_within_days') }},
            false
        ) as is_renewal_soon,
        {{ is_of_calls('standings.meter') }} and coalesce(profiles.is_retry_storm, false) as is_retry_storm,
        -- Past a limit that refuses or slows down, 429 is its own answer: only other errors ask for help.
        {{ is_of_calls('standings.meter') }}
        and coalesce(profiles.has_enough_calls_7d, false)
        and coalesce(
            (
                profiles.error_ratio_7d
                - case
                    when overage.limit_kind in ('hard', 'throttle') and standings.used_mtd >= standings.quota
                        then profiles.throttled_ratio_7d
                    else 0
                end
            ) * 100 > {{ var('help_first_above_error_pct') }},
            false
        ) as is_failing,
        {{ is_main('standings.meter') }} and coalesce(trends.trend = 'check in', false) as is_dropping,
        {{ is_main('standings.meter') }} and coalesce(trends.trend = 'dormant', false) as is_dormant
    from standings
    left join overage
        on
            standings.account_id = overage.account_id
            and standings.meter = overage.meter
    left join profiles on standings.account_id = profiles.account_id
    left join raises
        on
            standings.account_id = raises.account_id
            and standings.meter = raises.meter
    left join {{ ref('top_accounts_30d') }} as trends
        on
            standings.account_id = trends.account_id
            and standings.meter = trends.meter
),

asked as (
    select
        *,
        -- paying for each call has a price below the quota as well
        is_at_threshold and (is_over or is_running_out or (is_pay_per_use and is_upgrade_cheaper)) as is_price_asked
    from facts
    where is_at_threshold or is_raised or is_dropping or is_dormant
),

-- The first that applies: docs/meaning/definitions.md#advice.
situations as (
    select
        *,
        case
            when is_internal then 'internal'
            when is_snoozed then 'snoozed'
            when is_raised then 'resolved'
            when not is_at_threshold then case when is_dormant then 'dormant' else 'dropping' end
            when is_retry_storm or is_failing then 'help_needed'
            when is_trial then 'trial'
            when is_served_past_limit then 'limit_not_enforced'
            when is_hard and (is_over or is_running_out) and next_plan is null then 'no_larger_plan'
            when is_hard and is_over then 'refused_now'
            when is_hard and is_running_out then 'refused_soon'
            when not is_price_asked
                then case when is_unforeseen then 'too_early' else 'will_not_run_out' end
            when limit_kind is null then 'terms_unknown'
            when is_upgrade_cheaper then 'upgrade_cheaper'
            when is_staying_cheaper then 'staying_cheaper'
            else 'price_unknown'
        end as situation
    from asked
),

-- What moving up adds, where it is the customer's own gain or ends refusals.
valued as (
    select
        *,
        case
            when situation in ('refused_now', 'refused_soon', 'upgrade_cheaper') and next_plan_delta_mrr > 0
                then next_plan_delta_mrr
        end as worth
    from situations
),

-- One move to the next plan serves all meters of an account.
counted_once as (
    select
        *,
        row_number() over (partition by account_id order by worth desc nulls last, meter asc) = 1 as is_first_worth
    from valued
),

final as (
    select
        account_id,
        meter,
        unit,
        plan,
        segment,
        severity,
        limit_kind,
        next_plan,
        hits_cap_on,
        renewal_on,
        owner,
        csm,
        situation,
        substr(
            {%- for reason, fact in reasons().items() %}
                case when {{ fact }} then ',{{ reason }}' else '' end{{ " ||" if not loop.last }}
            {%- endfor %},
            2
        ) as reasons,
        cast(case when is_first_worth then worth end as decimal(18, 2)) as value, -- noqa: RF04
        case when is_first_worth and worth is not null then currency end as currency,
        is_at_threshold and not is_internal and not is_snoozed and is_pace_news as is_announced
    from counted_once
)

select * from final
