-- Quotas that were raised within the running period, from one that had been crossed.
with running as (
    select * from {{ ref('period_quotas') }}
    where
        is_current
        and effective_at > period_start
        and quota_state in ('limited', 'unlimited')
),

before as (
    select
        running.account_id as account_id,
        running.meter as meter,
        running.period_start as period_start,
        history.quota_version as quota_version,
        history.quota as quota,
        history.effective_until as raised_at,
        coalesce(history.plan, running.plan) as plan
    from running
    inner join {{ ref('quota_history') }} as history
        on
            running.account_id = history.account_id
            and running.meter = history.meter
    where
        history.quota_version < running.quota_version
        and history.quota > 0
        and history.effective_until > running.period_start
        and (running.sent_quota is null or running.sent_quota > history.quota)
),

-- As period_thresholds, of a quota that is in force no more.
thresholds as (
    select
        before.account_id as account_id,
        before.meter as meter,
        before.quota_version as quota_version,
        coalesce(
            {{ ceiling_division('before.quota * thresholds.threshold_pct', '100') }},
            thresholds.threshold_units * {{ scale_of('before.meter') }}
        ) as reached_at_units,
        thresholds.is_in_digest as is_in_digest,
        case when thresholds.plan is null then 0 else 2 end + case when thresholds.meter is null then 0 else 1 end
            as specificity
    from before
    inner join {{ ref('thresholds') }} as thresholds
        on
            before.meter = coalesce(thresholds.meter, before.meter)
            and coalesce(before.plan, '') = coalesce(thresholds.plan, before.plan, '')
),

most_specific as (
    select
        *,
        max(specificity) over (partition by account_id, meter, quota_version) as highest_specificity
    from thresholds
),

lowest as (
    select
        account_id,
        meter,
        quota_version,
        min(reached_at_units) as reached_at_units
    from most_specific
    where specificity = highest_specificity and is_in_digest
    group by account_id, meter, quota_version
),

-- What adds up by whole hours: that of the hour of the change came before it.
used as (
    select
        before.account_id as account_id,
        before.meter as meter,
        before.quota_version as quota_version,
        cast(sum(hours.units) as bigint) as used
    from before
    inner join {{ ref('hourly_usage') }} as hours
        on
            before.account_id = hours.account_id
            and before.meter = hours.meter
    where
        hours.hour_start >= before.period_start
        and hours.hour_start < before.raised_at
    group by before.account_id, before.meter, before.quota_version
    union all
    select
        before.account_id as account_id,
        before.meter as meter,
        before.quota_version as quota_version,
        max_by(readings.used, readings.reading_number) as used
    from before
    inner join {{ ref('gauge_readings') }} as readings
        on
            before.account_id = readings.account_id
            and before.meter = readings.meter
    where
        readings.read_at < before.raised_at
        and (readings.period_start is null or readings.period_start = before.period_start)
    group by before.account_id, before.meter, before.quota_version
),

final as (
    select
        before.account_id as account_id,
        before.meter as meter,
        before.quota as quota_before,
        used.used as used_before,
        before.raised_at as raised_at
    from before
    inner join lowest
        on
            before.account_id = lowest.account_id
            and before.meter = lowest.meter
            and before.quota_version = lowest.quota_version
    inner join used
        on
            before.account_id = used.account_id
            and before.meter = used.meter
            and before.quota_version = used.quota_version
    where used.used >= lowest.reached_at_units
    qualify row_number() over (partition by before.account_id, before.meter order by before.quota_version desc) = 1
)

select * from final
