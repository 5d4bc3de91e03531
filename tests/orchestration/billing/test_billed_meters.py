"""A summed meter with decimals, a unique one and a maximum, each with a price of its own in the same plan: from the
published marts to Stripe's meter, its invoice and the certificate, against amounts that were worked out by hand.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestration.billing import catalog, certify, meters, reconcile, report, statements
from orchestration.billing.certificate import Status
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.meter import StoppedError
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.problems import problems
from orchestration.billing.read_invoices import read_invoices
from orchestration.channels.stripe import connect_invoices, connect_meter, connect_products
from orchestration.cli import stripe_tables
from orchestration.settings import Settings
from tests.fakes.stripe_catalog import CatalogStripe
from tests.support.billing_world import HOUR, METERS, SEVEN, QuickWorld, quick

PLANS = """
    create or replace table plans as
    from (values
        ('pro', 'api-calls', 0.0, 49.00, 'none', null, null, null),
        ('pro', 'data', 100.5, 49.00, 'graduated', null, null, null),
        ('pro', 'peak', 0.0, 49.00, 'package', null, 100.0, 5.00),
        ('pro', 'seats', null, 49.00, 'none', null, null, null),
        ('pro', 'users', 10.0, 49.00, 'flat', 2.50, null, null)
    ) as plans (plan, meter, included_units, base_price, pricing, unit_price, package_units, package_price);
    alter table plans add column limit_kind varchar default 'soft';
    alter table plans add column currency varchar default 'USD';
    create or replace table plan_tiers as
    from (values ('pro', 'data', 1, 1000.0, 0.10, 0.0), ('pro', 'data', 2, null, 0.000000007, 0.0))
    as tiers (plan, meter, tier_number, up_to_units, unit_price, flat_price);
