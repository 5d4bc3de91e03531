{{ config(materialized="view") }} -- the days of a table that is counted by hours

select
    account_id,
    usage_date,
    endpoint,
    cast(sum(calls) as bigint) as calls,
    cast(sum(calls_with_status) as bigint) as calls_with_status,
    cast(sum(throttled_calls) as bigint) as throttled_calls,
    cast(sum(client_error_calls) as bigint) as client_error_calls,
    cast(sum(server_error_calls) as bigint) as server_error_calls,
    cast(sum(refused_calls) as bigint) as refused_calls,
    account_hash
from {{ ref('hourly_usage_by_endpoint') }}
group by account_id, account_hash, usage_date, endpoint
