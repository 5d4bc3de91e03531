"""A look at Stripe's subscriptions and invoices: what is new since the last one, into the ledger.

Subscriptions are read as a whole once a day, and those whose period should have rolled over in each run. Invoices are
read from the oldest on that is not final yet. A look that was killed is made again: it saves all of it, or nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orchestration.billing.finality import by_item, closing, closing_lines, in_order, open_since
from orchestration.billing.invoicing import (
    VOID,
    ConnectInvoices,
    InvoiceLine,
    InvoiceReading,
    Invoices,
    Invoicing,
    SubscriptionPeriod,
)
from orchestration.billing.meter import Connect, connected
from orchestration.billing.meter_ledger import MeterLedger, meter_ledger
from orchestration.billing.reads import note_reads, reads_left
from orchestration.settings import Settings

KNOWN = timedelta(days=70)
"""So far back subscriptions that ended, and invoices, are read the first time."""
ALL = timedelta(days=1)
"""So often all subscriptions are read."""
ROLLING_OVER = timedelta(days=3)
"""For so long a subscription whose period ended is asked for the next one in each run."""
INVOICE_DUE = timedelta(days=10)
"""For so long the invoice of a period that ended is asked for in each run."""
OVERLAP = timedelta(hours=1)
"""What Stripe's lists may lack of the newest."""
SUBSCRIPTIONS, INVOICES = "subscriptions read", "invoices since"


@dataclass
class InvoiceLook:
    """What a look has read."""

    periods: int = 0
    """New, or other than before."""
    lines: int = 0
    requests: int = 0
    is_left: bool = False
    """The day's requests are used up."""


