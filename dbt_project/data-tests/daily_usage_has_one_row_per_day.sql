{{ config(meta={"dagster": {"ref": {"name": "daily_usage"}}}) }}
select
    account_id,
    meter,
    usage_date
from {{ ref('daily_usage') }}
group by account_id, meter, usage_date
having count(*) > 1
