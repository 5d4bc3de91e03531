"""A warehouse, a Stripe and a clock: what is billed in tests, without dbt, from a published copy written by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from orchestration import billing
from orchestration.delivery.meter_ledger import MeterLedger
from orchestration.delivery.reporter import Looked
from orchestration.settings import Settings
from orchestration.usage.periods import month_start
from tests.fake_stripe import FakeStripe

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SEVEN = datetime(2026, 11, 20, 7, tzinfo=UTC)

EMPTY = """
    create or replace table data_quality (as_of timestamp);
    create or replace table account_periods (
        account_id varchar, period_start timestamp, period_end timestamp, source varchar
    );
    create or replace table billable_usage_hourly (
        account_id varchar, stripe_customer_id varchar, hour_start timestamp, billable_units bigint,
        sampled_calls bigint
    );
"""


class World:
    """One installation: its usage, its settings, its data folder. Everybody's clock is `now`."""

    def __init__(self, folder: Path, stripe: FakeStripe, **settings: Any) -> None:
        self.folder, self.stripe, self.now, self.settings = folder, stripe, NOW, settings
        self.usage: dict[tuple[str, str | None, datetime], int] = {}
        """Units by account, its customer and hour."""
        self.sampled: dict[tuple[str, str | None, datetime], int] = {}
        """Sampled calls beside them."""
        stripe.clock = lambda: self.now.timestamp()

    def clock(self) -> datetime:
        return self.now

    @property
    def config(self) -> Settings:
        defaults = {
            "HEADROOM_DATA": self.folder,
            "HEADROOM_NOW": self.clock(),
            "STRIPE_API_KEY": self.stripe.key,
            "STRIPE_API_BASE": self.stripe.url,
            "HEADROOM_STRIPE_REQUESTS_PER_SECOND": 100_000,
        }
        return Settings(**{**defaults, **self.settings})

    @property
    def ledger(self) -> MeterLedger:
        return billing.meter_ledger(self.config)

    def publish(self) -> None:
        path = self.config.published
        path.unlink(missing_ok=True)
        with duckdb.connect(str(path)) as connection:
            self.write(connection)

    def write(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The marts that billing reads, as of now; accounts have calendar months."""
        connection.execute(EMPTY)
        connection.execute("insert into data_quality values (?)", [naive(self.clock())])
        keys = self.usage.keys() | self.sampled.keys()
        if not keys:
            return
        rows = [(key[0], key[1], naive(key[2]), self.usage.get(key, 0), self.sampled.get(key, 0)) for key in keys]
        connection.execute(
            "insert into billable_usage_hourly select unnest($1), unnest($2), unnest($3), unnest($4), unnest($5)",
            [list(column) for column in zip(*rows, strict=True)],
        )
        month, last, months = month_start(min(key[2] for key in keys)), month_start(self.clock()), []
        while month <= last:
            months.append((naive(month), naive(month := month_start(month + 32 * DAY))))
        connection.execute(
            "insert into account_periods select account_id, starts, ends, 'calendar month'"
            " from (select distinct account_id from billable_usage_hourly)"
            " cross join (select unnest($1) as starts, unnest($2) as ends)",
            [list(column) for column in zip(*months, strict=True)],
        )

    def run(self, **options: Any) -> billing.Outcome:
        self.publish()
        return billing.report_usage(self.config, self.clock, **options)

    def look(self, after: timedelta = timedelta()) -> Looked:
        self.now += after
        looked = billing.look_back(self.config, self.clock)
        assert looked
        return looked

    def totals(self, customer: str) -> dict[datetime, int]:
        """What Stripe bills, by hour."""
        found = self.stripe.totals(customer, "api-calls", at_once=True)
        return {datetime.fromtimestamp(hour, UTC): int(units) for hour, units in found.items()}

    def problems(self) -> dict[tuple[str, datetime], str]:
        """What the ledger says of each hour that is not billed as it should be."""
        return {(row.stripe_customer_id, row.hour_start): str(row.error) for row in self.ledger.problems()}


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
