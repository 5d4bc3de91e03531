"""The question that a digest asks of the published copy: the accounts that it may speak of.

Of accounts of which only a decline is said, a digest names the first few and counts the others. With 200,000 accounts
that are 45,000, so they are counted here. Such an account has no threshold crossed, no cap ahead, no new quota: the
digest has nowhere else to say something of it.
"""

DIGEST_ACCOUNTS = """
    select * exclude (is_only_declining),
        greatest(count(*) filter (where is_only_declining) over () - $named::bigint, 0) as left_out
    from (
        select
            utilization.*,
            overage.currency, overage.cost_of_waiting, overage.projected_overage_value, overage.next_plan_delta,
            overage.is_refused, overage.is_refused_on_next_plan,
            quotas.previous_quota, quotas.effective_at as quota_since,
            coalesce(storms.is_retry_storm, false) as is_retry_storm,
            momentum.momentum_word,
            advice.advice, advice.situation, advice.reasons, advice.next_step, advice.by_when,
            advice.owner as advice_owner, advice.value, advice.is_announced,
            case when utilization.aggregation in ('count', 'sum') then coalesce(since_then.used_since, 0) end
                as used_since,
            trends.calls is not null as is_calls,
            coalesce(utilization.severity, 'ok') = 'ok'
                and not coalesce(utilization.hits_cap_in_period, false)
                and coalesce(utilization.used_mtd < utilization.quota, true)
                and coalesce(quotas.effective_at < $since, true)
                and advice.situation is distinct from 'will_not_run_out'
                and not exists (
                    select 1 from threshold_crossings as crossings
                    where
                        crossings.is_in_digest
                        and crossings.account_id = utilization.account_id and crossings.meter = utilization.meter
                ) as is_only_declining
        from utilization_mtd as utilization
        left join overage using (account_id, meter)
        left join account_advice as advice using (account_id, meter)
        left join period_quotas as quotas
            on quotas.account_id = utilization.account_id and quotas.meter = utilization.meter and quotas.is_current
        left join retry_storms as storms
            -- of the meter of calls alone the share of failed ones is known
            on storms.account_id = utilization.account_id and utilization.error_ratio_7d is not null
        -- who uses less of another meter only is still there
        left join momentum
            on momentum.account_id = utilization.account_id and momentum.meter = utilization.meter
            and utilization.is_main
        left join top_accounts_30d as trends
            on trends.account_id = utilization.account_id and trends.meter = utilization.meter
        left join (
            select hours.account_id, hours.meter, sum(hours.units)::bigint as used_since
            from hourly_usage as hours
            join utilization_mtd as counted on counted.account_id = hours.account_id and counted.meter = hours.meter
            where
                hours.hour_start >= date_trunc('hour', $since::timestamp) and hours.hour_start >= counted.period_start
                and hours.hour_start < counted.period_end
            group by hours.account_id, hours.meter
        ) as since_then on since_then.account_id = utilization.account_id and since_then.meter = utilization.meter
        where
            not utilization.is_internal and not utilization.is_test
            and (
                utilization.severity <> 'ok' or utilization.hits_cap_in_period or momentum.momentum_word = 'dropping'
                or quotas.effective_at >= $since
                or (
                    advice.advice = 'csm_check_in'
                    and coalesce(trends.dormant_at >= $dormant_since::timestamp, true)
                )
            )
    ) as accounts
    qualify
        not is_only_declining or $named::bigint is null
        or row_number() over (
            partition by is_only_declining order by coalesce(mrr, 0) desc, account_id, meter
        ) <= $named::bigint
    order by account_id, meter
"""
