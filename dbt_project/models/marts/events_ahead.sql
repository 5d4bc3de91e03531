with calls as (
    select
        source,
        landed_file,
        {{ utc_timestamp('event_at') }} as event_at
    from {{ source('lake', 'raw_events') }}
    where
        event_at > {{ lake_timestamp(utc_literal(counted_until())) }}
        -- files of earlier days are not even opened
        and event_date >= {{ date_literal(counted_until()) }}
),

others as (
    select
        source,
        landed_file,
        {{ utc_timestamp('event_at') }} as event_at
    from {{ source('lake', 'raw_other_events') }}
    where event_at > {{ lake_timestamp(utc_literal(counted_until())) }}
),

events as (
    select * from calls
    union all
    select * from others
),

named as (
    select
        -- an event without an id has the place of its file for a source
        case
            when source = '' or left(source, length(landed_file) + 1) = landed_file || '#' then landed_file
            else source
        end as producer,
        event_at
    from events
),

final as (
    select
        producer,
        cast(count(*) as bigint) as event_count,
        max(event_at) as furthest_at,
        cast({{ hours_between(utc_literal(as_of()), 'max(event_at)') }} as bigint) as hours_ahead
    from named
    group by producer
)

select * from final
