{{ config(meta={"dagster": {"ref": {"name": "endpoint_weights"}}}) }}
-- Two weights of an endpoint on one day would count its calls twice.
select
    endpoint,
    effective_from,
    count(*) as row_count,
    min(weight) as lowest_weight
from {{ ref('endpoint_weights') }}
group by endpoint, effective_from
having count(*) > 1 or min(coalesce(weight, -1)) < 0
