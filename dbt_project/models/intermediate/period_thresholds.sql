with quotas as (
    select * from {{ ref('period_quotas') }}
    where quota_state = 'limited'
),

terms as (
    select distinct
        meter,
        coalesce(plan, '') as plan
    from quotas
),

-- Thresholds that name the plan stand in the place of those that do not, and so do those that name the meter. Which
-- ones those are depends on the two alone.
matching as (
    select
        terms.meter as meter,
        terms.plan as plan,
        thresholds.threshold_pct,
        thresholds.threshold_units,
        thresholds.threshold_units * {{ scale_of('terms.meter') }} as threshold_steps,
        thresholds.severity,
        thresholds.is_in_digest,
        coalesce(thresholds.pace_matters, false) as pace_matters,
        case when thresholds.plan is null then 0 else 2 end + case when thresholds.meter is null then 0 else 1 end
            as specificity
    from terms
    inner join {{ ref('thresholds') }} as thresholds
        on
            terms.meter = coalesce(thresholds.meter, terms.meter)
            and terms.plan = coalesce(thresholds.plan, terms.plan)
),

ranked as (
    select
        *,
        max(specificity) over (partition by meter, plan) as highest_specificity
    from matching
),

-- In integers, so that reaching it exactly counts: units >= ceiling(quota * pct / 100) just where
-- units * 100 >= quota * pct.
final as (
    select
        quotas.account_id,
        quotas.meter as meter,
        quotas.period_start,
        case
            when ranked.threshold_pct is not null then cast(ranked.threshold_pct as varchar) || '%'
            else cast(ranked.threshold_units as varchar)
        end as threshold,
        ranked.threshold_pct as threshold_pct,
        cast(
            coalesce({{ ceiling_division('quotas.quota * ranked.threshold_pct', '100') }}, ranked.threshold_steps)
            as bigint
        ) as reached_at_units,
        ranked.severity,
        ranked.is_in_digest,
        ranked.pace_matters
    from quotas
    inner join ranked
        on
            quotas.meter = ranked.meter
            and coalesce(quotas.plan, '') = ranked.plan
    where ranked.specificity = ranked.highest_specificity
)

select * from final
