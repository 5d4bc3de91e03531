with utilization as (
    select * from {{ ref('utilization_mtd') }}
    where {{ is_main('meter') }}
),

-- Of any meter: what the digest announces is not of calls alone.
at_threshold as (
    select
        count(distinct account_id) as account_count,
        count(distinct case when is_owner_missing then account_id end) as ownerless_count
    from {{ ref('utilization_mtd') }}
    where is_at_threshold
),

arrivals as (
    select
        max(last_arrived_at) as last_arrived_at,
        coalesce(sum(case when {{ is_of_calls('meter') }} then events end), 0) as call_count
    from {{ ref('hourly_usage') }}
),

rejected as (
    select
        count(*) as line_count,
        coalesce(sum(uncounted.event_count), 0) as event_count,
        coalesce(
            sum(case when uncounted.known_at < {{ midnight(kept_from()) }} then 0 else uncounted.event_count end), 0
        ) as kept_event_count
    from {{ ref('events_not_counted') }} as uncounted
    where uncounted.kind = 'rejected'
),

refused as (
    select count(*) as value_count
    from {{ ref('events_not_counted') }} as uncounted
    where
        uncounted.kind = 'refused'
        and uncounted.known_at >= {{ utc_literal(days_ago(30)) }}
),

unmapped as (
    select count(*) as subject_count from {{ ref('unmapped_usage') }}
    where calls_30d > 0
),

others as (
    select
        count(*) as event_count,
        count(case when aggregation is null then 1 end) as unknown_meter_count
    from {{ ref('meter_events') }}
),

ahead as (
    select
        coalesce(sum(uncounted.event_count), 0) as event_count,
        coalesce(max(uncounted.hours_ahead), 0) as hours_ahead,
        max(uncounted.known_at) as furthest_at
    from {{ ref('events_not_counted') }} as uncounted
    where uncounted.kind = 'ahead'
),

furthest as (
    select min({{ nullable('waiting.producer') }}) as producer
    from {{ ref('events_not_counted') }} as waiting
    inner join ahead on waiting.known_at = ahead.furthest_at
    where waiting.kind = 'ahead'
),

lines as (
    select
        arrivals.call_count + others.event_count as accepted_count,
        arrivals.call_count + others.event_count + rejected.kept_event_count as line_count
    from arrivals
    cross join others
    cross join rejected
),

final as (
    select
        {{ utc_literal(as_of()) }} as as_of,
        {{ kept_from() }} as kept_from,
        max(utilization.last_call_at) as data_through,
        max(arrivals.last_arrived_at) as last_arrived_at,
        {{ hours_between('max(utilization.last_call_at)', utc_literal(as_of())) }} as hours_since_call,
        {{ hours_between('max(arrivals.last_arrived_at)', utc_literal(as_of())) }} as hours_since_arrival,
        cast(count(utilization.account_id) as bigint) as accounts, -- noqa: RF04
        cast(max(at_threshold.account_count) as bigint) as accounts_at_threshold,
        cast(count(case when utilization.quota_state = 'unknown' and utilization.used_mtd > 0 then 1 end) as bigint)
            as accounts_without_quota,
        cast(count(case when utilization.quota_state = 'blocked' and utilization.used_mtd > 0 then 1 end) as bigint)
            as accounts_blocked_with_usage,
        cast(
            count(case when utilization.stripe_customer_id is null and utilization.used_mtd > 0 then 1 end) as bigint
        ) as accounts_without_customer,
        cast(max(at_threshold.ownerless_count) as bigint) as accounts_without_owner,
        cast(count(case when utilization.ci95_pct > 0 then 1 end) as bigint) as accounts_sampled,
        cast(max(unmapped.subject_count) as bigint) as subjects_unmapped,
        cast(max(rejected.line_count) as bigint) as rejected_lines,
        cast(max(rejected.event_count) as bigint) as lost_events,
        cast(max(lines.accepted_count) as bigint) as accepted_lines,
        cast(
            max(case when lines.line_count > 0 then {{ percentage('lines.accepted_count', 'lines.line_count') }} end)
            as decimal(24, 6)
        ) as complete_pct,
        cast(max(others.unknown_meter_count) as bigint) as events_of_unknown_meter,
        cast(max(refused.value_count) as bigint) as values_refused,
        cast(max(ahead.event_count) as bigint) as events_ahead,
        cast(max(ahead.hours_ahead) as bigint) as hours_ahead,
        max(furthest.producer) as furthest_ahead_producer
    from rejected
    cross join unmapped
    cross join others
    cross join lines
    cross join arrivals
    cross join at_threshold
    cross join ahead
    cross join furthest
    cross join refused
    left join utilization on true
)

select * from final
