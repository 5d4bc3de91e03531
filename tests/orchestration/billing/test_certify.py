"""At the end of a usage period: was it billed as it was counted? From a hand-written published copy, by a loopback
Stripe.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration.billing import certify, reconcile
from orchestration.billing.certificate import Certificate, Status
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.certify import CertifyResult
from orchestration.channels.stripe import connect_meter
from tests.fakes.postgres import Postgres
from tests.fakes.stripe import FakeStripe
from tests.support.billing_world import HOUR, World, naive

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
LAST = END - HOUR
FIRST = START + 10 * HOUR
GRACE = 6


class Closing(World):
    """Six hours of grace, and periods that can be given."""

    def __init__(self, folder: Path, stripe: FakeStripe) -> None:
        super().__init__(folder, stripe, HEADROOM_STRIPE_GRACE_HOURS=GRACE)
        self.periods: list[tuple[str, datetime, datetime, str]] = []
        self.now = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)

    def publish(self) -> None:
        super().publish()
        rows = self.periods or [
            (account, start, end, "calendar month")
            for account, *_ in self.usage
            for start, end in ((START, END), (END, END + timedelta(days=31)))
        ]
        with duckdb.connect(str(self.config.published)) as connection:
            connection.execute("delete from account_periods")
            connection.executemany(
                "insert into account_periods values (?, ?, ?, ?)",
                [(account, naive(start), naive(end), source) for account, start, end, source in set(rows)],
            )

    def certify(self, at: datetime | None = None, **settings: Any) -> CertifyResult:
        self.now = at or self.now
        self.settings |= settings
        result = certify.certify(self.config, connect_meter, lambda: self.now)
        assert result
        return result

    def hour(self, at: datetime) -> None:
        """What the hourly job does, up to the certificates."""
        self.now = at
        self.run()
        reconcile.look_back(self.config, connect_meter, lambda: self.now)

    def certificate(self, customer: str = "cus_a", start: datetime = START) -> Certificate:
        return Certificates(self.ledger).since(START - timedelta(days=365))[customer, start]


@pytest.fixture(
    params=[("hour", "sqlite"), (None, "sqlite"), ("hour", "postgres")],
    ids=["totals", "differences", "totals, ledger on Postgres"],
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Closing]:
    window, database = request.param
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", window)
        for customer in ("cus_a", "cus_b"):
            stripe.add_customer(customer)
        closing = Closing(tmp_path, stripe)
        if database == "postgres":
            server: Postgres = request.getfixturevalue("postgres")
            closing.settings["HEADROOM_LEDGER_URL"] = server.ledger()
        yield closing


def test_period_is_certified_once_when_counted_reported_and_shown_agree(world: Closing) -> None:
    world.usage = {("a1", "cus_a", FIRST): 5, ("a2", "cus_a", FIRST): 2, ("a1", "cus_a", LAST): 9}
    world.hour(LAST + timedelta(minutes=5))
    assert world.certify() == CertifyResult(), "the period still runs"

    world.hour(END + timedelta(minutes=5))
    assert [each.difference for each in world.certify().open] == [
        "1 hours are being reported, and compared by a later run"
    ]
    assert world.certificate().stripe_units is None

    world.hour(END + timedelta(minutes=65))
    result = world.certify()
    assert (result.certified, result.open, result.left) == (1, [], 0)
    assert result.reads == 8, "720 hours, 100 a page"
    found = world.certificate()
    assert (found.status, found.hours, found.units, found.reported_units, found.stripe_units) == (
        Status.CERTIFIED,
        *(2, 16, 16, 16),
    )
    assert found.is_before_final
    assert "before the invoice became final (2026-12-01 06:00)" in found.sentence

    world.hour(END + timedelta(hours=30))
    assert world.certify() == CertifyResult()


def test_difference_at_stripe_is_named_by_the_hour_and_checked_again(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", FIRST): 1}
    world.hour(END + timedelta(minutes=5))
    for event in world.stripe.events:
        event.payload["value"] = "4" if event.payload["value"] == "5" else "1"
    at = END + timedelta(hours=1)
    result = world.certify(at)

    assert result.certified == 1
    assert [each.difference for each in result.open] == ["2026-11-01 10:00 UTC: 5 counted, 4 shown by Stripe"]
    assert "Not certified" in world.certificate().sentence
    assert world.certify(at + 2 * HOUR) == CertifyResult(), "too early"
    assert world.certify(END + timedelta(hours=GRACE - 1)).reads == 8, "once more before the invoice is final"
    assert world.certify(END + timedelta(hours=GRACE - 1, minutes=5)) == CertifyResult()
    assert world.certify(END + timedelta(hours=GRACE + 1)) == CertifyResult(), "looked at less than six hours ago"
    for event in world.stripe.events:
        event.payload["value"] = "5" if event.payload["value"] == "4" else "1"
    assert world.certify(END + timedelta(hours=GRACE + 5)).certified == 1
    assert not world.certificate().is_before_final


def test_unreported_usage_is_found_without_asking_stripe(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("a", "cus_a", LAST): 1}
    world.hour(END + timedelta(minutes=5))
    world.now = END + timedelta(hours=GRACE, minutes=5)
    world.usage["a", "cus_a", FIRST] = 8
    world.look()  # what is held is told when it is sure what Stripe has
    world.run()
    before = len(world.stripe.requests)
    [found] = world.certify().open

    assert found.difference == (
        "2026-11-01 10:00 UTC: 8 counted, 5 reported (+3 units are not billed: its invoice is final)"
    )
    assert not any("event_summaries" in request.path for request in world.stripe.requests[before:])
    assert len(world.certify(world.now + HOUR).open) == 1, "costs no read, so it is looked at each time"


def test_certified_period_is_compared_again_when_changed_before_final(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5}
    world.hour(END + timedelta(minutes=5))
    assert world.certify(END + HOUR).certified == 1
    world.usage["a", "cus_a", FIRST] = 6
    for minutes in (120, 215):  # a difference waits until what came before it must be seen
        world.hour(END + timedelta(minutes=minutes))
    assert world.certify(END + 4 * HOUR).certified == 1
    assert world.certificate().units == 6

    world.usage["a", "cus_a", FIRST] = 7
    world.hour(END + timedelta(hours=GRACE + 1))
    assert world.certify() == CertifyResult(), "what was billed stays certified"
    assert world.certificate().units == 6


def test_period_that_a_changed_quota_splits_is_one(world: Closing) -> None:
    middle = START + timedelta(days=14)
    world.periods = [("a", START, middle, "calendar month"), ("a", middle, END, "quota change")]
    world.usage = {("a", "cus_a", FIRST): 5, ("a", "cus_a", LAST): 6}
    world.hour(middle + timedelta(hours=1))
    assert world.certify() == CertifyResult()
    world.hour(END + timedelta(minutes=5))
    assert world.certify(END + HOUR).certified == 1
    assert (world.certificate().period_end, world.certificate().units) == (END, 11)


def test_reads_are_shared_with_the_hourly_comparison(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", FIRST): 1}
    world.hour(END + timedelta(minutes=5))
    world.now = END + HOUR
    reconcile.look_back(world.config, connect_meter, lambda: world.now)  # two reads

    result = world.certify(HEADROOM_STRIPE_READS_PER_DAY=12)
    assert (result.certified, result.reads, result.left) == (1, 8, 1)
    assert world.certify() == CertifyResult(left=1)
    assert world.certify(END + timedelta(days=1)).certified == 1


def test_customer_that_stripe_does_not_know_is_open_and_stops_no_other(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", FIRST): 1}
    world.hour(END + timedelta(minutes=5))
    world.stripe.delete_customer("cus_a")
    result = world.certify(END + HOUR)

    assert result.certified == 1
    [found] = result.open
    assert found.stripe_customer_id == "cus_a"
    assert "cus_a" in str(found.difference)


def test_stripe_that_is_down_leaves_all_for_later(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", FIRST): 1}
    world.hour(END + timedelta(minutes=5))
    world.stripe.before = lambda request: setattr(world.stripe, "is_down", "event_summaries" in request.path)
    result = world.certify(END + HOUR)
    assert (result.certified, result.left) == (0, 2)
    assert "no usable answer from Stripe" in result.stopped
    world.stripe.before, world.stripe.is_down = (lambda _: None), False
    assert world.certify().certified == 2


def test_periods_before_the_first_report_are_not_certified(world: Closing) -> None:
    october = START - timedelta(days=31)
    world.periods = [("a", october, START, "calendar month"), ("a", START, END, "calendar month")]
    world.usage = {("a", "cus_a", october + HOUR): 5, ("a", "cus_a", FIRST): 1}
    world.hour(START + timedelta(days=2))
    assert world.certify() == CertifyResult()


def test_without_a_key_nothing_is_compared(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5}
    world.publish()
    config = world.config.model_copy(update={"stripe_api_key": None})
    assert certify.certify(config, connect_meter, lambda: world.now) is None
