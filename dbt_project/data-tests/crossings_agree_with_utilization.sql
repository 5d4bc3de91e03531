{{ config(meta={"dagster": {"ref": {"name": "threshold_crossings"}}}) }}
-- Two models decide whether a threshold was reached; they must never tell sales different things.
with crossed as (
    select
        account_id,
        max(threshold_pct) as threshold_pct
    from {{ ref('threshold_crossings') }}
    where period_end > {{ utc_literal(as_of()) }}
    group by account_id
)

select
    utilization.account_id,
    utilization.highest_threshold_pct,
    crossed.threshold_pct
from {{ ref('utilization_mtd') }} as utilization
full outer join crossed on utilization.account_id = crossed.account_id
where coalesce(utilization.highest_threshold_pct, 0) <> coalesce(crossed.threshold_pct, 0)
