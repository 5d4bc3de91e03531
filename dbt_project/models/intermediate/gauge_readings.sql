with readings as (
    select
        account_id,
        meter,
        event_at as read_at,
        {{ whole_number('sent_used') }} as used,
        ingested_at,
        source,
        event_id
    from {{ ref('meter_events') }}
    where aggregation = 'latest'
),

final as (
    select
        account_id,
        meter,
        cast(
            row_number() over (
                partition by account_id, meter
                order by read_at, ingested_at, event_id, source
            ) as integer
        ) as reading_number,
        read_at,
        used,
        lag(used) over (
            partition by account_id, meter
            order by read_at, ingested_at, event_id, source
        ) as previous_used
    from readings
    where used is not null
)

select * from final
