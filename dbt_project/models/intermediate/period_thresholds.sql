with quotas as (
    select * from {{ ref('period_quotas') }}
    where quota_state = 'limited'
),

-- Thresholds that name the plan stand in the place of those that do not, and so do those that name the meter.
matching as (
    select
        quotas.account_id,
        quotas.meter,
        quotas.period_start,
        quotas.quota,
        thresholds.threshold_pct,
        thresholds.threshold_units,
        thresholds.threshold_units * {{ scale_of('quotas.meter') }} as threshold_steps,
        thresholds.severity,
        thresholds.is_in_digest,
        coalesce(thresholds.pace_matters, false) as pace_matters,
        case when thresholds.plan is null then 0 else 2 end + case when thresholds.meter is null then 0 else 1 end
            as specificity
    from quotas
    inner join {{ ref('thresholds') }} as thresholds
        on
            quotas.meter = coalesce(thresholds.meter, quotas.meter)
            and coalesce(quotas.plan, '') = coalesce(thresholds.plan, quotas.plan, '')
),

most_specific as (
    select
        *,
        max(specificity) over (partition by account_id, meter, period_start) as highest_specificity
    from matching
),

-- In integers, so that reaching it exactly counts: units >= ceiling(quota * pct / 100) just where
-- units * 100 >= quota * pct.
final as (
    select
        account_id,
        meter,
        period_start,
        case
            when threshold_pct is not null then cast(threshold_pct as varchar) || '%'
            else cast(threshold_units as varchar)
        end as threshold,
        threshold_pct,
        cast(coalesce({{ ceiling_division('quota * threshold_pct', '100') }}, threshold_steps) as bigint)
            as reached_at_units,
        severity,
        is_in_digest,
        pace_matters
    from most_specific
    where specificity = highest_specificity
)

select * from final
