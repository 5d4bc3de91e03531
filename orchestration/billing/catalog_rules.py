"""What should stand at Stripe so that it bills as our plans say, and how that differs from what stands there.

A plan is a product with a monthly base price and a metered one, which counts the included units at 0. What Stripe has
no price for is said in a sentence, never approximated. Pure: amounts are exact, in the currency's minor unit.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from enum import StrEnum

from orchestration.usage.findings import Finding
from orchestration.usage.pricing import Plan, Tier

_WHOLE = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
"""Currencies without a minor unit, at Stripe."""
_THOUSANDTHS = "BHD JOD KWD OMR TND"


@dataclass(frozen=True)
class CatalogMeter:
    """How Stripe counts: the last report of each hour stands, and the hours of a period are added up."""

    event_name: str
    event_time_window: str | None = "hour"
    formula: str = "sum"
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    id: str = field(default="", compare=False)


@dataclass(frozen=True)
class Product:
    id: str
    name: str = field(compare=False)  # whoever renames it there for customers may
    is_active: bool = True


@dataclass(frozen=True)
class PriceTier:
    up_to: int | None
    unit_amount: Decimal
    flat_amount: Decimal = Decimal(0)

    def __str__(self) -> str:
        flat = f" and {self.flat_amount:f} once" if self.flat_amount else ""
        return f"{'above' if self.up_to is None else f'to {self.up_to}'} {self.unit_amount:f}{flat}"


@dataclass(frozen=True)
class Price:
    """Amounts are in the currency's minor unit. Without a meter it is a fixed amount."""

    lookup_key: str
    product: str
    currency: str
    meter: str | None = None
    """Event name of the meter that counts its units."""
    unit_amount: Decimal | None = None
    package_units: int = 1
    """With more than 1, unit_amount is for each package that is begun."""
    tiers_mode: str | None = None
    tiers: tuple[PriceTier, ...] = ()
    interval: str = "1 month"
    is_active: bool = True
    id: str = field(default="", compare=False)


@dataclass(frozen=True)
class Catalog:
    """What should stand at Stripe."""

    meter: CatalogMeter
    products: Mapping[str, Product]
    """By name of the plan."""
    prices: Sequence[Price]
    included_units: Mapping[str, int]
    """Units that the metered price counts at 0 before it charges, by name of the plan; only of those that charge."""
    inexpressible: Mapping[str, str]
    """What Stripe has no price for, and what comes of it, by name of the plan."""
    our_meter: str
    """What of ours the metered prices charge for."""


@dataclass(frozen=True)
class CatalogState:
    """What stands at Stripe of a catalogue: products by id, prices by lookup key."""

    meter: CatalogMeter | None
    products: Mapping[str, Product]
    prices: Mapping[str, Price]


class Action(StrEnum):
    """What is to be done about a part of the catalogue."""

    NOTHING = "stands"
    MAKE = "make"
    REPLACE = "replace"
    BY_HAND = "by hand"


@dataclass(frozen=True)
class Step:
    """One part of the catalogue compared with Stripe."""

    part: CatalogMeter | Product | Price | None
    subject: str
    action: Action
    words: str = ""
    replaces: str = ""
    """Id of the price that has the lookup key until then."""

    @property
    def finding(self) -> Finding:
        advice = "" if self.action in (Action.NOTHING, Action.BY_HAND) else "; run `headroom stripe bootstrap --apply`"
        return Finding(self.subject, f"{self.words}{advice}" if self.words else "", is_needed=self.part is not None)


def catalog_of(plans: Iterable[Plan], event_name: str, meter: str, unreported: Collection[str] = ()) -> Catalog:
    """What should stand at Stripe for these plans, and that one of our meters. Of those in `unreported`, which have no
    meter at Stripe, it says so.

    :raises ValueError: a currency whose minor unit is not known for certain.
    """
    products: dict[str, Product] = {}
    prices: list[Price] = []
    included: dict[str, int] = {}
    problems: defaultdict[str, list[str]] = defaultdict(list)
    for plan in plans:
        digits = minor_digits(plan.currency)
        key = _key(plan.name)
        if plan.name not in products:
            products[plan.name] = Product(key, plan.name)
            base = _minor(plan.base_price, digits)
            if base != base.to_integral_value():
                problems[plan.name].append(
                    f"its base price {plan.base_price} is not a whole number of {plan.currency}'s smallest unit"
                )
            else:
                prices.append(Price(f"{key}_base", key, plan.currency.lower(), unit_amount=base))
        problem = _problem(plan, digits, meter, unreported)
        if problem:
            problems[plan.name].append(problem)
        elif plan.meter == meter:
            prices.append(_metered(plan, key, digits, event_name))
            if _sells_overage(plan):
                included[plan.name] = plan.included_units or 0
    sentences = {name: "; ".join(parts) for name, parts in problems.items()}
    return Catalog(CatalogMeter(event_name), products, prices, included, sentences, meter)


