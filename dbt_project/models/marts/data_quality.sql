with utilization as (
    select * from {{ ref('utilization_mtd') }}
),

rejected as (
    select count(*) as line_count from {{ ref('events_rejected') }}
),

final as (
    select
        {{ utc_literal(as_of()) }} as as_of,
        max(utilization.last_call_at) as data_through,
        cast(count(utilization.account_id) as bigint) as accounts, -- noqa: RF04
        cast(count(case when utilization.pct_of_cap >= 80 then 1 end) as bigint) as accounts_over_80_pct,
        cast(count(case when utilization.quota_state = 'unknown' and utilization.used_mtd > 0 then 1 end) as bigint)
            as accounts_without_quota,
        cast(count(case when utilization.quota_state = 'blocked' and utilization.used_mtd > 0 then 1 end) as bigint)
            as accounts_blocked_with_usage,
        cast(
            count(case when utilization.stripe_customer_id is null and utilization.used_mtd > 0 then 1 end) as bigint
        ) as accounts_without_customer,
        cast(count(case when utilization.is_owner_missing and utilization.pct_of_cap >= 80 then 1 end) as bigint)
            as accounts_without_owner,
        cast(count(case when utilization.ci95_pct > 0 then 1 end) as bigint) as accounts_sampled,
        cast(max(rejected.line_count) as bigint) as rejected_lines
    from rejected
    left join utilization on true
)

select * from final