"""
USED = {
    # 1,000,100.5 GB and 123 MB: 1,000 GB at 0.10 USD are 100 USD, 999,000 GB and 123 MB at 0.000000007 are 0.006993
    "data": ({SEVEN - HOUR: 1_000_000_000, SEVEN: 100_623}, 1_000_100_623, 100_00 + 1),
    # 17 users, of whom 10 are included: 7 at 2.50 USD
    "users": ({SEVEN - 2 * HOUR: 12, SEVEN: 5}, 17, 17_50),
    # 250 connections at most: 3 packages of 100
    "peak": ({SEVEN - 2 * HOUR: 180, SEVEN - HOUR: 70}, 250, 15_00),
}
"""By meter: what each hour added, what that is in steps, and what it costs in cents."""


class Plans(QuickWorld):
    """With the plan pro, whose meters are at Stripe as bootstrap makes them."""

    def publish(self) -> None:
        super().publish()
        with self.connected(self.config.published) as connection:
            connection.execute(PLANS)
            connection.execute(
                "insert into stg_accounts select distinct account_id, account_id, stripe_customer_id, 'pro'"
                " from billable_meters_hourly"
            )
            connection.execute(
                "insert into utilization_mtd select account_id, account_id, plan, 'api-calls', true from stg_accounts"
            )

    def of(self, meter: str) -> Settings:
        return meters.settings_of(self.config, meter)

    def report(self, meter: str) -> None:
        """With what has to be approved: hours of a million steps, that none before was like."""
        self.publish()
        outcome = report.report_usage(self.of(meter), connect_meter, self.clock)
        if code := outcome.planned.waiting.code:
            command = f"`headroom stripe --meter {meter} apply --approve {code}`"
            assert command in outcome.planned.waiting.question
            report.report_usage(self.of(meter), connect_meter, self.clock, code)


@pytest.fixture(params=["hour", None], ids=["totals", "differences"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plans]:
    with CatalogStripe() as stripe:
        stripe.add_customer("cus_a")
        for name in METERS.values():
            stripe.add_meter(name, request.param)
        world = Plans(tmp_path, stripe)
        for meter, (hours, _, _) in USED.items():
            world.metered[meter] = {("a", "cus_a", hour): units for hour, units in hours.items()}
        with quick(world):
            world.publish()
            for _ in catalog.make(meters.each_meter(world.config), connect_products):
                pass
            yield world


def price_of(world: Plans, meter: str) -> Any:
    stripe: Any = world.stripe
    return stripe.price(f"headroom_pro_{meter}")


def test_prices_at_stripe_are_those_of_a_step(world: Plans) -> None:
    tiers = [(tier["up_to"], tier["unit_amount_decimal"]) for tier in price_of(world, "data")["tiers"]]
    assert tiers == [(100_500, "0"), (1_100_500, "0.01"), (None, "0.0000000007")]
    assert price_of(world, "peak")["transform_quantity"] == {"divide_by": 100, "round": "up"}
    steps = catalog.catalog_steps(meters.each_meter(world.config), connect_products)
    subjects = [step.subject for step in steps]
    assert subjects.count("product headroom_pro") == subjects.count("price headroom_pro_base") == 1
    assert {f"price headroom_pro_{meter}" for meter in ("api-calls", *METERS)} < set(subjects)
    assert {step.action for step in steps} == {"stands"}


@pytest.mark.parametrize("meter", USED)
def test_usage_of_a_meter_is_invoiced_and_certified_as_it_was_counted(world: Plans, meter: str) -> None:
    _, units, cents = USED[meter]
    world.subscribe("cus_a", price=price_of(world, meter)["id"])
    late = ("a", "cus_a", SEVEN)
    last = world.metered[meter].pop(late, 0)
    world.report(meter)
    world.metered[meter][late] = last  # comes when the first was reported
    world.now += HOUR
    world.report(meter)
    world.report(meter)
    looked = reconcile.look_back(world.of(meter), connect_meter, lambda: world.now + HOUR)
    assert looked and looked.mismatched == 0
    assert sum(int(each) for each in world.stripe.totals("cus_a", METERS[meter], at_once=True).values()) == units

    world.now = datetime(2026, 12, 1, 3, 5, tzinfo=UTC)
    world.report(meter)
    read_invoices(world.of(meter), connect_meter, connect_invoices, world.clock)
    certify.certify(world.of(meter), connect_meter, world.clock)

    [found] = Certificates(meter_ledger(world.of(meter))).since(world.now - timedelta(days=9)).values()
    assert (found.status, found.units, found.invoice_units) == (Status.CERTIFIED, units, units)
    assert found.invoice_amount == cents
    assert problems(world.of(meter), meter_ledger(world.of(meter)), world.now) == []
    [told] = statements.statements(world.of(meter), "cus_a", datetime(2026, 11, 1, tzinfo=UTC))
    assert (told.counted_units, told.amount) == (units, Decimal(cents) / 100)
    assert told.status == "certified"


def test_plan_in_money_is_that_of_the_meter(world: Plans) -> None:
    _, [change] = report.look_ahead(world.of("data"), connect_meter)
    assert (change.units, change.amount, change.units_before) == (1_000_100_623, Decimal("100.01"), 0)


@pytest.mark.parametrize(
    ("change", "before", "now"),
    [
        ("update meters set meter = 'traffic' where meter = 'data'", "data, 3 decimals", "traffic, 3 decimals"),
        ("update meters set decimals = 0 where meter = 'data'", "data, 3 decimals", "data, 0 decimals"),
        ("update meters set is_main = (meter = 'data')", "api-calls, 0 decimals", "data, 3 decimals"),
    ],
)
def test_other_usage_never_takes_the_place_of_what_was_reported(
    world: Plans, change: str, before: str, now: str
) -> None:
    world.usage = {("a", "cus_a", SEVEN): 7}
    world.run()
    world.report("data")
    at_stripe = len(world.stripe.events)
    with world.connected(world.config.published) as connection:
        connection.execute(change)
    meter = now.partition(",")[0]
    config = world.config if "main" in change else world.config.for_meter(meter, METERS["data"])
    with pytest.raises(StoppedError, match=f"has the usage of {before}. By meters.csv it would get that of {now}. Not"):
        report.report_usage(config, connect_meter, world.clock)
    assert len(world.stripe.events) == at_stripe


def test_copy_of_an_older_version_is_named_and_what_to_do(world: Plans) -> None:
    with world.connected(world.config.published) as connection:
        connection.execute("alter table meters drop column is_main")
        connection.execute("alter table meters drop column is_billed")
    assert [each.billed_meter for each in meters.each_meter(world.config)] == ["", *METERS]
    assert meters.is_main_billed(world.config)
    with pytest.raises(meters.NothingPublishedError, match="without the main meter: `headroom run` builds it"):
        meters.reported(world.config)


def test_figures_of_a_meter_with_decimals_are_in_its_units(world: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    data = meters.reported(world.of("data"))
    assert meters.in_units(data, 3_412) == "3.412 GB"
    assert meters.in_units(data, 3_000, sign="+") == "+3 GB"
    assert meters.in_units(data, -1, sign="+") == "-0.001 GB"
    assert meters.in_units(meters.reported(world.of("users")), 1_200, sign="+") == "+1,200 units"

    planned, changes = report.look_ahead(world.of("data"), connect_meter)
    stripe_tables.print_plan(planned, changes, None, data)
    stripe_tables.print_scales([data, meters.reported(world.of("users"))])
    world.report("data")
    [told] = statements.statements(world.of("data"), "cus_a", datetime(2026, 11, 1, tzinfo=UTC))
    stripe_tables.print_statement(told)
    said = re.sub(r" +", " ", capsys.readouterr().out)
    assert "0 → 1,000,100.623" in said
    assert "A unit here, and at Stripe, is 0.001 GB." in said
    assert "Stripe counts data by 0.001 GB: a price of 1 for each GB is 0.001 there." in said
    assert "Usage on plan pro (100.5 GB included), without the base price: 100.01 USD" in said
    assert "Total 1,000,100.623 1,000,100.623" in said
    rows = list(statements.table(told))
    assert rows[-1][:3] == ("total", "1000100.623", "1000100.623")
