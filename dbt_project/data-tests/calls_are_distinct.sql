-- The lake holds each (source, event_id) once; hours are summed from it without looking at ids again.
select
    meter,
    source,
    event_id
from {{ ref('stg_meter_values') }}
where {{ is_tested('event_date', 'lake_at', in_lake=true) }}
group by meter, source, event_id
having count(*) > 1
