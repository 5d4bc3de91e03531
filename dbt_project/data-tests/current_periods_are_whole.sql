{{ config(severity="warn", meta={"dagster": {"ref": {"name": "account_periods"}}}) }}
select
    account_id,
    period_start,
    source
from {{ ref('account_periods') }}
where is_cut
