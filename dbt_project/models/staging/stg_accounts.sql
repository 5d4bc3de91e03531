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
