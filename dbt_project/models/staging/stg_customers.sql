{{ config(materialized="table") }} -- as stg_accounts: billable_usage_hourly is a view on it

with source as (
    select * from {{ source('lake', 'raw_customers') }}
)

select
    account_id,
    stripe_customer_id,
    coalesce({{ utc_timestamp('valid_from') }}, timestamp '1970-01-01 00:00:00') as valid_from,
    coalesce({{ utc_timestamp('valid_until') }}, timestamp '9999-12-31 00:00:00') as valid_until
from source
