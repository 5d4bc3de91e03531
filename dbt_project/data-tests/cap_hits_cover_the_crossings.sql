{{ config(meta={"dagster": {"ref": {"name": "cap_hit_outcomes"}}}) }}
-- Whoever ended the previous month at 100 % of a quota has reached it at some time of that month.
select
    crossings.account_id,
    crossings.used
from {{ ref('threshold_crossings') }} as crossings
left join {{ ref('cap_hit_outcomes') }} as outcomes
    on
        crossings.account_id = outcomes.account_id
        and crossings.meter = outcomes.meter
where
    crossings.period_end <= {{ utc_literal(as_of()) }}
    and crossings.meter in (
        select known.meter from {{ ref('meters') }} as known
        where {{ adds_up('known.aggregation') }}
    )
    and crossings.threshold_pct = 100
    and (outcomes.account_id is null or outcomes.used <> crossings.used)
