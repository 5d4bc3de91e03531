"""Overage by hand at the borders of tiers, and against the mart for any plan, quota and usage."""

from decimal import Decimal
from typing import Any

import pytest

from orchestration.usage.pricing import Plan, Tier, price, with_quota

TIERS = (Tier(10, Decimal("0.5")), Tier(20, Decimal("0.25"), Decimal(3)), Tier(None, Decimal("0.1")))


def make_plan(**fields: Any) -> Plan:
    given = {"name": "pro", "meter": "api-calls", "currency": "USD", "base_price": Decimal(49), "included_units": 100}
    return Plan(**{**given, "limit_kind": "soft", "pricing": "none", **fields})


@pytest.mark.parametrize(
    ("units", "graduated", "volume"),
    [
        (0, "0.00", "0.00"),
        (100, "0.00", "0.00"),
        (101, "0.50", "0.50"),
        (110, "5.00", "5.00"),
        (111, "8.25", "5.75"),  # 10 * 0.5 + 3 + 1 * 0.25; 3 + 11 * 0.25
        (120, "10.50", "8.00"),
        (121, "10.60", "2.10"),  # the third tier's price for all 21
        (10**15, "99999999999998.50", "99999999999990.00"),
    ],
)
def test_price_at_the_borders_of_tiers(units: int, graduated: str, volume: str) -> None:
    assert price(make_plan(pricing="graduated", tiers=TIERS), units) == Decimal(graduated)
    assert price(make_plan(pricing="volume", tiers=TIERS), units) == Decimal(volume)


@pytest.mark.parametrize(("units", "expected"), [(100, "0.00"), (101, "7.50"), (107, "7.50"), (108, "15.00")])
def test_package_is_paid_when_it_is_begun(units: int, expected: str) -> None:
    plan = make_plan(pricing="package", package_units=7, package_price=Decimal("7.50"))
    assert price(plan, units) == Decimal(expected)


@pytest.mark.parametrize(
    ("unit_price", "units", "expected"),
    [
        ("0.005", 101, "0.01"),
        ("0.004999999999", 101, "0.00"),
        ("0.000000000001", 100 + 5 * 10**9, "0.01"),
        ("999999.999999999999", 100 + 10**15, "999999999999999999000.00"),
    ],
)
def test_half_a_cent_is_a_cent_and_nothing_is_rounded_before(unit_price: str, units: int, expected: str) -> None:
    assert price(make_plan(pricing="flat", unit_price=Decimal(unit_price)), units) == Decimal(expected)


def test_nothing_above_is_sold_where_the_limit_is_hard_or_all_is_included() -> None:
    flat = make_plan(pricing="flat", unit_price=Decimal(1))
    assert price(make_plan(limit_kind="hard"), 500) == price(with_quota(flat, 0), 500) == Decimal("0.00")
    assert price(with_quota(flat, None), 500) == price(make_plan(), 500) == Decimal("0.00")
    assert price(with_quota(flat, 200), 500) == Decimal("300.00")


def test_quota_is_only_a_limit_on_pay_per_use() -> None:
    plan = make_plan(included_units=0, pricing="flat", unit_price=Decimal(1))
    assert price(with_quota(plan, 200), 150) == Decimal("150.00")
