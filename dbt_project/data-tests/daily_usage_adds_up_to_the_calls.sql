{{ config(meta={"dagster": {"ref": {"name": "daily_usage"}}}) }}
-- No call is lost or doubled on the way from the lake: the marts add up to the distinct accepted calls.
with calls as (
    select count(*) as calls from {{ ref('stg_api_calls') }}
),

days as (
    select coalesce(sum(calls), 0) as calls from {{ ref('daily_usage') }}
)

select
    calls.calls as calls_in_lake,
    days.calls as calls_in_daily_usage
from calls
cross join days
where calls.calls <> days.calls
