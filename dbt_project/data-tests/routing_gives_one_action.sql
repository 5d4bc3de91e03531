{{ config(meta={"dagster": {"ref": {"name": "routing"}}}) }}
-- Two actions for one segment and severity would double the account.
select
    coalesce(actions.segment, '') as segment,
    actions.severity,
    count(*) as row_count
from {{ ref('routing') }} as actions
group by coalesce(actions.segment, ''), actions.severity
having count(*) > 1 or count(actions.recommended_action) = 0
