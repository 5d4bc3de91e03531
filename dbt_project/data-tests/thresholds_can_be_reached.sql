{{ config(meta={"dagster": {"ref": {"name": "thresholds"}}}) }}
-- A sentence for each row of thresholds.csv by which nothing could be decided.
with thresholds as (
    select
        *,
        coalesce(meter, 'every meter') as meter_name,
        coalesce(plan, 'every plan') as plan_name,
        count(*) over (partition by meter, plan, threshold_pct, threshold_units) as row_count
    from {{ ref('thresholds') }}
)

select distinct
    'The threshold of ' || meter_name || ' and ' || plan_name || ' '
    || case
        when (threshold_pct is null) = (threshold_units is null)
            then 'needs either threshold_pct or threshold_units'
        when coalesce(threshold_pct, threshold_units) < 1 then 'must be 1 or more'
        when severity is null or is_in_digest is null or pace_matters is null
            then 'needs a severity, is_in_digest and pace_matters'
        when row_count > 1 then 'is there more than once'
        else 'names a meter that is not in meters.csv'
    end
    || ': '
    || coalesce(cast(threshold_pct as varchar) || ' %', cast(threshold_units as varchar) || ' units', 'empty')
        as problem
from thresholds
where
    (threshold_pct is null) = (threshold_units is null)
    or coalesce(threshold_pct, threshold_units) < 1
    or severity is null
    or is_in_digest is null
    or pace_matters is null
    or row_count > 1
    or meter not in (select meters.meter from {{ ref('meters') }} as meters)
