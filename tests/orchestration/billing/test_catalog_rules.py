"""What should stand at Stripe for a plan: prices that charge what the plan does, or a sentence."""

from collections.abc import Collection
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from orchestration.billing.catalog_rules import Catalog, Price, PriceTier, catalog_of
from orchestration.usage.pricing import Plan, Tier, price

TIERS = (Tier(10, Decimal("0.5")), Tier(20, Decimal("0.25"), Decimal(3)), Tier(None, Decimal("0.000000000001")))


def make_plan(**fields: Any) -> Plan:
    given = {"name": "pro", "meter": "api-calls", "currency": "USD", "base_price": Decimal("49.90")}
    return Plan(**{**given, "included_units": 100, "limit_kind": "soft", "pricing": "none", **fields})


def wanted_of(*plans: Plan, unreported: Collection[str] = ()) -> Catalog:
    return catalog_of(plans, "calls", "api-calls", unreported)


def metered(wanted: Catalog) -> Price:
    [found] = [price for price in wanted.prices if price.meter]
    return found


def charged(price: Price, units: int) -> Decimal:
    """What Stripe charges for that many units, in the minor unit, by its documentation."""
    if price.unit_amount is not None:
        return -(-units // price.package_units) * price.unit_amount
    total, begin = Decimal(0), 0
    for place, tier in enumerate(price.tiers):
        end = units if tier.up_to is None else min(units, tier.up_to)
        if price.tiers_mode == "volume" and end == units:
            return units * tier.unit_amount + tier.flat_amount
        if price.tiers_mode == "graduated" and (end > begin or place == 0):
            total += (end - begin) * tier.unit_amount + tier.flat_amount
        begin = max(begin, end)
    return total


PRICINGS = [
    {"pricing": "none"},
    {"pricing": "none", "limit_kind": "hard"},
    {"pricing": "flat", "unit_price": Decimal("0.6375")},
    {"pricing": "graduated", "tiers": TIERS},
    {"pricing": "volume", "tiers": TIERS[:1] + TIERS[2:]},
    {"pricing": "volume", "tiers": (Tier(None, Decimal("0.5")),)},
    {"pricing": "package", "package_units": 7, "package_price": Decimal("7.5")},
]


@pytest.mark.parametrize(("fields", "included"), list(product(PRICINGS, [None, 0, 1, 100])))
def test_stripe_charges_what_the_plan_does_unless_it_is_inexpressible(
    fields: dict[str, Any], included: int | None
) -> None:
    plan = make_plan(**fields, included_units=included)
    wanted = wanted_of(plan)
    if wanted.inexpressible:
        assert included and (fields["pricing"] == "package" or len(fields["tiers"]) == 2)
        assert [each.lookup_key for each in wanted.prices] == ["headroom_pro_base"]
        return
    for units in (0, 1, 7, 8, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121, 10**14):
        assert (charged(metered(wanted), units) / 100).quantize(Decimal("0.01"), "ROUND_HALF_UP") == price(plan, units)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"pricing": "volume", "tiers": TIERS},
            "Stripe's volume prices apply to all units. A customer who uses more than the 100",
        ),
        (
            {"pricing": "package", "package_units": 7, "package_price": Decimal(1)},
            "Stripe's packages start at the first unit. Customers would pay for the 100",
        ),
        (
            {"pricing": "graduated", "tiers": (Tier(None, Decimal(1), Decimal("0.005")),)},
            "the flat price of a tier is not a whole number of USD's smallest unit",
        ),
        (
            {"pricing": "graduated", "tiers": (Tier(None, Decimal(1), Decimal(2)),), "included_units": 0},
            "Stripe charges the flat price of the first tier even without usage",
        ),
        ({"pricing": "flat", "unit_price": Decimal(1), "meter": "seats"}, "usage of seats is not reported to Stripe"),
    ],
)
def test_what_stripe_has_no_price_for_is_said_and_not_approximated(fields: dict[str, Any], said: str) -> None:
    wanted = wanted_of(make_plan(**fields), unreported={"seats"})
    assert wanted.inexpressible["pro"].startswith(said)
    assert [each.lookup_key for each in wanted.prices] == ["headroom_pro_base"]


@pytest.mark.parametrize(
    ("currency", "base", "unit"), [("USD", "4990", "0.0000000001"), ("KWD", "49900", "0.000000001")]
)
def test_amounts_are_in_the_minor_unit(currency: str, base: str, unit: str) -> None:
    plan = make_plan(currency=currency, pricing="flat", unit_price=Decimal("0.000000000001"))
    fixed, counted = wanted_of(plan).prices
    assert fixed == Price("headroom_pro_base", "headroom_pro", currency.lower(), unit_amount=Decimal(base))
    assert counted.tiers == (PriceTier(100, Decimal(0)), PriceTier(None, Decimal(unit)))


def test_yen_have_no_minor_unit() -> None:
    plan = make_plan(currency="JPY", base_price=Decimal("500.00"), pricing="flat", unit_price=Decimal("0.25"))
    fixed, counted = wanted_of(plan).prices
    assert (fixed.unit_amount, counted.tiers[1].unit_amount) == (Decimal(500), Decimal("0.25"))
    half = wanted_of(make_plan(currency="JPY", base_price=Decimal("499.50")))
    assert half.inexpressible == {"pro": "its base price 499.50 is not a whole number of JPY's smallest unit"}
    with pytest.raises(ValueError, match="UGX"):
        wanted_of(make_plan(currency="UGX"))


def test_plan_of_two_meters_is_one_product_with_one_base_price() -> None:
    wanted = wanted_of(make_plan(), make_plan(meter="seats"))
    assert [each.lookup_key for each in wanted.prices] == ["headroom_pro_base", "headroom_pro_api-calls"]
    assert [each.id for each in wanted.products.values()] == ["headroom_pro"]


def test_plan_ids_are_distinct_whatever_the_names_of_the_plans() -> None:
    names = ["pro", "Pro", "pro plus", "pro-plus", "pro/plus", "Größe", "x" * 300]
    ids = [each.id for each in wanted_of(*(make_plan(name=name) for name in names)).products.values()]
    assert len(set(ids)) == len(names)
    assert all(len(each) < 70 and each.isascii() and " " not in each for each in ids)
