{{ config(materialized="table") }} -- as stg_accounts: billable_usage_hourly is a view on it

with source as (
    select * from {{ source('lake', 'raw_customers') }}
)

select
    account_id,
    stripe_customer_id,
    coalesce({{ utc_timestamp('valid_from') }}, {{ utc_literal(since_ever()) }}) as valid_from,
    coalesce({{ utc_timestamp('valid_until') }}, {{ utc_literal(for_ever()) }}) as valid_until
from source
