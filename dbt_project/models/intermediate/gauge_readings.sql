-- A figure that does not add up, each time it changes: a gauge as it was read, the largest value and the number of
-- different ones as they grow within a usage period.
with readings as (
    select
        account_id,
        meter,
        event_at as read_at,
        used_units as used,
        ingested_at,
        source,
        event_id
    from {{ ref('meter_events') }}
    where aggregation = 'latest' and used_units is not null

    union all

    select
        account_id,
        meter,
        event_at as read_at,
        used,
        ingested_at,
        source,
        event_id
    from {{ ref('event_values') }}
    where aggregation = 'latest' and problem is null
),

periods as (
    select
        account_id,
        period_start,
        period_end
    from {{ ref('account_periods') }}
),

-- An hour counts in the period in which it begins, as with what adds up.
in_periods as (
    select
        recorded.account_id as account_id,
        recorded.meter as meter,
        recorded.aggregation as aggregation,
        periods.period_start as period_start,
        recorded.event_at as read_at,
        recorded.used as used,
        recorded.ingested_at as ingested_at,
        recorded.source as source, -- noqa: RF04
        recorded.event_id as event_id,
        recorded.sent_value as sent_value
    from {{ ref('event_values') }} as recorded
    inner join periods
        on
            recorded.account_id = periods.account_id
            and recorded.hour_start >= periods.period_start
            and recorded.hour_start < periods.period_end
    where
        recorded.aggregation in ('max', 'unique')
        and recorded.problem is null
),

first_seen as (
    select
        *,
        row_number() over (
            partition by account_id, meter, period_start, aggregation, sent_value
            order by read_at, ingested_at, event_id, source
        ) as place
    from in_periods
    where aggregation = 'unique'
),

grown as (
    select
        account_id,
        meter,
        period_start,
        read_at,
        ingested_at,
        source,
        event_id,
        used,
        max(used) over (
            partition by account_id, meter, period_start order by read_at, ingested_at, event_id, source
            rows between unbounded preceding and 1 preceding
        ) as used_before
    from in_periods
    where aggregation = 'max'

    union all

    select
        account_id,
        meter,
        period_start,
        read_at,
        ingested_at,
        source,
        event_id,
        cast(
            row_number() over (
                partition by account_id, meter, period_start order by read_at, ingested_at, event_id, source
            ) as bigint
        ) as used,
        cast(null as bigint) as used_before
    from first_seen
    where place = 1
),

all_readings as (
    select
        account_id,
        meter,
        cast(null as timestamp) as period_start,
        read_at,
        used,
        ingested_at,
        source,
        event_id
    from readings

    union all

    select
        account_id,
        meter,
        period_start,
        read_at,
        used,
        ingested_at,
        source,
        event_id
    from grown
    where used_before is null or used > used_before
),

final as (
    select
        account_id,
        meter,
        period_start,
        cast(
            row_number() over (
                partition by account_id, meter
                order by read_at, ingested_at, event_id, source
            ) as integer
        ) as reading_number,
        read_at,
        used,
        lag(used) over (
            partition by account_id, meter, period_start
            order by read_at, ingested_at, event_id, source
        ) as previous_used
    from all_readings
)

select * from final
