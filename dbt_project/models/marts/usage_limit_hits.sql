-- What the customers' own systems reported, beside our count of the usage period that it happened in.
with reported as (
    select
        source,
        event_id,
        account_id,
        metric,
        event_at as reached_at,
        date_trunc('hour', event_at) as reached_hour,
        sent_limit as sent_limit_text,
        sent_used as sent_used_text,
        limit_units as sent_limit,
        used_units as sent_used,
        plan,
        meter,
        aggregation
    from {{ ref('meter_events') }}
    where event_name = 'usage.limit_reached'
),

hits as (
    select
        reported.*,
        periods.period_start,
        periods.period_end
    from reported
    left join {{ ref('account_periods') }} as periods
        on
            reported.account_id = periods.account_id
            and reported.reached_at >= periods.period_start
            and reported.reached_at < periods.period_end
),

counted_hits as (
    select * from hits
    where {{ adds_up('aggregation') }}
),

known_accounts as (
    select account_id from {{ ref('hourly_usage') }}
    where account_id in (select counted_hits.account_id from counted_hits)
    union distinct
    select account_id from {{ ref('quota_history') }}
    union distinct
    select account_id from {{ ref('account_periods') }}
    where is_listed
),

quotas as (
    select
        counted_hits.source,
        counted_hits.event_id,
        history.quota_version,
        history.quota,
        history.effective_at
    from {{ ref('quota_history') }} as history
    inner join counted_hits
        on
            history.account_id = counted_hits.account_id
            and history.meter = counted_hits.meter
    where
        history.effective_at <= counted_hits.reached_at
        and (history.effective_until is null or history.effective_until > counted_hits.reached_at)
),

periods_to_count as (
    select distinct
        account_id,
        meter,
        period_start,
        period_end
    from counted_hits
),

cumulated as (
    select
        hourly.account_id,
        hourly.meter,
        periods.period_start,
        hourly.hour_start,
        hourly.units,
        sum(hourly.units) over (
            partition by hourly.account_id, hourly.meter, periods.period_start order by hourly.hour_start
        ) as units_by_hour_end
    from {{ ref('hourly_usage') }} as hourly
    inner join periods_to_count as periods
        on
            hourly.account_id = periods.account_id
            and hourly.meter = periods.meter
            and hourly.hour_start >= periods.period_start
            and hourly.hour_start < periods.period_end
),

counted as (
    select
        counted_hits.source as source, -- noqa: RF04
        counted_hits.event_id as event_id,
        sum(case when cumulated.hour_start < counted_hits.reached_hour then cumulated.units else 0 end) as used_from,
        sum(case when cumulated.hour_start <= counted_hits.reached_hour then cumulated.units else 0 end) as used_to,
        min(
            case
                when quotas.quota > 0 and cumulated.units_by_hour_end >= quotas.quota then cumulated.hour_start
            end
        ) as crossing_hour
    from cumulated
    inner join counted_hits
        on
            cumulated.account_id = counted_hits.account_id
            and cumulated.meter = counted_hits.meter
            and cumulated.period_start = counted_hits.period_start
    left join quotas
        on
            counted_hits.source = quotas.source
            and counted_hits.event_id = quotas.event_id
    group by counted_hits.source, counted_hits.event_id
),

-- The moment where threshold_crossings knows it (this period and the one before, the quota in force at their end),
-- else the hour. A quota that was lowered below the count is reached when it takes effect.
compared as (
    select
        hits.source as source, -- noqa: RF04
        hits.event_id as event_id,
        hits.account_id as account_id,
        hits.metric,
        hits.meter as meter,
        hits.reached_at as reached_at,
        hits.sent_limit_text,
        hits.sent_used_text,
        hits.sent_limit,
        hits.sent_used,
        hits.plan,
        hits.period_start as period_start,
        hits.period_end as period_end,
        {{ adds_up('hits.aggregation') }} as is_counted_here,
        coalesce(hits.aggregation in ('latest', 'max', 'unique'), false) as is_gauge,
        known_accounts.account_id is not null as is_known,
        quotas.quota_version as quota_version,
        quotas.quota as quota,
        -- ahead of the clock, and of the running period's end
        hits.period_start is null and hits.reached_at > {{ utc_literal(as_of()) }} as is_not_begun,
        -- In a period that is not there because it began before the calls that are kept: then a quota may have been in
        -- force, and else it is a month at most that lies across.
        hits.period_start is null
        and hits.reached_at <= {{ utc_literal(as_of()) }}
        and (
            quotas.quota_version is not null
            or hits.reached_at < {{ plus_days(midnight(kept_from()), 31) }}
        ) as is_not_kept,
        is_counted_here and not is_not_kept and not is_not_begun as is_compared,
        case when is_compared then coalesce(counted.used_from, 0) end as used_from,
        case when is_compared then coalesce(counted.used_to, 0) end as used_to,
        case
            when crossings.crossed_at is not null then crossings.crossed_at
            when counted.crossing_hour is not null then greatest(counted.crossing_hour, quotas.effective_at)
        end as crossed_from,
        case
            when crossings.crossed_at is not null then crossings.crossed_at
            when counted.crossing_hour is not null
                then greatest({{ plus_hours('counted.crossing_hour', 1) }}, quotas.effective_at)
        end as crossed_until
    from hits
    left join quotas
        on
            hits.source = quotas.source
            and hits.event_id = quotas.event_id
    left join counted
        on
            hits.source = counted.source
            and hits.event_id = counted.event_id
    left join {{ ref('threshold_crossings') }} as crossings
        on
            hits.account_id = crossings.account_id
            and hits.period_start = crossings.period_start
            and quotas.quota_version = crossings.quota_version
            and hits.meter = crossings.meter
            and crossings.threshold_pct = 100
    left join known_accounts on hits.account_id = known_accounts.account_id
),

judged as (
    select
        *,
        case
            when is_gauge then 'gauge, not counted here'
            when not is_counted_here then 'metric not counted here'
            when is_not_begun then 'period not begun'
            when is_not_kept then 'calls not kept'
            when not is_known then 'account unknown'
            when quota_version is null then 'no quota in force'
            when sent_limit_text is not null and (sent_limit is null or quota is null or sent_limit <> quota)
                then 'other limit'
            when quota = 0 then null
            when crossed_from is null then 'no such crossing'
            when
                reached_at < {{ plus_hours('crossed_from', -1) }}
                or reached_at > {{ plus_hours('crossed_until', 1) }}
                then 'crossing at another time'
        end as reason
    from compared
),

final as (
    select
        source,
        event_id,
        account_id,
        metric,
        meter,
        reached_at,
        sent_limit,
        sent_used,
        sent_limit_text,
        sent_used_text,
        plan,
        quota_version,
        quota,
        cast(used_from as bigint) as used_from,
        cast(used_to as bigint) as used_to,
        cast(
            case
                when sent_used > used_to then sent_used - used_to
                when sent_used < used_from then sent_used - used_from
                when is_compared and sent_used is not null then 0
            end as bigint
        ) as used_difference,
        crossed_from,
        crossed_until,
        case
            when not is_compared then 'not compared'
            when reason is null then 'agree'
            else 'disagree'
        end as verdict,
        reason
    from judged
)

select * from final