def compare(wanted: Catalog, found: CatalogState) -> list[Step]:
    """Each part of the catalogue, in the order in which they are made, then what has to be done by hand."""
    subject = f"meter {wanted.meter.event_name}"
    if found.meter is None:
        steps = [Step(wanted.meter, subject, Action.MAKE, "is missing")]
    elif found.meter == wanted.meter:
        steps = [Step(wanted.meter, subject, Action.NOTHING)]
    elif replace(found.meter, event_time_window=wanted.meter.event_time_window) == wanted.meter and (
        found.meter.event_time_window is None
    ):
        # such a meter adds up what it is given, and gets differences
        steps = [Step(wanted.meter, f"{subject}, which adds up (no event_time_window)", Action.NOTHING)]
    else:
        words = (
            f"{differences(wanted.meter, found.meter)}. Stripe cannot change a meter: deactivate it if nothing else"
            " needs it, or set HEADROOM_STRIPE_METER to another event name"
        )
        steps = [Step(wanted.meter, subject, Action.BY_HAND, words)]
    for product in wanted.products.values():
        subject, standing = f"product {product.id}", found.products.get(product.id)
        if standing is None:
            steps.append(Step(product, subject, Action.MAKE, "is missing"))
        elif not standing.is_active:
            steps.append(Step(product, subject, Action.BY_HAND, "is archived: unarchive it in Stripe's Dashboard"))
        else:
            steps.append(Step(product, subject, Action.NOTHING))
    for price in wanted.prices:
        subject, before = f"price {price.lookup_key}", found.prices.get(price.lookup_key)
        if before is None:
            steps.append(Step(price, subject, Action.MAKE, "is missing"))
        elif before != price:
            words = (
                f"{differences(price, before)}. Stripe cannot change a price: a new one takes the lookup key, and"
                f" existing subscriptions keep {before.id}"
            )
            steps.append(Step(price, subject, Action.REPLACE, words, before.id))
        else:
            steps.append(Step(price, subject, Action.NOTHING))
    for name, sentence in wanted.inexpressible.items():
        steps.append(Step(None, f"plan {name}", Action.BY_HAND, sentence))
    return steps


def _metered(plan: Plan, key: str, digits: int, event_name: str) -> Price:
    price = Price(f"{key}_{plan.meter}", key, plan.currency.lower(), event_name)
    if not _sells_overage(plan):
        # 0, and not none: each customer has one item on the meter, and whoever moves to another plan is counted already
        return replace(price, unit_amount=Decimal(0))
    if plan.pricing == "package":
        return replace(price, unit_amount=_minor(plan.package_price, digits), package_units=plan.package_units)
    if plan.pricing == "flat" and not plan.included_units:
        return replace(price, unit_amount=_minor(plan.unit_price, digits))
    included = plan.included_units or 0
    tiers = [PriceTier(included, Decimal(0))] if included else []
    for tier in plan.tiers or [Tier(None, plan.unit_price)]:
        end = None if tier.up_to_units is None else included + tier.up_to_units
        tiers.append(PriceTier(end, _minor(tier.unit_price, digits), _minor(tier.flat_price, digits)))
    mode = "volume" if plan.pricing == "volume" and not included else "graduated"
    return replace(price, tiers_mode=mode, tiers=tuple(tiers))


def _sells_overage(plan: Plan) -> bool:
    return plan.pricing != "none" and plan.limit_kind != "hard" and plan.included_units is not None


def _problem(plan: Plan, digits: int, meter: str, unreported: Collection[str]) -> str:
    """Why Stripe cannot bill the overage of the plan; empty where it can."""
    if not _sells_overage(plan):
        return ""
    if plan.meter != meter:
        return f"usage of {plan.meter} is not reported to Stripe: bill it by hand" if plan.meter in unreported else ""
    by_hand = f"bill its overage by hand, use a price of yours on the meter, or let {plan.name} include 0 units"
    if plan.included_units and plan.pricing == "volume" and len(plan.tiers) > 1:
        return (
            f"Stripe's volume prices apply to all units. A customer who uses more than the {plan.included_units:,}"
            f" included ones would pay for these, too: {by_hand}"
        )
    if plan.included_units and plan.pricing == "package":
        return (
            f"Stripe's packages start at the first unit. Customers would pay for the {plan.included_units:,}"
            f" included ones, too: {by_hand}"
        )
    flat = [_minor(tier.flat_price, digits) for tier in plan.tiers]
    if any(amount != amount.to_integral_value() for amount in flat):
        return (
            f"the flat price of a tier is not a whole number of {plan.currency}'s smallest unit, as Stripe needs:"
            " round it"
        )
    if flat and flat[0] and not plan.included_units:
        return "Stripe charges the flat price of the first tier even without usage: make it part of the base price"
    return ""


def _key(name: str) -> str:
    """An id of our own, the same each time. Names with other signs than ids may have are told apart by a hash."""
    if re.fullmatch("[A-Za-z0-9_-]{1,60}", name):
        return f"headroom_{name}"
    slug = re.sub("[^A-Za-z0-9_-]+", "-", name)[:40]
    return f"headroom_{slug}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def minor_digits(currency: str) -> int:
    """Decimal places of the currency's minor unit, at Stripe.

    :raises ValueError: it is not known for certain.
    """
    if currency.upper() == "UGX":
        raise ValueError("Headroom creates no prices in UGX, because Stripe handles their decimals in two ways")
    return 0 if currency.upper() in _WHOLE.split() else 3 if currency.upper() in _THOUSANDTHS.split() else 2


def _minor(amount: Decimal, digits: int) -> Decimal:
    return amount.scaleb(digits).normalize()


def differences(wanted: CatalogMeter | Price, found: CatalogMeter | Price) -> str:
    """What is not as wanted, field by field; empty where they are equal."""
    parts = []
    for each in fields(wanted):
        here, there = getattr(wanted, each.name), getattr(found, each.name)
        if each.compare and here != there:
            parts.append(f"{each.name} should be {_shown(here)} and is {_shown(there)}")
    return ", ".join(parts)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def in_major(amount: int, currency: str) -> Decimal:
    """An amount of Stripe's in the currency, such as 19.99 for 1999 cents."""
    return Decimal(amount).scaleb(-minor_digits(currency))
