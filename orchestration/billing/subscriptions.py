"""Whether Stripe's subscriptions bill each customer's usage once, and as their plan says. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.billing.catalog_rules import Catalog, Price
from orchestration.usage.findings import Finding
from orchestration.usage.formatting import counted

HOUR_SECONDS = 3_600
LIVE = ("active", "trialing", "past_due")
"""States of a subscription in which usage comes on an invoice."""


@dataclass(frozen=True)
class Subscription:
    """A customer's subscription, with the price of each of its items. Periods begin at `anchor`, in unix seconds."""

    id: str
    customer: str
    status: str
    anchor: int
    prices: tuple[Price, ...]
    period: tuple[int, int] | None = None
    """Start and end of the current one of its items, in unix seconds."""
    trial_end: int | None = None
    ends_at: int | None = None
    """When it is going to end, where somebody canceled it."""
    has_threshold: bool = False
    """An amount from which on it is invoiced within the period."""


def customers(accounts: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of warehouse.BILLABLE_ACCOUNTS by customer."""
    found: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for account in accounts:
        found[account["stripe_customer_id"]].append(account)
    return dict(sorted(found.items()))


def subscription_findings(
    wanted: Catalog,
    accounts: Mapping[str, Sequence[Mapping[str, Any]]],
    subscriptions: Iterable[Subscription],
    gone: Collection[str] = (),
) -> list[Finding]:
    """What is wrong with the billing of each customer of `accounts`, one finding for each thing, after a count.

    `gone` are customers that Stripe does not know, or has deleted.
    """
    live: defaultdict[str, list[Subscription]] = defaultdict(list)
    for subscription in subscriptions:
        if subscription.status in LIVE:
            live[subscription.customer].append(subscription)
    findings: list[Finding] = []
    other_terms: list[str] = []
    once = 0
    for customer, owners in accounts.items():
        subject = f"customer {customer} ({', '.join(owner['account_id'] for owner in owners)})"
        if customer in gone:
            words = "is deleted or unknown at Stripe, so its usage is not billed: correct stripe_customer_id"
            findings.append(Finding(subject, words))
            continue
        items = [(each, price) for each in live[customer] for price in each.prices]
        metered = [(each, price) for each, price in items if price.meter == wanted.meter.event_name]
        once += len(metered) == 1
        problems = _metering_problems(wanted.meter.event_name, [price for _, price in items], metered)
        problems += _plan_problems(wanted, owners, [price for _, price in items]) if items else []
        findings += [Finding(subject, problem) for problem in problems]
        for each in dict.fromkeys(each for each, _ in metered):
            if each.anchor % HOUR_SECONDS:
                words = f"{each.id} begins its periods within an hour, and Stripe bills that hour's usage as a whole"
                findings.append(Finding(subject, f"{words}: set billing_cycle_anchor to a full hour, UTC", False))
        other_terms += [_other_terms(wanted, customer, owners, price) for _, price in metered]
    findings.insert(
        0, Finding(f"{once:,} of {counted(len(accounts), 'customer')} with one item on {wanted.meter.event_name}")
    )
    if told := [words for words in other_terms if words]:
        words = "have quotas that differ from the units that their plan's price includes at Stripe. Stripe charges from"
        words += f" the plan's units on, the mart overage from the quotas on: {'; '.join(told[:3])}"
        words += " …" if told[3:] else ""
        findings.append(Finding(counted(len(told), "customer"), words, is_needed=False))
    return findings


def _metering_problems(name: str, prices: Iterable[Price], metered: Sequence[tuple[Subscription, Price]]) -> list[str]:
    if len(metered) > 1:
        ids = ", ".join(each.id for each, _ in metered)
        return [
            f"has {len(metered)} items on the meter {name} ({ids}), so its usage is billed that many times: keep one"
        ]
    if metered:
        return []
    others = [str(price.meter) for price in prices if price.meter]
    found = f"no active item on the meter {name}" + (f", only on {others[0]}" if others else "")
    return [f"has {found}, so its usage is not billed: add the metered price of its plan to its subscription"]


def _plan_problems(wanted: Catalog, owners: Iterable[Mapping[str, Any]], prices: Sequence[Price]) -> list[str]:
    plans = sorted({owner["plan"] for owner in owners if owner["plan"] in wanted.products})
    if len(plans) > 1:
        return [
            f"has accounts on {' and '.join(plans)}, whose usage Stripe adds up: give each account its own customer"
        ]
    problems = []
    for plan in plans:
        product = wanted.products[plan].id
        made = [price for price in wanted.prices if price.product == product]
        theirs = [price for price in prices if price.product == product]
        # a price of 0 need not be there, and one that Stripe cannot have is made by hand
        if any(price.unit_amount and not price.meter for price in made) and all(price.meter for price in theirs):
            problems.append(f"is on the plan {plan} and has no item with its base price ({product}_base)")
        elsewhere = {price.product for price in prices if price.meter == wanted.meter.event_name} - {product}
        if elsewhere and any(price.meter for price in made):
            priced_by = ", ".join(sorted(elsewhere))
            problems.append(
                f"is on the plan {plan} and pays for usage by {priced_by}: use {product}_{wanted.our_meter}"
            )
    return problems


def _other_terms(wanted: Catalog, customer: str, owners: Sequence[Mapping[str, Any]], price: Price) -> str:
    """Where all of the customer's accounts together include other units than the price; another price may fit them."""
    plan = owners[0]["plan"]
    included = wanted.included_units.get(plan)
    is_known = not any(owner["is_quota_unknown"] for owner in owners)
    if not included or not is_known or price.lookup_key != f"{wanted.products[plan].id}_{wanted.our_meter}":
        return ""
    quotas = [owner["included_units"] for owner in owners]
    total = None if None in quotas else sum(quotas)
    return "" if total == included else f"{customer} {'all' if total is None else f'{total:,}'}, not {included:,}"
