"""What Stripe does by itself as time passes: periods end, invoices are made and become final, subscriptions end.

Nothing runs in the background: `settle` does what has become due, in the order of time, before each request and each
look by a test. However far the clock jumped, an invoice has what the meter had counted when it became final.

What Stripe's documentation says: usage counts for a period by its timestamp; a draft of a period that ended becomes
final after the grace, with what the meter has then; a threshold is not looked at in a trial and in the last 24 hours
of a period, and its invoice has no usage that is reported later; the tiers go on across it; a subscription that is
canceled at once loses its usage, unless `invoice_now` is asked for; one that ends with its period gets a last invoice;
usage of a trial is not charged.

What it leaves open, and is chosen here:
- The invoice of a trial's end has a metered line of 0.
- A threshold counts usage that is on no invoice yet, so that it is met again by as much again. Its invoice becomes
  final after the same grace, and covers the period until then; the one of the period's end covers the whole period
  with the rest of its usage, never less than 0.
- With `reset_billing_cycle_anchor` the period ends when the threshold is met. Usage that is reported later with a time
  before that is on no invoice.
- `invoice_now` makes a draft with the reason subscription_update, final after the same grace.
- A subscription that ends within its period (`cancel_at`) keeps showing the period's end, and gets a last invoice.
- The first invoice has prices with a quantity only (`billing_mode` flexible), is final at once, and is not made where
  there are none. Such prices are never prorated.
- Customers with a test clock report usage by the real clock, as all others do.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.fakes.stripe_calendar import period
from tests.fakes.stripe_invoices import Part
from tests.fakes.stripe_metering import MeterEvent
from tests.fakes.stripe_pricing import charges
from tests.fakes.stripe_store import Json
from tests.fakes.stripe_subscriptions import LIVE, interval, usage_type

if TYPE_CHECKING:
    from tests.fakes.stripe import FakeStripe

UNWATCHED = 86_400
"""Seconds before the end of a period in which no threshold is looked at."""


@dataclass
class Timeline:
    """What is due when, by the real clock or by a test clock."""

    now: Callable[[], float]
    due: list[tuple[int, int, str, str]] = field(default_factory=list)
    """When, a number that keeps the order, what, and of which object."""


@dataclass
class Cycle:
    """The period that is open of a subscription."""

    start: int
    end: int
    billed: dict[str, Decimal] = field(default_factory=dict)
    """By item: usage of it that is on invoices already."""


class Billing:
    def __init__(self, stripe: FakeStripe) -> None:
        self.stripe = stripe
        self.timelines: dict[str | None, Timeline] = {None: Timeline(lambda: stripe.clock())}
        """By test clock; that of None is the real one."""
        self._cycles: dict[str, Cycle] = {}
        self._watched: defaultdict[str, dict[str, None]] = defaultdict(dict)
        """Subscriptions with a threshold, by customer."""
        self._acts: dict[str, Callable[[str, int], None]] = {
            "cancel": self._cancel_due,
            "cycle": self._cycle_due,
            "finalize": self._finalize_due,
        }

    def now(self, clock: str | None = None) -> int:
        return int(self.timelines[clock].now())

    def settle(self) -> None:
        """Does what became due by the real clock, and counts what was received until then."""
        timeline, now = self.timelines[None], self.stripe.clock()
        while timeline.due and timeline.due[0][0] <= now:
            self.stripe.metering.settle(timeline.due[0][0])
            self._act(timeline)
        self.stripe.metering.settle(now)

    def period_ends(self) -> list[int]:
        """Of the periods that run now."""
        self.settle()
        return [cycle.end for cycle in self._cycles.values()]

    def advance(self, clock: str, until: int) -> None:
        """The same for a test clock, with what is counted now."""
        timeline = self.timelines[clock]
        while timeline.due and timeline.due[0][0] <= until:
            self._act(timeline)

    def begin(self, subscription: Json, since: int, *, is_new: bool = False) -> None:
        """Its periods, from the one that has that moment on; the first invoice of a new one."""
        if subscription["status"] not in LIVE:
            return
        start, end = self._period(subscription, since)
        start = max(start, subscription["start_date"])
        if subscription["status"] == "trialing" and subscription["trial_end"]:
            start, end = subscription["trial_start"], subscription["trial_end"]
        self._open(subscription, start, end)
        if is_new and (parts := self._in_advance(subscription, start, end)):
            at = self.now(subscription["test_clock"])
            invoice = self.stripe.invoices.make(subscription, "subscription_create", at, parts, None)
            self.stripe.invoices.finalize(invoice, at)
        self.settle()
        if subscription["test_clock"]:
            self.advance(subscription["test_clock"], self.now(subscription["test_clock"]))

    def watch(self, subscription: Json) -> None:
        """Notes when it ends, and whether it has a threshold."""
        watched = self._watched[subscription["customer"]]
        watched.pop(subscription["id"], None)
        if (subscription["billing_thresholds"] or {}).get("amount_gte"):
            watched[subscription["id"]] = None
        if subscription["cancel_at"]:
            self._plan(subscription, subscription["cancel_at"], "cancel", subscription["id"])

    def cancel(self, subscription: Json, *, is_invoiced: bool) -> None:
        at = self.now(subscription["test_clock"])
        if is_invoiced and (cycle := self._cycles.get(subscription["id"])):
            self._invoice(subscription, "subscription_update", at, self._used(subscription, cycle, cycle.start, at))
        subscription["canceled_at"] = at
        self._end(subscription, at)

    def on_counted(self, event: MeterEvent, customer: str) -> None:
        """A meter counted an event: a threshold may be met."""
        for number in list(self._watched.get(customer, ())):
            subscription = self.stripe.subscriptions.objects[number]
            clock = subscription["test_clock"]
            at = self.now(clock) if clock else int(event.validated_at or 0)
            cycle = self._cycles.get(number)
            is_watched = cycle and cycle.start <= at < cycle.end - UNWATCHED
            if cycle and is_watched and subscription["status"] in LIVE and subscription["status"] != "trialing":
                self._check_threshold(subscription, cycle, at)

    def _check_threshold(self, subscription: Json, cycle: Cycle, at: int) -> None:
        terms = subscription["billing_thresholds"]
        is_reset = terms["reset_billing_cycle_anchor"]
        until = at if is_reset else cycle.end
        used = [
            Part(
                part.item,
                part.price,
                cycle.start,
                at,
                self._usage(subscription, part.price, cycle.start, until),
                before,
            )
            for part in self._used(subscription, cycle, cycle.start, at)
            for before in [part.before]
        ]
        amount = sum(
            charge.amount for part in used for charge in charges(part.price, part.total or Decimal(0), part.before)
        )
        if amount < terms["amount_gte"]:
            return
        if is_reset:
            subscription["billing_cycle_anchor"] = at
            start, end = self._period(subscription, at)
            self._open(subscription, start, end)
            used += self._in_advance(subscription, start, end)
        else:
            cycle.billed |= {part.item["id"]: max(part.total or Decimal(0), part.before) for part in used}
        self._invoice(subscription, "subscription_threshold", at, used)

    def _act(self, timeline: Timeline) -> None:
        at, _, what, number = heapq.heappop(timeline.due)
        self._acts[what](number, at)

    def _finalize_due(self, number: str, at: int) -> None:
        invoice = self.stripe.invoices.objects.get(number, {})
        if invoice.get("status") == "draft" and invoice["automatically_finalizes_at"] == at:
            self.stripe.invoices.finalize(invoice, at)

    def _cancel_due(self, number: str, at: int) -> None:
        """Its end, within a period or with it."""
        subscription = self.stripe.subscriptions.objects.get(number, {})
        cycle = self._cycles.get(number)
        if cycle and subscription.get("cancel_at") == at and subscription["status"] in LIVE:
            self._invoice(subscription, "subscription_cycle", at, self._used(subscription, cycle, cycle.start, at))
            self._end(subscription, at)

    def _cycle_due(self, number: str, at: int) -> None:
        subscription = self.stripe.subscriptions.objects.get(number, {})
        cycle = self._cycles.get(number)
        if not cycle or cycle.end != at or subscription.get("status") not in LIVE:
            return
        if subscription["cancel_at"] == at:
            return  # the other entry of this moment ends it
        parts = self._used(subscription, cycle, cycle.start, at)
        if subscription["trial_end"] == at:
            subscription["status"] = "active"
        _, end = self._period(subscription, at)
        self._open(subscription, at, end)
        self._invoice(subscription, "subscription_cycle", at, parts + self._in_advance(subscription, at, end))

    def _open(self, subscription: Json, start: int, end: int) -> None:
        self._cycles[subscription["id"]] = Cycle(start, end)
        for item in subscription["items"]:
            item |= {"current_period_start": start, "current_period_end": end}
        if subscription["cancel_at_period_end"]:
            subscription["cancel_at"] = end
        self.watch(subscription)
        self._plan(subscription, end, "cycle", subscription["id"])

    def _end(self, subscription: Json, at: int) -> None:
        subscription |= {"status": "canceled", "ended_at": at}
        self._cycles.pop(subscription["id"], None)
        self._watched[subscription["customer"]].pop(subscription["id"], None)

    def _invoice(self, subscription: Json, reason: str, at: int, parts: Sequence[Part]) -> None:
        if parts:
            final_at = at + int(self.stripe.grace_hours * 3_600)
            invoice = self.stripe.invoices.make(subscription, reason, at, parts, final_at)
            self._plan(subscription, final_at, "finalize", invoice["id"])

    def _used(self, subscription: Json, cycle: Cycle, start: int, end: int) -> list[Part]:
        """Its metered items, in the order of items."""
        is_free = subscription["status"] == "trialing"
        return [
            Part(item, price, start, end, before=cycle.billed.get(item["id"], Decimal(0)), is_free=is_free)
            for item, price in self._items(subscription)
            if usage_type(price) == "metered"
        ]

    def _in_advance(self, subscription: Json, start: int, end: int) -> list[Part]:
        """Its items with a quantity, for a period that begins."""
        is_free = subscription["status"] == "trialing"
        return [
            Part(item, price, start, end, Decimal(item["quantity"]), is_free=is_free)
            for item, price in self._items(subscription)
            if usage_type(price) != "metered"
        ]

    def _usage(self, subscription: Json, price: Json, start: int, end: int) -> Decimal:
        return self.stripe.invoices.usage(price, subscription["customer"], start, end)

    def _items(self, subscription: Json) -> list[tuple[Json, Json]]:
        prices: Any = self.stripe.resources["/v1/prices"]
        return [(item, prices.objects[item["price"]]) for item in subscription["items"]]

    def _period(self, subscription: Json, at: int) -> tuple[int, int]:
        _, price = self._items(subscription)[0]
        return period(subscription["billing_cycle_anchor"], interval(price), at)

    def _plan(self, subscription: Json, at: int, what: str, number: str) -> None:
        entry = (at, self.stripe.next_number(), what, number)
        heapq.heappush(self.timelines[subscription["test_clock"]].due, entry)
