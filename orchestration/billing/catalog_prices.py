"""What counted units should cost on an invoice: by the catalog's price that the subscription has."""

from contextlib import suppress
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property

from orchestration.billing.billed_periods import BilledPeriod
from orchestration.billing.catalog import plans_by_name
from orchestration.billing.catalog_rules import catalog_of, minor_digits
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.settings import Settings
from orchestration.usage import pricing
from orchestration.usage.pricing import Plan

CENTS = 2
"""Decimal places of a plan's prices; amounts of a currency with more of them are not compared."""


class ExpectedAmounts:
    """By plans of the published copy, and the lookup keys of prices that were read with the subscriptions."""

    def __init__(self, config: Settings, ledger: MeterLedger) -> None:
        self._config, self._ledger = config, ledger
        self._keys: dict[str, str] = {}

    def of(self, period: BilledPeriod, units: int) -> int | None:
        """In the currency's minor unit; None where the price is none of the catalog's, or usage is not charged."""
        if len(period.items) != 1 or period.is_trial:
            return None
        [item] = period.items
        if item.price_id not in self._keys:
            self._keys[item.price_id] = self._ledger.mark(f"price|{item.price_id}") or ""
        key = self._keys[item.price_id]
        plan = self._plans.get(key) if key else None
        if plan is None or plan.currency.lower() != item.currency.lower():
            return None
        digits = minor_digits(plan.currency)
        if digits > CENTS:
            return None
        return int(pricing.price(plan, units).scaleb(digits).quantize(Decimal(1), ROUND_HALF_UP))

    @cached_property
    def _plans(self) -> dict[str, Plan]:
        """By the lookup key of the metered price; without those of a currency that Stripe's prices are not made in."""
        found: dict[str, Plan] = {}
        for plan in plans_by_name(self._config).values():
            with suppress(ValueError):
                prices = catalog_of([plan], self._config.stripe_meter, plan.meter).prices
                found |= {price.lookup_key: plan for price in prices if price.meter}
        return found
