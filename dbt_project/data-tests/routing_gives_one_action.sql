{{ config(meta={"dagster": {"ref": {"name": "routing"}}}) }}
-- Two actions for one segment and severity would double the account.
select
    coalesce(segment, '') as segment,
    severity,
    count(*) as row_count
from {{ ref('routing') }}
group by coalesce(segment, ''), severity
having count(*) > 1 or count(recommended_action) = 0
