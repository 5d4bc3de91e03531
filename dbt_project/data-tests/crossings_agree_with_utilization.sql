{{ config(meta={"dagster": {"ref": {"name": "threshold_crossings"}}}) }}
-- Two models decide whether a threshold was reached; they must never tell sales different things.
-- A gauge that is high since before the period has not crossed anything in it.
with crossed as (
    select
        account_id,
        meter,
        threshold
    from {{ ref('threshold_crossings') }}
    where period_end > {{ utc_literal(as_of()) }}
    qualify
        row_number() over (
            partition by account_id, meter order by reached_at_units desc, threshold_pct desc nulls last
        ) = 1
),

utilization as (
    select * from {{ ref('utilization_mtd') }}
    where {{ adds_up('aggregation') }}
)

select
    coalesce(utilization.account_id, crossed.account_id) as account_id,
    coalesce(utilization.meter, crossed.meter) as meter,
    utilization.highest_threshold,
    crossed.threshold as crossed_threshold
from utilization
full outer join crossed
    on
        utilization.account_id = crossed.account_id
        and utilization.meter = crossed.meter
where
    coalesce(utilization.meter, crossed.meter) in (
        select known.meter from {{ ref('meters') }} as known
        where {{ adds_up('known.aggregation') }}
    )
    and coalesce(utilization.highest_threshold, '') <> coalesce(crossed.threshold, '')
