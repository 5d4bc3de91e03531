-- The lake holds each (source, event_id) once; hours are summed from it without looking at ids again.
select
    source,
    event_id
from {{ ref('stg_api_calls') }}
where {{ is_tested('event_date') }}
group by source, event_id
having count(*) > 1
