"""What an account's page says of its billing: each meter by its own reports, and why one is not billed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.ledger.ledger import Ledger
from orchestration.pages.account_billing import billing
from orchestration.pages.asking import Asked, Visitor
from orchestration.pages.links import Served
from tests.fakes.stripe import FakeStripe
from tests.support.billing_world import HOUR, METERS, NOW, SEVEN, World
from tests.support.duckdb_file import opened

ROW = {
    "account_id": "acme",
    "stripe_customer_id": "cus_a",
    "is_billed": True,
    "is_main": False,
    "period_start": datetime(2026, 11, 1, tzinfo=UTC),
    "period_end": datetime(2026, 12, 1, tzinfo=UTC),
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """acme used 1.5 GB in two hours; only the first of them was reported."""
    with FakeStripe() as stripe:
        stripe.add_customer("cus_a")
        stripe.add_meter(METERS["data"])
        made = World(tmp_path, stripe, meter="data")
        made.usage = {("acme", "cus_a", SEVEN - HOUR): 1_200}
        made.run()
        made.usage[("acme", "cus_a", SEVEN)] = 300
        made.publish()
        with opened(made.config.published) as connection:
            connection.execute("create table account_customers as select 'acme' as account_id,"
                               " 'cus_a' as stripe_customer_id")  # fmt: skip
        yield made


def shown(world: World, **of_meter: Any) -> dict[str, Any]:
    settings = world.config
    settings._billed_meter = ""  # the pages have the settings of everybody
    ledger = Ledger(settings.ledger_url)
    asked = Asked(settings, ledger, NOW, Visitor("CS team", "internal"), Served(), {})
    found = billing(asked, {**ROW, **of_meter})
    ledger.close()
    return found


def test_meter_of_its_own_shows_what_was_reported_of_it(world: World) -> None:
    found = shown(world, meter="data", unit="0.001 GB")
    assert [(label, value) for label, value, _ in found["figures"]] == [
        ("Counted", "1.5 GB"),
        ("Reported to Stripe", "1.2 GB"),
        ("Confirmed by Stripe", "0 of 2 hours"),
    ]
    assert found["is_reported"] and (found["customer"], found["accounts"]) == ("cus_a", 1)


def test_hours_that_stripe_confirmed_are_counted(world: World) -> None:
    world.look(after=HOUR)
    confirmed = shown(world, meter="data", unit="0.001 GB")["figures"][2]
    assert confirmed[:2] == ("Confirmed by Stripe", "1 of 2 hours")


@pytest.mark.parametrize(
    ("of_meter", "said"),
    [
        ({"meter": "storage", "is_billed": False}, "Usage of storage is not billed through Headroom."),
        ({"meter": "api-calls", "is_main": True, "is_billed": False}, "Usage of api-calls is not billed"),
        ({"meter": "data", "stripe_customer_id": None}, "the account has no Stripe customer"),
        ({"meter": "logs"}, "Usage of logs has no meter at Stripe"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["meter"],
)
def test_meter_that_is_not_billed_says_why(world: World, of_meter: dict[str, Any], said: str) -> None:
    assert said in shown(world, unit="calls", **of_meter)["reason"]
