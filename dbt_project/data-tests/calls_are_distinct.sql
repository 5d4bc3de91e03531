-- The lake holds each (source, event_id) once; hours are summed from it without looking at ids again.
select
    source,
    event_id
from {{ ref('stg_api_calls') }}
group by source, event_id
having count(*) > 1
