"""A world with what statements, explanations and problems read besides: names, plans, endpoints."""

from orchestration.settings import PROJECT_ROOT
from orchestration.warehouse.price_list import SEEDS
from tests.support.billing_world import World
from tests.support.duckdb_file import opened

NAMES = {"a1": "Acme Corp", "a2": "Acme Labs", "b": "Globex", "c": "Free Rider"}
PLANS = {"a1": "starter", "a2": "starter"}
"""By account: starter includes 500 units and sells more at 0.6375 USD each. The others have none."""


class StatementWorld(World):
    """With what the commands read besides: names, whose customer an account is, endpoints."""

    def publish(self) -> None:
        super().publish()
        customers = dict.fromkeys((account, customer) for account, customer, _ in self.usage | self.sampled)
        with opened(self.config.published) as connection:
            connection.execute("alter table billable_usage_hourly add column calls bigint")
            connection.execute("alter table billable_usage_hourly add column last_call_at timestamp")
            connection.execute("update billable_usage_hourly set calls = billable_units / 2")
            connection.execute("update billable_usage_hourly set last_call_at = hour_start + interval 59 minute")
            connection.execute("create table stg_customers (account_id varchar, stripe_customer_id varchar)")
            rows = [(account, NAMES.get(account), customer, PLANS.get(account)) for account, customer in customers]
            for row in rows:
                connection.execute("insert into stg_accounts values (?, ?, ?, ?)", row)
            rows = [(account, name, PLANS.get(account)) for account, name in NAMES.items()]
            connection.executemany("insert into utilization_mtd values (?, ?, ?, 'api-calls', true)", rows)
            for seed, columns in SEEDS.items():
                connection.execute(f"drop table if exists {seed}")
                types = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
                file = PROJECT_ROOT / "dbt_project" / "seeds" / f"{seed}.csv"
                connection.execute(
                    f"create table {seed} as from read_csv('{file}', header = true, types = {{{types}}})"
                )
            connection.execute(
                """create table endpoint_weights as
                from (values ('/search', date '2026-11-01', 5), ('/search', date '2027-01-01', 9))
                as weights (endpoint, effective_from, weight)"""
            )
            connection.execute(
                """create table daily_usage_by_endpoint as
                select 'a1' as account_id, date '2026-11-20' as usage_date, *
                from (values ('/search', 2400), ('', 3)) as calls (endpoint, calls)"""
            )
