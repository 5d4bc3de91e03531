"""Usage to a loopback Stripe, from a published copy that is written by hand: what stands there in the end, and what the
ledger says of what does not.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration import billing
from orchestration.delivery.meter_ledger import MeterLedger
from orchestration.settings import Settings
from orchestration.usage.metering import ReportState
from tests.fake_stripe import FakeStripe

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEVEN = datetime(2026, 11, 20, 7, tzinfo=UTC)


class World:
    """A warehouse, a Stripe and a clock."""

    def __init__(self, folder: Path, stripe: FakeStripe, **settings: Any) -> None:
        self.folder, self.stripe, self.now, self.settings = folder, stripe, NOW, settings
        self.usage: dict[tuple[str, str | None, datetime], int] = {}
        """Units by account, its customer and hour."""
        stripe.clock = lambda: self.now.timestamp()

    @property
    def config(self) -> Settings:
        return Settings(
            HEADROOM_DATA=self.folder,
            HEADROOM_NOW=self.now,
            STRIPE_API_KEY=self.stripe.key,
            STRIPE_API_BASE=self.stripe.url,
            HEADROOM_STRIPE_REQUESTS_PER_SECOND=100_000,
            **self.settings,
        )

    @property
    def ledger(self) -> MeterLedger:
        return billing.meter_ledger(self.config)

    def publish(self) -> None:
        path = self.config.published
        path.unlink(missing_ok=True)
        rows = [(account, customer, hour, units) for (account, customer, hour), units in self.usage.items()]
        month = self.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        with duckdb.connect(str(path)) as connection:
            connection.execute("create table data_quality as select cast(? as timestamp) as as_of", [naive(self.now)])
            connection.execute(
                "create table account_periods as select distinct account_id, cast(? as timestamp) as period_start,"
                " cast(? as timestamp) as period_end, 'calendar month' as source"
                " from (select unnest(?) as account_id)",
                [naive(month), naive((month + timedelta(days=31)).replace(day=1)), sorted({row[0] for row in rows})],
            )
            connection.execute(
                "create table billable_usage_hourly (account_id varchar, stripe_customer_id varchar,"
                " hour_start timestamp, billable_units bigint, sampled_calls bigint)"
            )
            connection.executemany(
                "insert into billable_usage_hourly values (?, ?, ?, ?, 0)",
                [(account, customer, naive(hour), units) for account, customer, hour, units in rows],
            )

    def run(self, **options: Any) -> billing.Outcome:
        self.publish()
        return billing.report_usage(self.config, lambda: self.now, **options)

    def totals(self, customer: str) -> dict[datetime, int]:
        found = self.stripe.totals(customer, "api-calls")
        return {datetime.fromtimestamp(hour, UTC): units for hour, units in found.items()}


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


@pytest.fixture(params=["hour", None], ids=["totals", "differences"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", request.param)
        for customer in ("cus_a", "cus_b"):
            stripe.add_customer(customer)
        yield World(tmp_path, stripe)


def test_usage_is_sent_once_and_corrected_when_it_changes(world: World) -> None:
    world.usage = {
        ("a1", "cus_a", SEVEN): 5,
        ("a2", "cus_a", SEVEN): 2,
        ("b", "cus_b", SEVEN): 1,
        ("c", None, SEVEN): 9,
    }
    outcome = world.run()
    assert outcome.sent and (outcome.sent.taken, outcome.planned.unbilled_units) == (2, 9)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})

    world.run()
    world.usage["a1", "cus_a", SEVEN] = 3
    world.run()
    world.run()

    assert world.totals("cus_a") == {SEVEN: 5}
    assert len(world.stripe.events) == 3
    world.now += HOUR
    looked = billing.look_back(world.config, lambda: world.now)
    assert looked and (looked.confirmed, looked.waiting, looked.mismatched) == (2, 0, 0)
    assert world.ledger.problems() == []
    assert {total["state"] for total in world.ledger.totals()} == {ReportState.CONFIRMED}
