-- A table, although it only renames: billable_usage_hourly is a view on it, and the published copy must hold the
-- accounts that were built and tested, not point into the lake.
{{ config(materialized="table") }}

with source as (
    select * from {{ source('lake', 'raw_accounts') }}
)

select
    account_id,
    name as account_name,
    owner,
    plan,
    mrr,
    stripe_customer_id
from source
