"""What invoices and certificates will want of the day's requests, by the ledger's subscription periods."""

from datetime import datetime, timedelta

from orchestration.billing.budget import SOON, shortage, wanted_by_invoices
from orchestration.billing.finality import by_item, final_at
from orchestration.billing.invoicing import Invoicing
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.settings import Settings

BACK, AHEAD = timedelta(days=4), timedelta(days=31)
FIRST_LOOK = timedelta(minutes=25)
"""After a period's end: the hourly run has sent its last hour, and Stripe has added it up."""
BEFORE_FINAL = timedelta(minutes=30)
"""Leaves time to repair what differs then."""


def of_invoices(config: Settings, ledger: MeterLedger, now: datetime) -> tuple[dict[str, datetime], int]:
    """By customer, when its next invoice becomes final, if within a day; and how many requests are wanted."""
    store, grace = Invoicing(ledger), timedelta(hours=config.stripe_grace_hours)
    periods, lines = store.periods(now - BACK), by_item(store.lines(now - BACK))
    soon: dict[str, datetime] = {}
    for period in periods:
        at = final_at(period, lines.get(period.subscription_item_id, ()), grace)
        if at and now < at <= now + SOON:
            customer = period.stripe_customer_id
            soon[customer] = min(at, soon.get(customer, at))
    customers = {period.stripe_customer_id for period in periods}
    return soon, wanted_by_invoices(now, len(customers), len(soon)) if customers else 0


def closing_looks(config: Settings, ledger: MeterLedger, now: datetime) -> list[str]:
    """Looks that are due before invoices become final, one name for each look and hour of it: soon after the period's
    end, when what was sent then is confirmed, and shortly before.
    """
    store, grace = Invoicing(ledger), timedelta(hours=config.stripe_grace_hours)
    periods, lines = store.periods(now - BACK), by_item(store.lines(now - BACK))
    due = set()
    for period in periods:
        at = final_at(period, lines.get(period.subscription_item_id, ()), grace)
        if at is None or not period.period_end + FIRST_LOOK <= now < at:
            continue
        due.add(f"{at:%Y-%m-%dT%H}|first")
        if at - BEFORE_FINAL <= now:
            due.add(f"{at:%Y-%m-%dT%H}|last")
    return sorted(due)


def of_a_day(config: Settings, ledger: MeterLedger, now: datetime) -> str:
    """Why the day's requests are too few for the day on which the most periods end; empty where they are enough."""
    ends: dict[object, set[str]] = {}
    for period in Invoicing(ledger).periods(now):
        if period.period_end <= now + AHEAD:
            ends.setdefault(period.period_end.date(), set()).add(period.stripe_customer_id)
    customers = ledger.customers(now - timedelta(days=1)).union(*ends.values())
    return shortage(config.stripe_reads_per_day, len(customers), max(map(len, ends.values()), default=0))
