"""What Stripe charges for usage, by kind of price."""

from decimal import Decimal
from typing import Any

import pytest

from orchestration.billing.catalog_rules import Price, PriceTier
from orchestration.billing.price_amounts import expected_amount

TIERS = (PriceTier(100, Decimal(0), Decimal(500)), PriceTier(None, Decimal("0.25")))


@pytest.mark.parametrize(
    ("fields", "units", "amount"),
    [
        ({"unit_amount": Decimal("0.05")}, 30, 2),
        ({"unit_amount": Decimal(7), "package_units": 10}, 21, 21),
        ({"tiers_mode": "graduated", "tiers": TIERS}, 0, 500),
        ({"tiers_mode": "graduated", "tiers": TIERS}, 100, 500),
        ({"tiers_mode": "graduated", "tiers": TIERS}, 102, 501),
        ({"tiers_mode": "volume", "tiers": TIERS}, 102, 26),
    ],
    ids=str,
)
def test_expected_amount_is_rounded_by_line(fields: dict[str, Any], units: int, amount: int) -> None:
    assert expected_amount(Price("k", "p", "usd", "api-calls", **fields), units) == amount
