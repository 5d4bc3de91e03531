{{ config(meta={"dagster": {"ref": {"name": "usage_limit_hits"}}}) }}
-- Each accepted usage.limit_reached event is one row, whatever it says.
select
    coalesce(events.source, hits.source) as event_source,
    coalesce(events.event_id, hits.event_id) as event_id
from {{ ref('stg_limits_reached') }} as events
full outer join {{ ref('usage_limit_hits') }} as hits
    on
        events.source = hits.source
        and events.event_id = hits.event_id
group by coalesce(events.source, hits.source), coalesce(events.event_id, hits.event_id)
having count(events.event_id) <> 1 or count(hits.event_id) <> 1
