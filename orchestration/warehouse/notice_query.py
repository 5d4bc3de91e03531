"""The questions that alerts of one account ask of the published copy: which crossings and limit hits there are, with
what routes filter by, and all that a message may say of an account.
"""

ROUTED_CROSSINGS = """
    select
        crossings.*, utilization.unit, utilization.segment, utilization.owner, utilization.csm,
        utilization.contact_email, utilization.slack_channel, utilization.plan, utilization.limit_kind, advice.advice,
        utilization.is_trial, utilization.is_internal, utilization.is_test, utilization.hits_cap_in_period,
        coalesce(storms.is_retry_storm, false) as is_retry_storm,
        crossings.period_start = utilization.period_start as is_current_period
    from (
        select
            account_id, meter, period_start, period_end, threshold, crossed_at, is_in_digest, pace_matters, quota, used,
            pct_of_cap, severity, cause, false as is_reported
        from threshold_crossings
        where is_in_digest or list_contains($thresholds, threshold)
        union all
        -- the customer's own system says so, and the count has not come to 100 % of the quota that it was about
        select
            hits.account_id, hits.meter, standing.period_start, standing.period_end, '100%' as threshold,
            min(hits.reached_at) as crossed_at, true as is_in_digest, false as pace_matters, any_value(standing.quota),
            any_value(standing.used_mtd), any_value(standing.pct_of_cap), any_value(standing.severity),
            'reported' as cause, true as is_reported
        from usage_limit_hits as hits
        join utilization_mtd as standing
            on
                standing.account_id = hits.account_id and standing.meter = hits.meter
                and standing.quota_state = 'limited'
                and hits.reached_at >= standing.period_start and hits.reached_at < standing.period_end
                and hits.reached_at <= standing.as_of
        left join period_quotas as quotas
            on quotas.account_id = hits.account_id and quotas.meter = hits.meter and quotas.is_current
        where
            -- of the quota that was in force then; of gauges that is not known
            coalesce(hits.quota = standing.quota, hits.reached_at >= quotas.effective_at, true)
            and not exists (
                select 1 from threshold_crossings as counted
                where
                    counted.account_id = hits.account_id and counted.meter = hits.meter
                    and counted.period_start = standing.period_start and counted.threshold = '100%'
            )
        group by hits.account_id, hits.meter, standing.period_start, standing.period_end
    ) as crossings
    join utilization_mtd as utilization using (account_id, meter)
    left join account_advice as advice using (account_id, meter)
    left join retry_storms as storms
        on storms.account_id = utilization.account_id and utilization.error_ratio_7d is not null
    -- when the snooze is over, they are news
    where coalesce(utilization.snoozed_until <= cast(utilization.as_of as date), true)
    order by account_id, meter, crossings.period_start, crossings.quota, crossings.threshold
"""


NOTICE_ACCOUNTS = """
    select
        utilization.*,
        overage.currency, overage.cost_of_waiting, overage.is_refused_on_next_plan,
        coalesce(storms.is_retry_storm, false) as is_retry_storm,
        advice.advice, advice.situation, advice.reasons, advice.next_step, advice.owner as advice_owner
    from utilization_mtd as utilization
    left join overage using (account_id, meter)
    left join account_advice as advice using (account_id, meter)
    left join retry_storms as storms
        on storms.account_id = utilization.account_id and utilization.error_ratio_7d is not null
    where list_contains($accounts, utilization.account_id)
"""
