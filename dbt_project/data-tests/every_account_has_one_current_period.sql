{{ config(meta={"dagster": {"ref": {"name": "account_periods"}}}) }}
-- Everything that is counted so far is counted in the current period: none of it would show without one.
select
    quotas.account_id,
    count(periods.period_start) as current_periods
from {{ ref('quota_current') }} as quotas
left join {{ ref('account_periods') }} as periods
    on
        quotas.account_id = periods.account_id
        and periods.is_current
where {{ is_main('quotas.meter') }}
group by quotas.account_id
having count(periods.period_start) <> 1
