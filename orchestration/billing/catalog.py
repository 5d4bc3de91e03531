"""Our plans as products and prices at Stripe: making them, and checking that Stripe bills what is counted.

The rules are in catalog_rules.py. Stripe comes in as a parameter, which `defs/` and `cli/` give.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from orchestration.billing import meters, span_query, usage_query
from orchestration.billing.catalog_rules import Catalog, CatalogState, Step, catalog_of, compare
from orchestration.settings import Settings
from orchestration.usage import pricing
from orchestration.usage.findings import Finding
from orchestration.warehouse import published_copy
from orchestration.warehouse.price_list import price_list

BilledCatalog = tuple[Catalog, Sequence[Mapping[str, Any]]]
"""What should stand there for a meter, and the accounts that are billed for it, as rows of BILLABLE_ACCOUNTS."""
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

    def check(self, config: Settings, wanted: Sequence[BilledCatalog], now: datetime) -> list[Finding]:
        """Whether all that is done there would succeed and be billed. Changes nothing."""


ConnectProducts = Callable[[Settings], Products]
"""Gives them as the environment configures them; raises ValueError where there is no key, or none that can be used."""


def make(each_meter: Iterable[Settings], connect: ConnectProducts) -> Iterator[Step]:
    """Make what is missing of our plans at Stripe, one step after the other: products, and prices for each meter.

    :raises ValueError, RefusedError, InDoubtError: what was made stays; repeat it to make the rest.
    """
    for config in each_meter:
        yield from connect(config).apply(wanted(config))


def catalog_steps(each_meter: Iterable[Settings], connect: ConnectProducts) -> list[Step]:
    """What Stripe has of our plans, what is missing, and what Stripe has no price for. Once, what the meters share.

    :raises ValueError, RefusedError: Stripe cannot be asked.
    """
    catalogs = [(connect(config), wanted(config)) for config in each_meter]
    return list(dict.fromkeys(step for products, ours in catalogs for step in compare(ours, products.state(ours))))


def check(each_meter: Sequence[Settings], connect: ConnectProducts) -> list[Finding]:
    """Whether all that is done at Stripe would succeed and be billed, for each meter. Changes nothing.

    :raises ValueError: there is no key, or none that can be used; or no meter is billed.
    :raises NothingPublishedError: no run has published anything yet.
    """
    if not each_meter:
        raise ValueError("no meter is reported to Stripe: see is_billed in meters.csv")
    config = each_meter[0]
    return connect(config).check(config, [billed_catalog(each) for each in each_meter], config.now())


def billed_catalog(config: Settings) -> BilledCatalog:
    """What should stand there for the meter, and who is billed for it: with the billing period that runs.

    :raises ValueError, NothingPublishedError: see `check`.
    """
    meter, running = meters.reported(config), span_query.running_periods(config.published, config.now())
    asked = {"meter": meter.name, "is_main": meter.is_main}
    owners = published_copy.query(config.published, usage_query.BILLABLE_ACCOUNTS, asked)
    return wanted(config), [{**row, **running.get(row["account_id"], {})} for row in owners]


def wanted(config: Settings) -> Catalog:
    """What Stripe should have, by the plans of the published copy; before anything was published, by plans.csv.

    :raises ValueError: there is no published copy, and a build would refuse plans.csv.
    """
    meter, sold = meters.reported(config), plans(config)
    # the main meter's says it, once
    unreported = {plan.meter for plan in sold} - {*meters.names(config)} if meter.is_main else ()
    return catalog_of(sold, config.stripe_meter, meter.name, unreported)


def plans(config: Settings) -> list[pricing.Plan]:
    """Of the published copy; before anything was published, of plans.csv. In steps of their meters.

    :raises ValueError: there is no published copy, and a build would refuse plans.csv.
    :raises NothingPublishedError: an older version published the copy.
    """
    asked = (usage_query.PLANS, usage_query.PLAN_TIERS)
    try:
        rows, tiers = (published_copy.query(config.published, sql) for sql in asked)
    except published_copy.NothingPublishedError:
        rows, tiers = price_list(config.dbt_project)
    return pricing.plans(rows, tiers, meters.known(config))


def plans_by_name(config: Settings) -> dict[str, pricing.Plan]:
    """Those with prices for the meter that these settings report.

    :raises ValueError, NothingPublishedError: see `plans`.
    """
    meter = meters.reported(config).name
    return {plan.name: plan for plan in plans(config) if plan.meter == meter}