def read_invoices(
    config: Settings, connect: Connect, connect_invoices: ConnectInvoices, clock: Callable[[], datetime]
) -> InvoiceLook | None:
    """Read what is new of subscriptions and invoices; None without a key.

    :raises engines.BusyError: another run plans or sends.
    :raises StoppedError, ValueError: Stripe cannot be used as configured, or could not be asked. Nothing was saved.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, connect)
        if meter is None:
            return None
        if reads_left(config, ledger, clock) <= 0:
            return InvoiceLook(is_left=True)
        source = connect_invoices(config)
        try:
            return _look(ledger, source, meter.id, clock())
        finally:
            note_reads(ledger, clock, source.requests)


def subscriptions_read_at(ledger: MeterLedger) -> datetime | None:
    """When all subscriptions were read last; None: never."""
    return _moment(ledger.mark(SUBSCRIPTIONS))


def known_finality(
    ledger: MeterLedger, now: datetime, grace: timedelta
) -> tuple[dict[str, datetime], dict[str, datetime]]:
    """By customer, as far as Stripe's periods are known: from when on usage can still come on an invoice, and the end
    of a period that is over and whose invoice can still change.
    """
    store = Invoicing(ledger)
    periods, lines = store.periods(now - KNOWN), store.lines(now - KNOWN)
    return open_since(periods, lines, now, grace), closing(periods, lines, now, grace)


def _look(ledger: MeterLedger, source: Invoices, meter_id: str, now: datetime) -> InvoiceLook:
    store, read_at = Invoicing(ledger), subscriptions_read_at(ledger)
    before, lines = store.periods(now - KNOWN), store.lines(now - KNOWN)
    is_all = read_at is None or now - read_at >= ALL
    stale = [] if is_all else _rolling_over(before, now)
    found: list[SubscriptionPeriod] = []
    keys: dict[str, str] = {}
    if is_all or stale:
        begun_since = None if is_all else min(each.period_end for each in stale) - OVERLAP
        found, keys = source.subscriptions(meter_id, now, begun_since, now - KNOWN)
    known = _merged(before, found)
    reading, void = InvoiceReading(), set[str]()
    is_awaited = is_all or bool(stale) or _awaits_invoices(known, lines, now)
    if is_awaited:
        # invoices of an item that was not known are among those that were read before
        items_before = {each.subscription_item_id for each in before}
        begun = [each.period_start for each in found if each.subscription_item_id not in items_before]
        since = min([_moment(ledger.mark(INVOICES)) or now - KNOWN, *begun])
        items = {each.subscription_item_id: each.stripe_customer_id for each in known}
        reading = source.invoices(items, now, since)
        void = source.voided(now - KNOWN) if is_all else void
    new_lines = [*reading.lines, *_voided(lines, reading, void)]
    deleted = {line.invoice_id for line in lines if is_awaited and line.is_draft} - reading.created_at.keys()
    periods = in_order(_merged(known, _invoiced(known, new_lines)))
    kept = {(each.subscription_item_id, each.period_start) for each in periods}
    known_before = {replace(each, seen_at=now) for each in before}
    changed = [each for each in periods if replace(each, seen_at=now) not in known_before]
    store.save(
        changed,
        new_lines,
        read={*reading.created_at, *deleted, *(line.invoice_id for line in new_lines)},
        gone=[each for each in before if (each.subscription_item_id, each.period_start) not in kept],
    )
    for number, key in keys.items():
        if ledger.mark(f"price|{number}") != key:
            ledger.remember(f"price|{number}", key)
    if is_awaited:
        drafts = [reading.created_at[number] for number in reading.drafts]
        ledger.remember(INVOICES, min([*drafts, now - OVERLAP]).isoformat())
    if is_all:
        ledger.remember(SUBSCRIPTIONS, now.isoformat())
    return InvoiceLook(len(changed), len(new_lines), source.requests)


def _merged(before: Iterable[SubscriptionPeriod], found: Iterable[SubscriptionPeriod]) -> list[SubscriptionPeriod]:
    """What was found in the place of what was known of the same item and start. The end of a subscription holds for all
    of its periods.
    """
    found = list(found)
    merged = {(each.subscription_item_id, each.period_start): each for each in [*before, *found]}
    newest = {each.subscription_item_id: each for each in found}
    return [
        replace(each, ends_at=newest[each.subscription_item_id].ends_at)
        if each.subscription_item_id in newest
        else each
        for each in merged.values()
    ]


def _rolling_over(periods: Sequence[SubscriptionPeriod], now: datetime) -> list[SubscriptionPeriod]:
    """The newest period of each item, where it has ended and the subscription has not."""
    newest = {each.subscription_item_id: each for each in sorted(periods, key=lambda each: each.period_start)}
    return [
        each
        for each in newest.values()
        if now - ROLLING_OVER < each.period_end <= now and not (each.ends_at and each.ends_at <= each.period_end)
    ]


def _awaits_invoices(periods: Sequence[SubscriptionPeriod], lines: Sequence[InvoiceLine], now: datetime) -> bool:
    if any(line.is_draft for line in lines):
        return True
    of_item = by_item(lines)
    return any(
        now - INVOICE_DUE < each.period_end <= now
        and not closing_lines(each, of_item.get(each.subscription_item_id, ()))
        for each in periods
    )


def _voided(lines: Iterable[InvoiceLine], reading: InvoiceReading, void: set[str]) -> list[InvoiceLine]:
    """Those of invoices that were final when they were read, and are void since."""
    return [
        replace(line, invoice_status=VOID)
        for line in lines
        if line.invoice_id in void and line.invoice_id not in reading.created_at and not line.is_void
    ]


def _invoiced(periods: Iterable[SubscriptionPeriod], lines: Iterable[InvoiceLine]) -> list[SubscriptionPeriod]:
    """Periods that were never seen as the current one, by the lines of their invoices."""
    of_item: defaultdict[str, list[SubscriptionPeriod]] = defaultdict(list)
    for period in sorted(periods, key=lambda each: each.period_start):
        of_item[period.subscription_item_id].append(period)
    found: dict[tuple[str, datetime], SubscriptionPeriod] = {}
    for line in lines:
        item, start, end = line.subscription_item_id, line.period_start, line.period_end
        known = of_item.get(item, [])
        if not known or start >= end or any(each.period_start <= start < each.period_end for each in known):
            continue
        other = found.get((item, start))
        end = max(end, other.period_end) if other else end
        found[item, start] = replace(known[-1], period_start=start, period_end=end, is_trial=False)
    return list(found.values())


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
