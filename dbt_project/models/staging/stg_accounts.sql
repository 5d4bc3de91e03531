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
    csm,
    contact_email,
    segment,
    plan,
    mrr,
    renewal_on,
    stripe_customer_id,
    coalesce(is_trial, period_kind = 'trial' and period_ends_on > {{ date_literal(as_of()) }}, false) as is_trial,
    coalesce(is_internal, false) as is_internal,
    coalesce(is_test, false) as is_test,
    snoozed_until,
    period_kind,
    period_anchor,
    period_ends_on
from source
