with ranges as (
    select * from {{ ref('stg_customers') }}
),

accounts as (
    select * from {{ ref('stg_accounts') }}
),

-- An account that stg_customers does not name has one customer at all times.
final as (
    select
        account_id,
        stripe_customer_id,
        valid_from,
        valid_until
    from ranges

    union all

    select
        accounts.account_id,
        accounts.stripe_customer_id,
        {{ utc_literal(since_ever()) }} as valid_from,
        {{ utc_literal(for_ever()) }} as valid_until
    from accounts
    where accounts.account_id not in (select ranges.account_id from ranges)
)

select * from final
