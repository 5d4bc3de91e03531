"""What the page of one account asks of the published copy: columns of marts. Days are asked for in account_usage.py.

Each question is of that account alone, so that it stays fast with a million others.
"""

from orchestration.warehouse.queries import account_hash

ACCOUNT_METERS = """
    select *, true as is_current_period, cast(null as bigint) as used_since
    from utilization_mtd
    where account_id = $account_id
    order by is_main desc, meter
"""
"""With METER_FACTS, all that a message may say of the account, as `digest_query.DIGEST_ACCOUNTS` has it; but not what
was used since a digest. Two questions take half the time of one: to plan a join of so many columns takes 4 ms.
"""


METER_FACTS = """
    select
        utilization.meter, meters.unit_singular, meters.is_billed,
        coalesce(utilization.meter = $calls_meter, false) as is_calls,
        overage.currency, overage.cost_of_waiting, overage.projected_overage_value, overage.next_plan_delta,
        overage.is_refused, overage.is_refused_on_next_plan,
        quotas.previous_quota, quotas.effective_at as quota_since,
        coalesce(storms.is_retry_storm, false) as is_retry_storm,
        advice.advice, advice.situation, advice.reasons, advice.next_step, advice.by_when,
        advice.owner as advice_owner, advice.value, advice.is_announced
    from utilization_mtd as utilization
    left join meters on meters.meter = utilization.meter
    left join overage on overage.account_id = $account_id and overage.meter = utilization.meter
    left join account_advice as advice on advice.account_id = $account_id and advice.meter = utilization.meter
    left join period_quotas as quotas
        on quotas.account_id = $account_id and quotas.meter = utilization.meter and quotas.is_current
    left join retry_storms as storms
        -- of the meter of calls alone the share of failed ones is known
        on storms.account_id = $account_id and utilization.error_ratio_7d is not null
    where utilization.account_id = $account_id
"""


PERIOD_DAYS_OF_METER = f"""
    select usage_date as utc_day, units
    from daily_usage
    where
        account_id = $account_id and meter = $meter
        and usage_date >= cast($start::timestamp + interval 1 day - interval 1 microsecond as date)
        and usage_date < cast($until::timestamp as date)
    union all
    select usage_date as utc_day, sum(units)::bigint as units
    from hourly_usage
    where
        account_id = $account_id and account_hash = {account_hash("$account_id")} and meter = $meter
        and usage_date in (cast($start::timestamp as date), cast($until::timestamp as date))
        and hour_start >= $start::timestamp and hour_start < $until::timestamp
        and (
            hour_start < cast($start::timestamp + interval 1 day - interval 1 microsecond as date)
            or hour_start >= cast($until::timestamp as date)
        )
    group by usage_date
    order by utc_day
"""
"""Whole days, and by hours the first and the last one: a period may begin within a day."""


PERIOD_CROSSINGS = """
    select threshold, unit, crossed_at, reached_at_units, quota, used, pct_of_cap, severity, cause, is_in_digest
    from threshold_crossings
    where account_id = $account_id and meter = $meter and period_start = $period_start::timestamp
    order by crossed_at, reached_at_units, threshold
"""


QUOTA_CHANGES = """
    select quota_version, quota, previous_quota, plan, effective_at
    from quota_history
    where account_id = $account_id and meter = $meter
    order by quota_version desc
    limit $limit
"""
"""The newest first."""


CALLED_ENDPOINTS = f"""
    select endpoint as value, sum(calls)::bigint as used, sum(calls_with_status)::bigint as calls_with_status,
        sum(throttled_calls)::bigint as throttled_calls, sum(client_error_calls)::bigint as client_error_calls,
        sum(server_error_calls)::bigint as server_error_calls, sum(sum(calls)) over ()::bigint as all_used,
        count(*) over () as values
    from daily_usage_by_endpoint
    where
        account_id = $account_id and account_hash = {account_hash("$account_id")}
        and usage_date > $through - 7 and usage_date <= $through
    group by endpoint
    order by used desc, value
    limit $limit
"""


USED_PROPERTIES = """
    select property, value, sum(units)::bigint as used,
        sum(sum(units)) over (partition by property)::bigint as all_used,
        count(*) over (partition by property) as values
    from daily_usage_by_property
    where
        account_id = $account_id and meter = $meter and usage_date > $through - 7 and usage_date <= $through
    group by property, value
    qualify row_number() over (partition by property order by sum(units) desc, value) <= $limit
    order by property, used desc, value
"""


FAILED_CALLS = """
    select through_date, has_enough_calls_7d, refused_calls_7d,
        calls_7d, error_ratio_7d, retryable_ratio_7d, throttled_ratio_7d,
        calls_before_7d, error_ratio_before_7d, retryable_ratio_before_7d, throttled_ratio_before_7d
    from error_rates
    where account_id = $account_id
"""


HOURS_OF_DAY = f"""
    select hour_of_day, days, calls, mean_calls, share_ratio, burstiness
    from hourly_profile
    where account_id = $account_id and account_hash = {account_hash("$account_id")}
    order by hour_of_day
"""


ACCOUNT_OUTCOMES = """
    select * from alert_outcomes
    where account_id = $account_id
    order by alerted_at desc, meter
    limit $limit
"""


BILLED_SO_FAR = f"""
    select
        count(*) as hours, sum(billable_units)::bigint as billable_units, sum(reported_units)::bigint as reported_units,
        count(*) filter (where state = 'confirmed' and billable_units = reported_units) as confirmed_hours,
        count(*) filter (where state not in ('unreported', 'previewed')) as reported_hours
    from billing_reconciliation_hourly
    where
        stripe_customer_id = $stripe_customer_id and customer_hash = {account_hash("$stripe_customer_id")}
        and hour_start >= $period_start::timestamp
        and hour_start < $period_end::timestamp
"""


CUSTOMER_ACCOUNTS = """
    select count(distinct account_id) as accounts from account_customers where stripe_customer_id = $stripe_customer_id
"""
