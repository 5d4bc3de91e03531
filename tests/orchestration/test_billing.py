"""Usage to a loopback Stripe, from a published copy that is written by hand: what stands there in the end, and what the
ledger says of what does not.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration import billing
from orchestration.usage.metering import ReportState
from tests.billing_world import HOUR, SEVEN, World
from tests.fake_stripe import FakeStripe


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
