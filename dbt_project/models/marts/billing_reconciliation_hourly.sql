with counted as (
    select
        stripe_customer_id,
        hour_start,
        cast(
            sum(billable_units{% if bills_sampled() %} + sampled_units{% endif %}) as bigint
        ) as billable_units
    from {{ ref('billable_usage_hourly') }}
    where
        stripe_customer_id is not null
        and hour_start >= {{ utc_literal(days_ago(var("billed_usage_days"))) }}
    group by stripe_customer_id, hour_start
),

reports as (
    select
        *,
        -- what Stripe has, or may have
        state in ('sending', 'sent', 'confirmed', 'mismatch') as is_standing
    from {{ ref('stg_meter_reports') }}
    where
        hour_date >= {{ date_literal(days_ago(var("billed_usage_days"))) }}
        -- what was counted of an hour before is not known any more
        and hour_date >= {{ kept_from() }}
),

revised as (
    select
        *,
        count(*) over (partition by stripe_customer_id, hour_start) as revisions,
        max(revision) over (partition by stripe_customer_id, hour_start) as newest_revision,
        max(case when is_standing then revision end) over (partition by stripe_customer_id, hour_start)
            as standing_revision
    from reports
),

newest as (
    select * from revised
    where revision = newest_revision
),

standing as (
    select * from revised
    where revision = standing_revision
),

reported as (
    select
        newest.stripe_customer_id,
        newest.hour_start,
        newest.state,
        newest.revisions,
        newest.error,
        standing.units as reported_units,
        standing.identifier as identifier,
        standing.first_attempt_at as first_attempt_at,
        case when standing.state <> 'sending' then standing.finished_at end as sent_at,
        case when standing.state = 'confirmed' then standing.checked_at end as confirmed_at,
        standing.stripe_units as stripe_units
    from newest
    left join standing
        on
            newest.stripe_customer_id = standing.stripe_customer_id
            and newest.hour_start = standing.hour_start
),

final as (
    select
        coalesce(counted.stripe_customer_id, reported.stripe_customer_id) as stripe_customer_id,
        coalesce(counted.hour_start, reported.hour_start) as hour_start,
        coalesce(counted.billable_units, 0) as billable_units,
        coalesce(reported.reported_units, 0) as reported_units,
        reported.stripe_units,
        reported.stripe_units - coalesce(counted.billable_units, 0) as difference,
        coalesce(reported.state, 'unreported') as state,
        coalesce(reported.revisions, 0) as revisions,
        reported.identifier,
        reported.first_attempt_at,
        reported.sent_at,
        reported.confirmed_at,
        reported.error,
        {{ account_hash('coalesce(counted.stripe_customer_id, reported.stripe_customer_id)') }} as customer_hash
    from counted
    full outer join reported
        on
            counted.stripe_customer_id = reported.stripe_customer_id
            and counted.hour_start = reported.hour_start
)

select * from final
