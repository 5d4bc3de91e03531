"""What a price makes of a quantity: the lines of an invoice. Pure.

Each line is rounded by itself to the currency's minor unit, half up, as documented. Left open by the documentation
and chosen: the quantity of a price in packages is the usage, not the packages; of a graduated price a tier that was
not reached has no line, and without usage the first one has a line of 0; its flat amount is in that line, in those of
the other tiers where they are reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from tests.fakes.stripe_store import Json

ONE = Decimal(1)


@dataclass(frozen=True)
class Charge:
    """A line: what of the usage it is for, and its amount in the minor unit."""

    quantity: Decimal
    amount: int
    unit_amount: Decimal | None
    words: str = ""


def charges(price: Json, total: Decimal, before: Decimal = Decimal(0)) -> list[Charge]:
    """The lines of a period's usage; `before` of it was invoiced within the period, and keeps its place in the tiers.

    Usage of less than that is charged as 0: nothing is given back.
    """
    total = max(total, before)
    if price.get("tiers_mode") == "graduated":
        return list(_graduated(price, total, before)) or [_first(price)]
    unit = amount_of(price) if price.get("tiers_mode") is None else None
    return [Charge(total - before, _amount(price, total) - (_amount(price, before) if before else 0), unit)]


def amount_of(price: Json, name: str = "unit_amount") -> Decimal:
    """Of one unit, or flat, in the minor unit."""
    text = price.get(f"{name}_decimal")
    return Decimal(text if text is not None else price.get(name) or 0)


def rounded(amount: Decimal) -> int:
    return int(amount.quantize(ONE, ROUND_HALF_UP))


def _graduated(price: Json, total: Decimal, before: Decimal) -> Iterator[Charge]:
    low = Decimal(0)
    for number, tier in enumerate(price["tiers"], 1):
        high = Decimal(tier["up_to"]) if tier["up_to"] is not None else total
        quantity = min(high, total) - max(low, before)
        if quantity > 0:
            unit = amount_of(tier)
            flat = amount_of(tier, "flat_amount") if before <= low else Decimal(0)
            yield Charge(quantity, rounded(quantity * unit + flat), unit, f"Tier {number}")
        low = high


def _first(price: Json) -> Charge:
    tier = price["tiers"][0]
    return Charge(Decimal(0), rounded(amount_of(tier, "flat_amount")), amount_of(tier), "Tier 1")


def _amount(price: Json, quantity: Decimal) -> int:
    """Of a volume price all of it at the tier that it reaches."""
    if price.get("tiers_mode") == "volume":
        tiers = price["tiers"]
        tier = next(each for each in tiers if each["up_to"] is None or quantity <= each["up_to"])
        return rounded(quantity * amount_of(tier) + amount_of(tier, "flat_amount"))
    if package := price.get("transform_quantity"):
        way = ROUND_CEILING if package["round"] == "up" else ROUND_FLOOR
        quantity = (quantity / package["divide_by"]).quantize(ONE, way)
    return rounded(quantity * amount_of(price))
