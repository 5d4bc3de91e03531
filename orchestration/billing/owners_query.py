"""Whose usage it is, asked of the published copy: SQL for usage_query.py."""

METER_USAGE = """
    select * from billable_meters_hourly where meter = '{meter}'
"""


CUSTOMERS = """
    select distinct stripe_customer_id from billable_usage_hourly
    where stripe_customer_id is not null and hour_start >= $start and hour_start < $end
"""


UNMAPPED = """
    select hour_start, list(cast(billable_units + $sampled * sampled_units as bigint)) as units
    from billable_usage_hourly
    where stripe_customer_id is null and hour_start >= $start and hour_start < $end
    group by hour_start
"""


OWNERS = """
    select
        customers.stripe_customer_id,
        count(accounts.account_id) as accounts,
        coalesce(min(coalesce(accounts.account_name, accounts.account_id)), '') as account_name,
        case when count(distinct coalesce(accounts.plan, '')) = 1 then min(accounts.plan) end as plan
    from (select unnest($customers) as stripe_customer_id) as customers
    left join stg_accounts as accounts on customers.stripe_customer_id = accounts.stripe_customer_id
    group by customers.stripe_customer_id
"""


BILLABLE_ACCOUNTS = """
    select
        accounts.account_id, accounts.account_name, accounts.stripe_customer_id,
        coalesce(overage.plan, accounts.plan) as plan, overage.included_units,
        coalesce(overage.missing = 'quota unknown', true) as is_quota_unknown
    from stg_accounts as accounts
    left join overage on overage.account_id = accounts.account_id and overage.meter = $meter
    where
        accounts.stripe_customer_id is not null
        and not coalesce(accounts.is_internal, false) and not coalesce(accounts.is_test, false)
        and (
            $is_main
            or coalesce(overage.plan, accounts.plan) in (select plan from plans where meter = $meter)
            or accounts.account_id in (select account_id from billable_meters_hourly where meter = $meter)
        )
    order by accounts.stripe_customer_id, accounts.account_id
"""
