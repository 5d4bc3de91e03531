with meters as (
    select * from {{ ref('meters') }}
    where aggregation = 'latest'
),

events as (
    select
        account_id,
        meter,
        event_at as read_at,
        {{ whole_number('sent_used') }} as used,
        ingested_at,
        source,
        event_id
    from {{ ref('stg_limits_reached') }}

    union all

    select
        account_id,
        meter,
        effective_at as read_at,
        {{ whole_number('sent_used') }} as used,
        ingested_at,
        source,
        event_id
    from {{ ref('stg_quota_sets') }}
),

final as (
    select
        events.account_id,
        events.meter,
        cast(
            row_number() over (
                partition by events.account_id, events.meter
                order by events.read_at, events.ingested_at, events.event_id, events.source
            ) as integer
        ) as reading_number,
        events.read_at,
        events.used,
        lag(events.used) over (
            partition by events.account_id, events.meter
            order by events.read_at, events.ingested_at, events.event_id, events.source
        ) as previous_used
    from events
    inner join meters on events.meter = meters.meter
    where events.used is not null
)

select * from final
