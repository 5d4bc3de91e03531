"""What the page of a digest asks of the published copy: how its accounts stand now, and what became of their alerts."""

STANDING_NOW = """
    select account_id, meter, is_main, unit, period_start, quota_state, quota, used_mtd, pct_of_cap, ci95_pct
    from utilization_mtd
    where account_id in (select unnest($accounts::varchar[]))
    order by account_id, meter
"""


OUTCOMES_OF = """
    select * from alert_outcomes
    where account_id in (select unnest($accounts::varchar[]))
    order by account_id, meter, alerted_at
"""
