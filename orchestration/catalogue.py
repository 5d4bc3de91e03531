"""Our plans as products and prices at Stripe: making them, and whether what stands there bills what is counted."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestration import billing
from orchestration.settings import Settings
from orchestration.storage import warehouse
from orchestration.usage.catalogue import Catalogue, Step, catalogue, compare
from orchestration.usage.findings import Finding

if TYPE_CHECKING:
    from orchestration.channels.stripe_client import StripeClient


def make(config: Settings) -> Iterator[Step]:
    """Make what is missing of our plans at Stripe, one step after the other.

    :raises ValueError, RefusedError, InDoubtError: what was made stays; repeat it to make the rest.
    """
    from orchestration.channels import stripe_catalogue

    yield from stripe_catalogue.apply(_client(config), wanted(config))


def standing(config: Settings) -> list[Step]:
    """What stands at Stripe of our plans, what is missing, and what Stripe has no price for.

    :raises ValueError, RefusedError: Stripe cannot be asked.
    """
    from orchestration.channels import stripe_catalogue

    ours = wanted(config)
    return list(compare(ours, stripe_catalogue.standing(_client(config), ours)))


def check(config: Settings) -> list[Finding]:
    """Whether all that is done at Stripe would succeed and be billed. Changes nothing.

    :raises ValueError: there is no key, or none that can be used.
    :raises warehouse.NothingPublishedError: no run has published anything yet.
    """
    from orchestration.channels import stripe_check

    client, accounts = _client(config), warehouse.query(config.published, warehouse.BILLABLE_ACCOUNTS)
    return stripe_check.check(client, config, wanted(config), accounts, config.now())


def wanted(config: Settings) -> Catalogue:
    """What should stand at Stripe, by the plans of the published copy.

    :raises warehouse.NothingPublishedError: no run has published anything yet.
    """
    return catalogue(billing.plans(config), config.stripe_meter)


def _client(config: Settings) -> "StripeClient":
    from orchestration.channels import stripe_client

    client = stripe_client.connect(config)
    if client is None:
        raise ValueError("STRIPE_API_KEY is not set: what would be sent is recorded, `headroom stripe plan` shows it")
    return client
