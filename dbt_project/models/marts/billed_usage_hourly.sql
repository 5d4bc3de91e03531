{{ config(materialized="view") }} -- the table's old name, for queries that still use it

select
    stripe_customer_id,
    hour_start,
    billable_units,
    reported_units,
    stripe_units,
    difference,
    state,
    revisions,
    identifier,
    first_attempt_at,
    sent_at,
    confirmed_at,
    error
from {{ ref('billing_reconciliation_hourly') }}
