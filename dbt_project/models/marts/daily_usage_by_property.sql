{{ config(materialized="view") }} -- the days of a table that is counted by hours

select
    account_id,
    meter,
    usage_date,
    property,
    value,
    cast(sum(events) as bigint) as events,
    cast(sum(units) as bigint) as units
from {{ ref('hourly_usage_by_property') }}
group by account_id, meter, usage_date, property, value
