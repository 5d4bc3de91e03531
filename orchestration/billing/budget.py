"""The day's requests to Stripe: how they are shared between confirming reports and proving invoices. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from orchestration.usage.formatting import counted

PAGE = 100
"""Subscriptions, or invoices, that one request reads."""
SOON = timedelta(days=1)
"""Customers whose invoice becomes final within this are confirmed before the others."""
LOOKS = 24
"""Runs a day."""


def for_confirming(per_day: int, left: int, wanted: int) -> int:
    """Requests that confirming reports may make: what is left, but for those that invoices and certificates want today.
    They keep half of the day's requests at most.
    """
    return max(0, left - min(per_day // 2, wanted))


def wanted_by_invoices(now: datetime, customers: int, becoming_final: int) -> int:
    """Requests that invoices and certificates may still make on this UTC day. `becoming_final` periods are asked for
    their total; `customers` have a subscription, and an invoice.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    looks = -(-(midnight - now) // timedelta(hours=1))
    pages = -(-customers // PAGE)
    invoices = looks * 2 if becoming_final else 2
    return becoming_final + pages + invoices + (pages * looks if becoming_final else pages)


def by_need(
    waiting: Mapping[str, tuple[datetime, datetime]], final_at: Mapping[str, datetime], now: datetime
) -> dict[str, tuple[datetime, datetime]]:
    """Customers whose invoice becomes final soonest first; the others, and those of the same moment, as they were."""

    def need(customer: str) -> datetime:
        at = final_at.get(customer, datetime.max.replace(tzinfo=now.tzinfo))
        return at if now < at <= now + SOON else datetime.max.replace(tzinfo=now.tzinfo)

    return {customer: waiting[customer] for customer in sorted(waiting, key=need)}


def needed_per_day(customers: int, ending_together: int) -> int:
    """Requests that a day needs on which so many periods end: each customer with usage confirmed once, subscriptions,
    invoices, and one total for each of those periods before its invoice is final.
    """
    pages = -(-max(customers, 1) // PAGE)
    return customers + ending_together + 2 * pages + LOOKS * (1 + -(-ending_together // PAGE))


def shortage(per_day: int, customers: int, ending_together: int) -> str:
    """Why the day's requests are too few, and what to do; empty where they are enough."""
    needed = needed_per_day(customers, ending_together)
    if needed <= per_day:
        return ""
    return (
        f"{counted(customers, 'customer')} with usage need {needed:,} requests on the day when {ending_together:,}"
        f" of their periods end. HEADROOM_STRIPE_READS_PER_DAY allows {per_day:,}, so the rest is confirmed days"
        f" later. Set it to {needed:,}. Stripe allows 10,000 requests a month, and more with more payments"
    )
