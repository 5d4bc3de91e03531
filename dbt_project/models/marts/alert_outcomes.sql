with history as (
    select * from {{ ref('quota_history') }}
),

-- All thresholds of a quota that were announced in a period are one alert.
alerts as (
    select
        account_id,
        meter,
        period_start,
        quota,
        min(alerted_at) as alerted_at,
        max_by(threshold, alerted_at) as threshold,
        count(*) as announcements
    from {{ ref('stg_alerts') }}
    group by account_id, meter, period_start, quota
),

-- A raise is credited to the last alert before it, and to none that is too old.
credited as (
    select
        *,
        least(
            coalesce(
                lead({{ nullable('alerted_at') }}) over (
                    partition by account_id, meter
                    order by alerted_at, period_start, quota
                ),
                {{ plus_days('alerted_at', var('alert_credit_days')) }}
            ),
            {{ plus_days('alerted_at', var('alert_credit_days')) }}
        ) as credited_until
    from alerts
),

-- The quota as it was sent: an alert has the one that its period is measured against.
in_force as (
    select
        credited.*,
        history.quota as sent_quota,
        history.plan as plan,
        history.base_price as base_price
    from credited
    left join history
        on
            credited.account_id = history.account_id
            and credited.meter = history.meter
            and credited.alerted_at >= history.effective_at
            and credited.alerted_at < coalesce(history.effective_until, {{ utc_literal(counted_until()) }})
),

raises as (
    select
        in_force.account_id as account_id,
        in_force.meter as meter,
        in_force.period_start as period_start,
        in_force.quota as alerted_quota,
        history.effective_at as quota_raised_at,
        history.quota as new_quota,
        history.plan as new_plan,
        cast(history.base_price - in_force.base_price as decimal(18, 2)) as mrr_delta
    from in_force
    inner join history
        on
            in_force.account_id = history.account_id
            and in_force.meter = history.meter
    where
        history.effective_at > in_force.alerted_at
        and history.effective_at <= in_force.credited_until
        and coalesce(history.quota > in_force.sent_quota, in_force.sent_quota is not null)
    qualify
        row_number() over (
            partition by in_force.account_id, in_force.meter, in_force.period_start, in_force.quota
            order by history.effective_at
        ) = 1
),

answers as (
    select
        alerts.account_id as account_id,
        alerts.meter as meter,
        alerts.period_start as period_start,
        alerts.quota as quota,
        dispositions.disposition as disposition,
        dispositions.dispositioned_at as dispositioned_at
    from {{ ref('stg_alerts') }} as alerts
    inner join {{ ref('alert_dispositions') }} as dispositions
        on
            alerts.message_key = dispositions.message_key
            and alerts.account_id = dispositions.account_id
            and alerts.meter = dispositions.meter
    qualify
        row_number() over (
            partition by alerts.account_id, alerts.meter, alerts.period_start, alerts.quota
            order by dispositions.dispositioned_at desc, alerts.alerted_at desc
        ) = 1
),

final as (
    select
        in_force.account_id as account_id,
        in_force.meter as meter,
        in_force.period_start as period_start,
        in_force.quota as quota,
        in_force.alerted_at as alerted_at,
        in_force.threshold as threshold,
        cast(in_force.announcements as integer) as announcements,
        answers.disposition as disposition,
        answers.dispositioned_at as dispositioned_at,
        in_force.plan as plan,
        raises.quota_raised_at as quota_raised_at,
        raises.new_quota as new_quota,
        raises.new_plan as new_plan,
        raises.mrr_delta as mrr_delta
    from in_force
    left join answers
        on
            in_force.account_id = answers.account_id
            and in_force.meter = answers.meter
            and in_force.period_start = answers.period_start
            and in_force.quota = answers.quota
    left join raises
        on
            in_force.account_id = raises.account_id
            and in_force.meter = raises.meter
            and in_force.period_start = raises.period_start
            and in_force.quota = raises.alerted_quota
)

select * from final
