{{ config(materialized="view") }} -- a few rows of a table that is built anyway

select
    account_id,
    meter,
    usage_date,
    event_at,
    source,
    event_id,
    sent_value,
    problem
from {{ ref('event_values') }}
where problem is not null
