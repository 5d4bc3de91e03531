"""What Stripe charges for usage by a price, as its invoices have it: rounded by line. Pure.

The mart overage rounds once; where a tier's price has parts of the least unit, the two may differ by as many of it.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from orchestration.billing.catalog_rules import Price, PriceTier


def expected_amount(price: Price, units: int) -> int:
    """What Stripe charges for the usage of a period: one line, or one for each tier, each rounded half up."""
    if price.tiers_mode == "graduated":
        amount, low = 0, 0
        for tier in price.tiers:
            high = units if tier.up_to is None else min(units, tier.up_to)
            if high > low or (low == 0 and units == 0):
                amount += _rounded((high - low) * tier.unit_amount + tier.flat_amount)
            low = max(low, high)
            if low >= units:
                break
        return amount
    if price.tiers_mode == "volume":
        tier = _reached(price.tiers, units)
        return _rounded(units * tier.unit_amount + tier.flat_amount)
    return _rounded(packages(price, units) * (price.unit_amount or Decimal(0)))


def packages(price: Price, units: int) -> int:
    """What Stripe multiplies by the price; whether a line shows that or the units, it does not document."""
    return -(-units // price.package_units)


def _reached(tiers: Sequence[PriceTier], units: int) -> PriceTier:
    return next(tier for tier in tiers if tier.up_to is None or units <= tier.up_to)


def _rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))
