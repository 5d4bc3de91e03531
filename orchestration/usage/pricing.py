"""What usage costs on a plan: the seeds plans and plan_tiers, and the same rules as the mart overage has.

The seeds are in whole units (0.5 GB). Here units and prices are of one step of the meter, as its figures are (0.001
GB): the product is the same, and exact.

Marts are for what an account costs. This is for a total that is in no mart, such as one that Stripe was told before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from orchestration.usage.meters import Meter

DIGITS = 60
"""19 of units and 18 of a price, and what they add up to; Python's own 28 would round."""


@dataclass(frozen=True)
class Tier:
    """Units above the included ones, up to and with `up_to_units`; None is the last tier."""

    up_to_units: int | None
    unit_price: Decimal
    flat_price: Decimal = Decimal(0)


@dataclass(frozen=True)
class Plan:
    """What a plan costs a month, what it includes of one meter, and what steps above that cost. See seeds/plans.yml."""

    name: str
    meter: str
    currency: str
    base_price: Decimal
    included_units: int | None
    """None is all of them, 0 is pay per use."""
    limit_kind: str
    pricing: str
    unit_price: Decimal = Decimal(0)
    package_units: int = 1
    package_price: Decimal = Decimal(0)
    tiers: tuple[Tier, ...] = ()


def plans(
    rows: Iterable[Mapping[str, Any]], tier_rows: Iterable[Mapping[str, Any]], meters: Iterable[Meter]
) -> list[Plan]:
    """From the rows of the seeds, by the decimals of their meters; the build has refused those that make no sense."""
    tiers = sorted(tier_rows, key=lambda tier: tier["tier_number"])
    decimals = {meter.name: meter.decimals for meter in meters}
    return [
        Plan(
            name=row["plan"],
            meter=row["meter"],
            currency=row["currency"],
            base_price=row["base_price"],
            included_units=_steps(row["included_units"], decimals.get(row["meter"], 0)),
            limit_kind=row["limit_kind"],
            pricing=row["pricing"],
            unit_price=_of_a_step(row["unit_price"], decimals.get(row["meter"], 0)),
            package_units=_steps(row["package_units"], decimals.get(row["meter"], 0)) or 1,
            package_price=row["package_price"] or Decimal(0),
            tiers=tuple(
                Tier(
                    _steps(tier["up_to_units"], decimals.get(row["meter"], 0)),
                    _of_a_step(tier["unit_price"], decimals.get(row["meter"], 0)),
                    tier["flat_price"] or Decimal(0),
                )
                for tier in tiers
                if (tier["plan"], tier["meter"]) == (row["plan"], row["meter"])
            ),
        )
        for row in rows
    ]


def _steps(units: Decimal | int | None, decimals: int) -> int | None:
    return None if units is None else int(Decimal(units).scaleb(decimals))


def _of_a_step(unit_price: Decimal | None, decimals: int) -> Decimal:
    return (unit_price or Decimal(0)).scaleb(-decimals)


def with_quota(plan: Plan, quota: int | None) -> Plan:
    """The plan of an account whose quota in force (None is unlimited, 0 blocked) goes before the included units.

    On pay per use a quota is only a limit.
    """
    return replace(
        plan,
        included_units=0 if plan.included_units == 0 else quota,
        limit_kind="hard" if quota == 0 else plan.limit_kind,
    )


def price(plan: Plan, units: int) -> Decimal:
    """The overage of that many units in a period, in cents: exact, then rounded once, half a cent up."""
    above = 0 if plan.included_units is None else max(0, units - plan.included_units)
    with localcontext(prec=DIGITS):
        # a hard limit sells none of them, and no unit costs nothing, whatever the price of a tier as a whole
        amount = _overage(plan, above) if above and plan.limit_kind != "hard" else Decimal(0)
        return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _overage(plan: Plan, above: int) -> Decimal:
    if plan.pricing == "flat":
        return above * plan.unit_price
    if plan.pricing == "package":
        return -(-above // plan.package_units) * plan.package_price
    amount, begin = Decimal(0), 0
    for tier in plan.tiers:
        end = above if tier.up_to_units is None else min(above, tier.up_to_units)
        if plan.pricing == "volume" and end == above:
            return above * tier.unit_price + tier.flat_price
        if plan.pricing == "graduated" and end > begin:
            amount += (end - begin) * tier.unit_price + tier.flat_price
        begin = end
    return amount
