"""Our plans as products and prices at Stripe: making them, and whether what stands there bills what is counted."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestration.billing import report, usage_query
from orchestration.billing.catalog_rules import Catalogue, Step, catalogue, compare
from orchestration.settings import Settings
from orchestration.usage.findings import Finding
from orchestration.warehouse import published_copy

if TYPE_CHECKING:
    from orchestration.channels.stripe.client import StripeClient


def make(config: Settings) -> Iterator[Step]:
    """Make what is missing of our plans at Stripe, one step after the other.

    :raises ValueError, RefusedError, InDoubtError: what was made stays; repeat it to make the rest.
    """
    from orchestration.channels.stripe import catalog

    yield from catalog.apply(_client(config), wanted(config))


def standing(config: Settings) -> list[Step]:
    """What stands at Stripe of our plans, what is missing, and what Stripe has no price for.

    :raises ValueError, RefusedError: Stripe cannot be asked.
    """
    from orchestration.channels.stripe import catalog

    ours = wanted(config)
    return list(compare(ours, catalog.standing(_client(config), ours)))


def check(config: Settings) -> list[Finding]:
    """Whether all that is done at Stripe would succeed and be billed. Changes nothing.

    :raises ValueError: there is no key, or none that can be used.
    :raises NothingPublishedError: no run has published anything yet.
    """
    from orchestration.channels.stripe import check as stripe_check

    client, accounts = _client(config), published_copy.query(config.published, usage_query.BILLABLE_ACCOUNTS)
    return stripe_check.check(client, config, wanted(config), accounts, config.now())


def wanted(config: Settings) -> Catalogue:
    """What should stand at Stripe, by the plans of the published copy.

    :raises NothingPublishedError: no run has published anything yet.
    """
    return catalogue(report.plans(config), config.stripe_meter)


def _client(config: Settings) -> "StripeClient":
    from orchestration.channels.stripe import client as stripe_client

    client = stripe_client.connect(config)
    if client is None:
        raise ValueError("STRIPE_API_KEY is not set: what would be sent is recorded, `headroom stripe plan` shows it")
    return client
