with rejected as (
    select
        'rejected' as kind,
        cast(null as varchar) as producer,
        rejected_at as known_at,
        lost_events as event_count,
        cast(null as bigint) as hours_ahead
    from {{ ref('events_rejected') }}
),

ahead as (
    select
        'ahead' as kind,
        producer,
        furthest_at as known_at,
        event_count,
        hours_ahead
    from {{ ref('events_ahead') }}
),

refused as (
    select
        'refused' as kind,
        cast(null as varchar) as producer,
        event_at as known_at,
        cast(1 as bigint) as event_count,
        cast(null as bigint) as hours_ahead
    from {{ ref('refused_values') }}
),

final as (
    select * from rejected
    union all
    select * from ahead
    union all
    select * from refused
)

select * from final
