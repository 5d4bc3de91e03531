"""Whether what Headroom does at Stripe would succeed and be billed. Changes nothing there."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import stripe

from orchestration.billing.catalog import BilledCatalog
from orchestration.billing.catalog_rules import Catalog, CatalogState, Price, Step, compare
from orchestration.billing.item_prices import other_prices, price_findings
from orchestration.billing.subscription_terms import term_findings
from orchestration.billing.subscriptions import LIVE, Subscription, customers, subscription_findings
from orchestration.channels.stripe.catalog import (
    NOTHING_CHANGED,
    PAGE,
    apply,
    as_price,
    catalog_state,
    id_of,
    meters_by_id,
)
from orchestration.channels.stripe.client import connect, explained, is_live
from orchestration.ledger.outbox import RefusedError
from orchestration.settings import Settings
from orchestration.usage.findings import Finding

LOOKED_UP = 100
"""Customers without a subscription that are asked for, one request each; the others are told without the reason."""
CLOCK_SECONDS, MAX_CLOCK_SECONDS = 60, 300
"""By how much the clocks may differ: Stripe refuses reports from more than five minutes ahead."""


def catalogue_findings(client: stripe.StripeClient, catalogs: Iterable[BilledCatalog], now: datetime) -> list[Finding]:
    """Where the catalogue and Stripe differ, and how customers are billed, meter by meter; once, what they share."""
    try:
        with explained("the subscriptions", NOTHING_CHANGED, RefusedError):
            subscriptions = list(_subscriptions(client))
        found = [_meter_findings(client, wanted, accounts, subscriptions, now) for wanted, accounts in catalogs]
    except RefusedError as error:
        return [Finding("catalogue at Stripe", str(error))]
    return list(dict.fromkeys(finding for each in found for finding in each))


def _meter_findings(
    client: stripe.StripeClient,
    wanted: Catalog,
    accounts: Iterable[Mapping[str, Any]],
    subscriptions: Sequence[Subscription],
    now: datetime,
) -> list[Finding]:
    """:raises RefusedError: Stripe did not say; the message says what to do."""
    by_customer = customers(accounts)
    state = catalog_state(client, wanted)
    findings = [step.finding for step in compare(wanted, state)]
    served = {subscription.customer for subscription in subscriptions if subscription.status in LIVE}
    gone = _gone(client, [customer for customer in by_customer if customer not in served][:LOOKED_UP])
    others = _prices(client, other_prices(wanted, state.prices, by_customer, subscriptions))
    findings += price_findings(wanted, state.prices, by_customer, subscriptions, others)
    findings += subscription_findings(wanted, by_customer, subscriptions, gone)
    return findings + term_findings(wanted.meter.event_name, by_customer, subscriptions, now)


def check(
    client: stripe.StripeClient,
    config: Settings,
    catalogs: Sequence[BilledCatalog],
    now: datetime,
) -> list[Finding]:
    """Whether all that Headroom does at Stripe would succeed and be billed: key, permissions, clock, catalogue,
    subscriptions. Changes nothing.
    """
    findings = [_key_finding(config)]
    reads: dict[str, Callable[[Any], stripe.StripeObject]] = {
        "meters": client.v1.billing.meters.list,
        "products": client.v1.products.list,
        "prices": client.v1.prices.list,
        "subscriptions": client.v1.subscriptions.list,
        "customers": client.v1.customers.list,
        "invoices": client.v1.invoices.list,
    }
    for name, read in reads.items():
        try:
            with explained(f"reading {name}", NOTHING_CHANGED, RefusedError):
                answer = read({"limit": 1})
        except RefusedError as error:
            findings.append(Finding(f"reading {name}", str(error)))
            if "HTTP 403" not in str(error):  # without a key that holds, or an answer, all the others fail alike
                return findings
        else:
            findings.append(Finding(f"reading {name}"))
            if name == "meters":
                findings.append(_clock_finding(answer, now))
    findings.append(_reporting_finding(client))
    findings.append(
        Finding(
            f"grace period: HEADROOM_STRIPE_GRACE_HOURS assumes {config.stripe_grace_hours} h. Stripe's API does"
            " not show it: compare it in the Dashboard's invoice settings"
        )
    )
    if any(finding.problem for finding in findings if finding.subject.startswith("reading")):
        return findings
    return findings + catalogue_findings(client, catalogs, now)


def _key_finding(config: Settings) -> Finding:
    if config.is_production and not is_live(config):
        return Finding("key", "is a test key, and HEADROOM_ENV is production: nobody is billed", is_needed=False)
    return Finding(f"{'live' if is_live(config) else 'test'} key")


def _clock_finding(answer: stripe.StripeObject, now: datetime) -> Finding:
    """By the Date of the answer, which has no parts of a second."""
    response: Any = answer.last_response
    try:
        at = parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (LookupError, TypeError, ValueError):
        return Finding("clock", "Stripe's answer has no time to compare it with", is_needed=False)
    seconds = abs(now - at).total_seconds()
    if seconds <= CLOCK_SECONDS:
        return Finding("clock")
    words = f"is {seconds:.0f} seconds {'ahead of' if now > at else 'behind'} Stripe's: set it by NTP"
    return Finding("clock", words, is_needed=seconds > MAX_CLOCK_SECONDS)


def _reporting_finding(client: stripe.StripeClient) -> Finding:
    """Whether the key may report usage: by a report without anything in it, which cannot count."""
    subject = "reporting usage"
    try:
        with explained(subject, NOTHING_CHANGED, RefusedError):
            try:
                client.raw_request("post", "/v1/billing/meter_events")
            except stripe.InvalidRequestError:
                return Finding(subject)
    except RefusedError as error:
        return Finding(subject, str(error))
    return Finding(subject, "Stripe took a report without anything in it", is_needed=False)


def _gone(client: stripe.StripeClient, candidates: Iterable[str]) -> set[str]:
    """Those among them that Stripe does not know, or has deleted."""
    gone = set()
    for customer in candidates:
        with explained(f"customer {customer}", NOTHING_CHANGED, RefusedError):
            try:
                if getattr(client.v1.customers.retrieve(customer), "deleted", False):
                    gone.add(customer)
            except stripe.InvalidRequestError as error:
                if error.code != "resource_missing":
                    raise
                gone.add(customer)
    return gone


def _prices(client: stripe.StripeClient, ids: Iterable[str]) -> dict[str, Price]:
    """Each with its tiers, which a subscription's items do not show: one request for each."""
    meters, found = None, {}
    for number in ids:
        meters = meters or meters_by_id(client)
        with explained(f"price {number}", NOTHING_CHANGED, RefusedError):
            found[number] = as_price(client.v1.prices.retrieve(number, {"expand": ["tiers"]}), meters)
    return found


