"""Stripe's subscriptions and invoices, read: which periods of which items bill a meter's usage, and on which lines.

Of a list only what is new is asked for, a hundred objects a request. Nothing is changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import stripe

from orchestration.billing.invoicing import DRAFT, InvoiceLine, InvoiceReading, SubscriptionPeriod
from orchestration.billing.meter import StoppedError
from orchestration.channels.stripe import client as stripe_client
from orchestration.channels.stripe.catalog import PAGE, id_of
from orchestration.channels.stripe.client import refusal
from orchestration.channels.stripe.meter import NO_ANSWER, PATIENCE, Pace, retry_after
from orchestration.settings import Settings

UNBILLED = ("incomplete", "incomplete_expired")
"""States of a subscription that never began."""


class StripeInvoices:
    """What Stripe's subscriptions and invoices have of one meter."""

    def __init__(self, client: stripe.StripeClient, pace: Pace) -> None:
        self._client, self._pace = client, pace
        self.requests = 0

    def subscriptions(
        self, meter_id: str, now: datetime, begun_since: datetime | None, ended_since: datetime
    ) -> tuple[list[SubscriptionPeriod], dict[str, str]]:
        begun = {"current_period_start": {"gte": _seconds(begun_since)}} if begun_since else {}
        ended = {"status": "canceled", "current_period_end": {"gte": _seconds(ended_since)}}
        periods: list[SubscriptionPeriod] = []
        keys: dict[str, str] = {}
        for asked in (begun, {**begun, **ended}):
            for subscription in self._listed("subscriptions", self._client.v1.subscriptions.list, **asked):
                if subscription.status in UNBILLED:
                    continue
                for item in self._items(subscription):
                    if item.price.recurring and item.price.recurring.meter == meter_id:
                        periods += _periods(subscription, item, now, ended_since)
                        keys[item.price.id] = item.price.lookup_key or ""
        return periods, keys

    def invoices(self, items: Mapping[str, str], now: datetime, created_since: datetime) -> InvoiceReading:
        created_at: dict[str, datetime] = {}
        lines: list[InvoiceLine] = []
        since = {"gte": _seconds(created_since)}
        for invoice in self._listed("invoices", self._client.v1.invoices.list, created=since):
            created_at[invoice.id] = _moment(invoice.created)
            lines += [
                _line(invoice, line, item, now) for line in self._lines(invoice) if (item := _item_of(line)) in items
            ]
        drafts = {line.invoice_id for line in lines if line.invoice_status == DRAFT}
        return InvoiceReading(created_at, drafts, lines)

    def voided(self, created_since: datetime) -> set[str]:
        since = {"gte": _seconds(created_since)}
        return {
            invoice.id
            for invoice in self._listed("invoices", self._client.v1.invoices.list, status="void", created=since)
        }

    def _items(self, subscription: Any) -> Iterator[Any]:
        first = subscription.items
        yield from first.data
        if first.has_more:
            ask = self._client.v1.subscription_items.list
            after = first.data[-1].id
            yield from self._listed("items", ask, subscription=subscription.id, starting_after=after)

    def _lines(self, invoice: Any) -> Iterator[Any]:
        first = invoice.lines
        yield from first.data
        if first.has_more:
            ask = self._client.v1.invoices.line_items.list
            yield from self._listed(f"lines of {invoice.id}", ask, invoice.id, starting_after=first.data[-1].id)

    def _listed(self, what: str, ask: Any, *path: str, **asked: Any) -> Iterator[Any]:
        page: dict[str, Any] = {"limit": PAGE, **asked}
        while True:
            answer = self._asked(what, ask, *path, page)
            try:
                found, has_more = list(answer.data), answer.has_more
            except (AttributeError, TypeError) as error:
                raise StoppedError(
                    f"no usable answer from Stripe ({type(error).__name__}) about {what}; run again"
                ) from None
            yield from found
            if not has_more:
                return
            page["starting_after"] = found[-1].id

    def _asked(self, what: str, ask: Any, *arguments: Any) -> Any:
        for _ in range(PATIENCE):
            self._pace.wait()
            self.requests += 1
            try:
                return ask(*arguments)
            except stripe.StripeError as error:
                status = error.http_status
                if status == 429:
                    self._pace.hold(retry_after(error))
                elif status in (400, 401, 403, 404):
                    raise StoppedError(refusal(error, f"reading {what}")) from None
                else:
                    reason = f"HTTP {status}" if status else type(error).__name__
                    raise StoppedError(f"no usable answer from Stripe ({reason}) about {what}; run again") from None
            except NO_ANSWER as error:
                reason = type(error).__name__
                raise StoppedError(f"no usable answer from Stripe ({reason}) about {what}; run again") from None
        raise StoppedError("Stripe takes no more requests for the moment (HTTP 429); the next run goes on")


def _periods(subscription: Any, item: Any, now: datetime, ended_since: datetime) -> list[SubscriptionPeriod]:
    """The current one, and the trial before it."""
    start, trial_end = int(item.current_period_start), subscription.trial_end
    current = SubscriptionPeriod(
        stripe_customer_id=id_of(subscription.customer),
        subscription_id=subscription.id,
        subscription_item_id=item.id,
        price_id=item.price.id,
        currency=str(item.price.currency),
        period_start=_moment(start),
        period_end=_moment(item.current_period_end),
        status=str(subscription.status),
        is_trial=trial_end is not None and start < trial_end,
        has_threshold=bool(subscription.billing_thresholds or getattr(item, "billing_thresholds", None)),
        ends_at=_optional(subscription.ended_at or subscription.cancel_at),
        seen_at=now,
    )
    if current.is_trial or trial_end is None or _moment(trial_end) < ended_since:
        return [current]
    began, ended = _moment(subscription.trial_start), _moment(trial_end)
    return [replace(current, period_start=began, period_end=ended, is_trial=True), current]


def _item_of(line: Any) -> str:
    details = line.parent.subscription_item_details if line.parent else None
    return str(details.subscription_item) if details else ""


def _line(invoice: Any, line: Any, item: str, now: datetime) -> InvoiceLine:
    """Usage until the invoice was made: what comes later in the period is on another one."""
    start, end = int(line.period.start), min(int(line.period.end), int(invoice.created))
    return InvoiceLine(
        line_id=line.id,
        invoice_id=invoice.id,
        invoice_status=str(invoice.status),
        stripe_customer_id=id_of(invoice.customer),
        subscription_item_id=item,
        period_start=_moment(start),
        period_end=_moment(max(start, end)),
        quantity=int(line.quantity or 0),
        amount=int(line.amount),
        currency=str(line.currency),
        finalizes_at=_optional(invoice.automatically_finalizes_at),
        finalized_at=_optional(invoice.status_transitions.finalized_at),
        seen_at=now,
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _optional(seconds: int | None) -> datetime | None:
    return None if seconds is None else _moment(seconds)


def configured(config: Settings) -> StripeInvoices:
    """:raises ValueError: there is no key, or none that can be used."""
    client = stripe_client.connect(config)
    if client is None:
        raise ValueError("STRIPE_API_KEY is not set")
    return StripeInvoices(client, Pace(config.stripe_requests_per_second))
