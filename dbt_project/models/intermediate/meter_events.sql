-- Both kinds of events that speak of a meter, in one table: the lake's files are read once, and what the seed says of
-- the meter stands beside each event.
with meters as (
    select * from {{ ref('meters') }}
),

events as (
    select
        account_id,
        meter,
        'quota_set' as event_name,
        source,
        event_id,
        effective_at as event_at,
        ingested_at,
        cast(null as varchar) as metric,
        quota,
        cast(null as varchar) as sent_limit,
        sent_used,
        plan
    from {{ ref('stg_quota_sets') }}

    union all

    select
        account_id,
        meter,
        'usage.limit_reached' as event_name,
        source,
        event_id,
        event_at,
        ingested_at,
        metric,
        cast(null as bigint) as quota,
        sent_limit,
        sent_used,
        plan
    from {{ ref('stg_limits_reached') }}
),

final as (
    select
        events.account_id,
        events.meter as meter,
        meters.aggregation,
        events.event_name,
        events.source,
        events.event_id,
        events.event_at,
        events.ingested_at,
        events.metric,
        events.quota,
        events.sent_limit,
        events.sent_used,
        {{ steps('events.sent_limit', scale_of('events.meter')) }} as limit_units,
        {{ steps('events.sent_used', scale_of('events.meter')) }} as used_units,
        events.plan
    from events
    left join meters on events.meter = meters.meter
)

select * from final