def _subscriptions(client: stripe.StripeClient) -> Iterator[Subscription]:
    """All that are not canceled, in pages: one request for a hundred of them."""
    meters = meters_by_id(client)
    for each in client.v1.subscriptions.list({"limit": PAGE}).auto_paging_iter():
        items = list(each.items.auto_paging_iter())
        prices = tuple(as_price(item.price, meters) for item in items)
        spans = [(item.current_period_start, item.current_period_end) for item in items]
        yield Subscription(
            *(each.id, id_of(each.customer), each.status, each.billing_cycle_anchor, prices),
            period=spans[0] if spans else None,
            trial_end=each.trial_end,
            ends_at=each.cancel_at,
            has_threshold=bool(each.billing_thresholds),
        )


class StripeProducts:
    """What billing asks of Stripe's products and prices, through one client."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client

    def state(self, wanted: Catalog) -> CatalogState:
        return catalog_state(self._client, wanted)

    def apply(self, wanted: Catalog) -> Iterator[Step]:
        return apply(self._client, wanted)

    def check(self, config: Settings, wanted: Sequence[BilledCatalog], now: datetime) -> list[Finding]:
        return check(self._client, config, wanted, now)


def configured(config: Settings) -> StripeProducts:
    """:raises ValueError: there is no key, or none that can be used."""
    client = connect(config)
    if client is None:
        raise ValueError("STRIPE_API_KEY is not set: set a test key. `headroom stripe plan` needs none")
    return StripeProducts(client)
