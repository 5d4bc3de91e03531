"""Gauges that are reported to Stripe: each to a meter of its own, from the same ledger, and up to the invoice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestration.billing import certify, meters, reconcile, report
from orchestration.billing.certificate import Status
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.meter import StoppedError
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.read_invoices import read_invoices
from orchestration.channels.stripe import connect_invoices, connect_meter
from orchestration.settings import Settings
from tests.fakes.stripe import FakeStripe
from tests.support.billing_world import HOUR, METERS, SEVEN, QuickWorld, World, quick

NAME = "seats-at-stripe"
FIRST = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(params=["hour", None], ids=["totals", "differences"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A customer with calls and ten seats, of which two go again and three come."""
    with FakeStripe() as stripe:
        stripe.add_customer("cus_a")
        stripe.add_meter("api-calls", request.param)
        world = QuickWorld(tmp_path, stripe)
        world.usage = {("a", "cus_a", SEVEN): 7}
        world.metered["seats"] = {("a", "cus_a", SEVEN - 2 * HOUR): 10, ("a", "cus_a", SEVEN - HOUR): -2}
        with quick(world):
            world.publish()
            yield world


def seats(world: World) -> Settings:
    return meters.settings_of(world.config, "seats")


def shown(world: World) -> int:
    return sum(int(units) for units in world.stripe.totals("cus_a", NAME, at_once=True).values())


def test_meters_are_calls_and_gauges_with_a_name_at_stripe(world: World) -> None:
    found = [(each.billed_meter, each.stripe_meter) for each in meters.each_meter(world.config)]
    assert found == [("", "api-calls"), *METERS.items()]
    assert meters.settings_of(world.config, "api-calls").stripe_meter == "api-calls"
    with pytest.raises(LookupError, match="'storage' has no meter at Stripe, only api-calls, data, peak, seats, users"):
        meters.settings_of(world.config, "storage")


@pytest.mark.parametrize("window", ["hour", None])
def test_gauge_is_reported_as_changes_that_add_up_to_its_reading(world: World, window: str | None) -> None:
    world.stripe.add_meter(NAME, window)
    world.run()
    report.report_usage(seats(world), connect_meter, world.clock)
    assert (shown(world), sum(world.totals("cus_a").values())) == (8, 7)

    world.now += HOUR
    world.metered["seats"]["a", "cus_a", SEVEN] = 3
    world.metered["seats"]["a", "cus_a", SEVEN - HOUR] = -1  # a reading that came late
    world.publish()
    report.report_usage(seats(world), connect_meter, world.clock)
    report.report_usage(seats(world), connect_meter, world.clock)
    assert shown(world) == 12

    world.now += HOUR
    looked = reconcile.look_back(seats(world), connect_meter, world.clock)
    assert looked and (looked.confirmed, looked.mismatched) == (3, 0)
    assert meter_ledger(seats(world)).problems() == []
    assert len(world.ledger.of_customer("cus_a", FIRST, world.now)) == 1, "each meter has rows of its own"


def test_gauge_without_a_meter_at_stripe_keeps_calls_going(world: World) -> None:
    with pytest.raises(StoppedError, match=f"no active meter with the event name '{NAME}'"):
        report.report_usage(seats(world), connect_meter, world.clock)
    world.run()
    assert world.totals("cus_a") == {SEVEN: 7}


def test_invoice_has_the_latest_reading_of_the_period(world: World) -> None:
    meter = world.stripe.add_meter(NAME, "hour")
    price = world.stripe.add_price(NAME, number="price_seat")
    assert price["recurring"]["meter"] == meter["id"]
    world.subscribe("cus_a", price="price_seat")
    report.report_usage(seats(world), connect_meter, world.clock)
    world.now = datetime(2026, 12, 1, 3, 5, tzinfo=UTC)
    world.metered["seats"]["a", "cus_a", datetime(2026, 12, 1, tzinfo=UTC)] = (
        8  # what stands when the next period begins
    )
    world.publish()
    report.report_usage(seats(world), connect_meter, world.clock)
    read_invoices(seats(world), connect_meter, connect_invoices, world.clock)
    certify.certify(seats(world), connect_meter, world.clock)
    [found] = Certificates(meter_ledger(seats(world))).since(world.now - timedelta(days=9)).values()
    assert (found.status, found.units, found.invoice_units) == (Status.CERTIFIED, 8, 8)
    assert certify.certify(world.config, connect_meter, world.clock)
    assert all(
        each.subscription_id is None
        for each in Certificates(world.ledger).since(world.now - timedelta(days=9)).values()
    ), "the subscription to seats bills no calls"
