"""The stretches of time that a customer's usage is compared in: subscription periods, and what lies outside of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestration.billing.finality import by_item, closing_lines, final_at, lines_of
from orchestration.billing.invoicing import InvoiceLine, SubscriptionPeriod

Span = tuple[datetime, datetime]
DRAFT_DAY = timedelta(days=1)
"""A draft that only people finalize stays open: it is looked at again a day later."""


@dataclass(frozen=True)
class BilledPeriod:
    """What a customer's usage in `[start, end)` is billed by."""

    stripe_customer_id: str
    start: datetime
    end: datetime
    final_at: datetime
    """From here on its invoice cannot change."""
    items: tuple[SubscriptionPeriod, ...] = ()
    """On the meter; each of them bills all of the usage. None: no subscription bills it."""
    overlapping: tuple[SubscriptionPeriod, ...] = ()
    """Further ones that begin at another time, and bill a part of the usage once more."""
    lines: tuple[InvoiceLine, ...] = ()
    """Of the items, void ones too."""
    is_closed: bool = False
    """Whether the invoice at its end is there, and final."""
    is_by_hand: bool = False
    """Whether that invoice is a draft that people finalize."""

    @property
    def is_trial(self) -> bool:
        return any(item.is_trial for item in self.items)

    @property
    def billing_lines(self) -> list[InvoiceLine]:
        return [line for line in self.lines if not line.is_void]

    @property
    def invoice_units(self) -> int | None:
        """Of all tiers and invoices together; None before the invoice at its end is final."""
        return sum(line.quantity for line in self.billing_lines) if self.is_closed else None

    @property
    def invoice_amount(self) -> int | None:
        return sum(line.amount for line in self.billing_lines) if self.is_closed else None

    @property
    def invoice_ids(self) -> str | None:
        return " ".join(dict.fromkeys(line.invoice_id for line in self.billing_lines)) or None

    @property
    def line_ids(self) -> str | None:
        return " ".join(line.line_id for line in self.billing_lines) or None

    @property
    def subscription_id(self) -> str | None:
        return " ".join(dict.fromkeys(item.subscription_id for item in self.items)) or None


def billed_periods(
    accounts: Iterable[tuple[str, datetime, datetime]],
    periods: Sequence[SubscriptionPeriod],
    lines: Sequence[InvoiceLine],
    now: datetime,
    grace: timedelta,
) -> list[BilledPeriod]:
    """By customer and start. `accounts` are (customer, start, end) of their own billing periods: the parts of them that
    no subscription period has are listed, too.
    """
    of_customer: defaultdict[str, list[SubscriptionPeriod]] = defaultdict(list)
    for period in periods:
        of_customer[period.stripe_customer_id].append(period)
    of_item = by_item(lines)
    found = [
        billed
        for customer, theirs in of_customer.items()
        for billed in _subscribed(customer, theirs, of_item, now, grace)
    ]
    for customer, start, end in accounts:
        taken = [(each.period_start, each.period_end) for each in of_customer.get(customer, ())]
        found += [BilledPeriod(customer, *span, final_at=span[1] + grace) for span in outside((start, end), taken)]
    return sorted(found, key=lambda each: (each.stripe_customer_id, each.start))


def outside(span: Span, taken: Iterable[Span]) -> list[Span]:
    """The parts of it that none of the others has."""
    start, end = span
    left = []
    for first, last in sorted(taken):
        if first >= end:
            break
        if first > start:
            left.append((start, first))
        start = max(start, last)
    return [*left, (start, end)] if start < end else left


def _subscribed(
    customer: str,
    periods: Sequence[SubscriptionPeriod],
    of_item: Mapping[str, Sequence[InvoiceLine]],
    now: datetime,
    grace: timedelta,
) -> Iterator[BilledPeriod]:
    starts: defaultdict[datetime, list[SubscriptionPeriod]] = defaultdict(list)
    for period in periods:
        starts[period.period_start].append(period)
    for start, items in starts.items():
        end = max(item.period_end for item in items)
        ours = [line for item in items for line in lines_of(item, of_item.get(item.subscription_item_id, ()))]
        last = [line for item in items for line in closing_lines(item, of_item.get(item.subscription_item_id, ()))]
        moments = [final_at(item, of_item.get(item.subscription_item_id, ()), grace) for item in items]
        is_by_hand = None in moments
        yield BilledPeriod(
            customer,
            start,
            end,
            final_at=now + DRAFT_DAY if is_by_hand else max(at for at in moments if at),
            items=tuple(items),
            overlapping=tuple(
                each for each in periods if each not in items and each.period_start < end and start < each.period_end
            ),
            lines=tuple(ours),
            is_closed=bool(last) and not any(line.is_draft for line in last),
            is_by_hand=is_by_hand,
        )
