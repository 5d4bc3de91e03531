"""Whether the prices of a customer's subscription are the catalog's, or older and special ones. Pure.

Stripe's prices cannot be changed: a new one takes over the lookup key, and subscriptions keep the price that they have.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestration.billing.catalog_rules import Catalog, Price, differences
from orchestration.billing.subscriptions import LIVE, Subscription
from orchestration.usage.findings import Finding


def other_prices(
    wanted: Catalog, found: Mapping[str, Price], customers: Collection[str], subscriptions: Iterable[Subscription]
) -> list[str]:
    """Ids of prices of the customers' live subscriptions that are for a price of the catalog, and are not the one that
    Stripe has under its lookup key (`found`).
    """
    ids = {
        price.id
        for subscription in subscriptions
        if subscription.status in LIVE and subscription.customer in customers
        for price in subscription.prices
        if (ours := _counterpart(wanted, price)) and ours.lookup_key in found and found[ours.lookup_key].id != price.id
    }
    return sorted(ids)


def price_findings(
    wanted: Catalog,
    found: Mapping[str, Price],
    accounts: Mapping[str, Sequence[Mapping[str, Any]]],
    subscriptions: Iterable[Subscription],
    others: Mapping[str, Price],
) -> list[Finding]:
    """A finding for each subscription item that charges otherwise than the catalog does.

    `accounts` by customer; `others` are the prices that `other_prices` names, by id, with their tiers.
    """
    findings = []
    for subscription in subscriptions:
        if subscription.status not in LIVE or subscription.customer not in accounts:
            continue
        owners = ", ".join(owner["account_id"] for owner in accounts[subscription.customer])
        for price in subscription.prices:
            ours = _counterpart(wanted, price)
            theirs = others.get(price.id)
            if ours is None or theirs is None:
                continue
            words = differences(ours, replace(theirs, lookup_key=ours.lookup_key, is_active=ours.is_active))
            if not words:
                continue
            plan = next(name for name, product in wanted.products.items() if product.id == ours.product)
            what = "its usage" if ours.meter else "its base price"
            problem = (
                f"pays for {what} by {price.id}, which was replaced or is a special price: {words}. In"
                f" {subscription.id}, change the item's price to {found[ours.lookup_key].id} ({ours.lookup_key}). If"
                f" you agreed to the old terms, add a plan with them to plans.csv. Then move the account from {plan}"
                " to it"
            )
            subject = f"customer {subscription.customer} ({owners})"
            # a base price may well be agreed, such as one for a year; usage is to cost what the marts say
            findings.append(Finding(subject, problem, is_needed=ours.meter is not None))
    return findings


def _counterpart(wanted: Catalog, price: Price) -> Price | None:
    """The catalog's price that this one takes the place of: of the same product, and on the meter or not, alike."""
    for ours in wanted.prices:
        if ours.product == price.product and ours.meter == price.meter and price.interval != "once":
            return ours
    return None
