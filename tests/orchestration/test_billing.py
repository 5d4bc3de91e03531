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
from orchestration.channels import stripe_client
from orchestration.delivery.meter_ledger import MeterLedger
from orchestration.settings import Settings
from orchestration.usage.metering import ReportState
from tests.fake_stripe import FakeStripe
from tests.fakes import LOST_BEFORE, Fault

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


def test_what_waited_until_its_invoice_was_final_is_held_and_not_sent(world: World) -> None:
    """Stripe is down for a day and a half, across the end of the month; its first report stays in doubt."""
    last = datetime(2026, 11, 30, 22, tzinfo=UTC)
    world.now = last + HOUR + timedelta(minutes=5)
    world.usage = {("a", "cus_a", last - 24 * HOUR): 5, ("b", "cus_b", last): 3}
    world.stripe.then(*[LOST_BEFORE] * 9)
    assert world.run().sent
    world.now = datetime(2026, 12, 2, 6, 5, tzinfo=UTC)
    world.stripe.calm()
    world.run()

    assert world.totals("cus_b") == {}
    [problem] = [each for each in world.ledger.problems() if each.stripe_customer_id == "cus_b"]
    assert (problem.state, problem.error) == (ReportState.HELD, "+3 units are not billed: its invoice is final")


def test_same_refusal_of_every_report_stops_the_run(world: World) -> None:
    for number in range(60):
        world.stripe.add_customer(f"cus_{number}")
        world.usage[f"a{number}", f"cus_{number}", SEVEN] = 1
    body = '{"error": {"type": "invalid_request_error", "message": "Your account is closed."}}'
    world.stripe.then(*[Fault(status=400, body=body)] * 99)

    outcome = world.run()
    assert outcome.sent
    assert outcome.sent.stopped == "Stripe refuses whatever it is sent: Stripe refused it: Your account is closed."
    assert world.stripe.events == []


def test_usage_that_moved_to_the_right_customer_is_no_problem_any_more(world: World) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5}
    world.stripe.then(Fault(status=400, body='{"error": {"type": "invalid_request_error", "message": "No."}}'))
    world.run()
    assert len(world.ledger.problems()) == 1
    world.usage = {("a", "cus_b", SEVEN): 5}
    world.run()

    assert (world.totals("cus_a"), world.totals("cus_b")) == ({}, {SEVEN: 5})
    assert world.ledger.problems() == []
    assert world.ledger.open_days() == set()


def test_adopted_total_is_what_the_next_report_is_made_from(world: World) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5}
    world.run()
    world.usage = {("a", "cus_a", SEVEN): 9}
    hour = int(SEVEN.timestamp())
    post(world, "by-hand", "2", hour)
    shown = world.totals("cus_a")[SEVEN]
    adopted = billing.adopt(world.config, lambda: world.now, "cus_a", SEVEN)
    assert adopted.units == shown != 5
    world.run()
    world.run()

    assert world.totals("cus_a") == {SEVEN: 9}


def post(world: World, identifier: str, value: str, at: int) -> None:
    """Somebody else reports to the meter."""
    client = stripe_client.connect(world.config)
    assert client
    payload = {"stripe_customer_id": "cus_a", "value": value}
    client.v1.billing.meter_events.create(
        {"event_name": "api-calls", "identifier": identifier, "payload": payload, "timestamp": at}
    )
