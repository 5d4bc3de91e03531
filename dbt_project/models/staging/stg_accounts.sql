-- A table, although it only renames: billable_usage_hourly is a view on it, and the published copy must hold the
-- accounts that were built and tested, not point into the lake.
{{ config(materialized="table") }}

with source as (
    select * from {{ source('lake', 'raw_accounts') }}
),

-- Null where the account is named but has no customer now.
customers as (
    select
        account_id,
        max(
            case
                when valid_from <= {{ utc_literal(as_of()) }} and valid_until > {{ utc_literal(as_of()) }}
                    then stripe_customer_id
            end
        ) as stripe_customer_id
    from {{ ref('stg_customers') }}
    group by account_id
)

select
    coalesce(source.account_id, customers.account_id) as account_id,
    source.name as account_name,
    source.owner,
    source.csm,
    source.contact_email,
    source.slack_channel,
    source.segment,
    source.plan,
    source.mrr,
    source.renewal_on,
    case when customers.account_id is null then source.stripe_customer_id else customers.stripe_customer_id end
        as stripe_customer_id,
    coalesce(
        source.is_trial, source.period_kind = 'trial' and source.period_ends_on > {{ date_literal(as_of()) }}, false
    ) as is_trial,
    coalesce(source.is_internal, false) as is_internal,
    coalesce(source.is_test, false) as is_test,
    source.snoozed_until,
    source.period_kind,
    source.period_anchor,
    source.period_ends_on
from source
full outer join customers on source.account_id = customers.account_id
