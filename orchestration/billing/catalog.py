"""Our plans as products and prices at Stripe: making them, and checking that Stripe bills what is counted.

The rules are in catalog_rules.py. Stripe comes in as a parameter, which `defs/` and `cli/` give.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from orchestration.billing import span_query, usage_query
from orchestration.billing.catalog_rules import Catalog, CatalogState, Step, catalog_of, compare
from orchestration.settings import Settings
from orchestration.usage import pricing
from orchestration.usage.findings import Finding
from orchestration.warehouse import published_copy
from orchestration.warehouse.price_list import price_list

PLANS_OF_FILES = "these plans come from dbt_project/seeds/plans.csv, checked as in each run"


class Products(Protocol):
    """The vendor's products and prices. The implementation is in `channels/stripe/`."""

    def state(self, wanted: Catalog) -> CatalogState:
        """The meter, products and prices of the catalog that the vendor has.

        :raises RefusedError: the vendor did not say; the message says what to do.
        """

    def apply(self, wanted: Catalog) -> Iterator[Step]:
        """Makes what is missing, one step after the other, and gives each when it is done.

        :raises RefusedError: a step was refused; those before it stay.
        :raises InDoubtError: a step may have been done or not; the next call finds out.
        """

    def check(
        self, config: Settings, wanted: Catalog, accounts: Iterable[Mapping[str, Any]], now: datetime
    ) -> list[Finding]:
        """Whether all that is done there would succeed and be billed. Changes nothing."""


ConnectProducts = Callable[[Settings], Products]
"""Gives them as the environment configures them; raises ValueError where there is no key, or none that can be used."""


def make(config: Settings, connect: ConnectProducts) -> Iterator[Step]:
    """Make what is missing of our plans at Stripe, one step after the other.

    :raises ValueError, RefusedError, InDoubtError: what was made stays; repeat it to make the rest.
    """
    yield from connect(config).apply(wanted(config))


def catalog_steps(config: Settings, connect: ConnectProducts) -> list[Step]:
    """What Stripe has of our plans, what is missing, and what Stripe has no price for.

    :raises ValueError, RefusedError: Stripe cannot be asked.
    """
    ours = wanted(config)
    return list(compare(ours, connect(config).state(ours)))


def check(config: Settings, connect: ConnectProducts) -> list[Finding]:
    """Whether all that is done at Stripe would succeed and be billed. Changes nothing.

    :raises ValueError: there is no key, or none that can be used.
    :raises NothingPublishedError: no run has published anything yet.
    """
    products, accounts = connect(config), _owners(config)
    running = span_query.running_periods(config.published, config.now())
    accounts = [{**row, **running.get(row["account_id"], {})} for row in accounts]
    return products.check(config, wanted(config), accounts, config.now())


def _owners(config: Settings) -> list[dict[str, Any]]:
    """The billed accounts, with what they include of the meter."""
    return published_copy.query(config.published, usage_query.BILLABLE_ACCOUNTS, {"meter": config.billed_meter})


def wanted(config: Settings) -> Catalog:
    """What Stripe should have, by the plans of the published copy; before anything was published, by plans.csv.

    :raises ValueError: there is no published copy, and a build would refuse plans.csv.
    """
    return catalog_of(
        plans(config) if config.published.exists() else _plans_of_files(config),
        config.stripe_meter,
        config.billed_meter,
    )


def _plans_of_files(config: Settings) -> list[pricing.Plan]:
    return pricing.plans(*price_list(config.dbt_project))


def plans(config: Settings) -> list[pricing.Plan]:
    """Of the published copy.

    :raises NothingPublishedError: no run has published anything yet.
    """
    rows, tiers = (published_copy.query(config.published, sql) for sql in (usage_query.PLANS, usage_query.PLAN_TIERS))
    return pricing.plans(rows, tiers)
