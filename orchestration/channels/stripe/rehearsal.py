"""Stripe's sandbox for a rehearsal: a test clock, a customer and a subscription that live by it, and their invoice."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import stripe

from orchestration.billing.meter import StoppedError
from orchestration.billing.rehearsal import PATIENCE, POLL_SECONDS
from orchestration.billing.sandbox import Leftover, RehearsedInvoice, RehearsedLine, RehearsedSubscription
from orchestration.channels.stripe.catalog import id_of
from orchestration.channels.stripe.client import connect, explained, is_live
from orchestration.settings import Settings

NAME = "headroom rehearsal"
"""Of its test clocks."""
CARD = "pm_card_visa"
"""A payment method that every sandbox has: without one the subscription would stay incomplete."""
PAGE = 100


class StripeSandbox:
    def __init__(self, client: stripe.StripeClient, wait: Callable[[float], object] = time.sleep) -> None:
        self._client, self._wait = client, wait

    def leftovers(self) -> list[Leftover]:
        with _explained("the test clocks"):
            clocks = self._client.v1.test_helpers.test_clocks.list({"limit": PAGE}).auto_paging_iter()
            return [
                Leftover(clock.id, str(clock.name), _moment(clock.created))
                for clock in clocks
                if str(clock.name).startswith(NAME)
            ]

    def start(self, at: datetime) -> str:
        with _explained("the test clock"):
            params: Any = {"frozen_time": _seconds(at), "name": NAME}
            return str(self._client.v1.test_helpers.test_clocks.create(params).id)

    def customer(self, clock: str) -> str:
        with _explained("the customer"):
            params: Any = {
                "name": NAME,
                "test_clock": clock,
                "payment_method": CARD,
                "invoice_settings": {"default_payment_method": CARD},
            }
            return str(self._client.v1.customers.create(params).id)

    def subscribe(self, customer: str, prices: Sequence[str], metered: str) -> RehearsedSubscription:
        with _explained("the subscription"):
            params: Any = {"customer": customer, "items": [{"price": price} for price in prices]}
            made = self._client.v1.subscriptions.create(params)
            [item] = [item for item in made.items.data if id_of(item.price) == metered]
        if made.status != "active":
            raise StoppedError(f"subscription {made.id} is {made.status}, not active: look at it in the sandbox")
        return RehearsedSubscription(
            made.id, item.id, _moment(item.current_period_start), _moment(item.current_period_end)
        )

    def advance(self, clock: str, to: datetime) -> None:
        with _explained("moving the test clock"):
            params: Any = {"frozen_time": _seconds(to)}
            self._client.v1.test_helpers.test_clocks.advance(clock, params)
            for _ in range(PATIENCE):
                status = self._client.v1.test_helpers.test_clocks.retrieve(clock).status
                if status == "ready":
                    return
                if status != "advancing":
                    break
                self._wait(POLL_SECONDS)
        raise StoppedError(f"test clock {clock} is {status} and does not reach {to:%Y-%m-%d %H:%M} UTC; run again")

    def invoice(self, subscription: RehearsedSubscription) -> RehearsedInvoice | None:
        with _explained("the invoices"):
            asked: Any = {"subscription": subscription.id, "limit": PAGE}
            for invoice in self._client.v1.invoices.list(asked).auto_paging_iter():
                found = self._read(invoice)
                if any(line.item == subscription.metered_item for line in found.lines):
                    return found
        return None

    def delete(self, clock: str) -> None:
        with _explained("deleting the test clock"):
            self._client.v1.test_helpers.test_clocks.delete(clock)

    def _read(self, invoice: Any) -> RehearsedInvoice:
        lines = invoice.lines.data
        if invoice.lines.has_more:
            page: Any = {"limit": PAGE}
            lines = [*self._client.v1.invoices.line_items.list(invoice.id, page).auto_paging_iter()]
        return RehearsedInvoice(
            id=invoice.id,
            is_draft=invoice.status == "draft",
            finalizes_at=_moment_or_none(invoice.automatically_finalizes_at),
            finalized_at=_moment_or_none(invoice.status_transitions.finalized_at),
            lines=tuple(_line(line) for line in lines),
        )


def _line(line: Any) -> RehearsedLine:
    details = line.parent.subscription_item_details if line.parent else None
    return RehearsedLine(
        id=line.id,
        item=str(details.subscription_item) if details else "",
        start=_moment(line.period.start),
        end=_moment(line.period.end),
        quantity=line.quantity or 0,
        amount=line.amount,
        currency=line.currency,
    )


@contextmanager
def _explained(what: str) -> Iterator[None]:
    with explained(what, "the rehearsal ends; run it again", StoppedError):
        yield


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _moment_or_none(seconds: int | None) -> datetime | None:
    return None if seconds is None else _moment(seconds)


def configured(config: Settings) -> StripeSandbox:
    """:raises ValueError: there is no key, or it is a live one."""
    if is_live(config):
        raise ValueError(
            "STRIPE_API_KEY is a live key, and a rehearsal makes customers and invoices. Set a test key of a sandbox"
            " (sk_test_… or rk_test_…). Nothing was done"
        )
    client = connect(config)
    if client is None:
        raise ValueError(
            "STRIPE_API_KEY is not set: a rehearsal needs a test key of a sandbox (sk_test_… or rk_test_…)"
        )
    return StripeSandbox(client)
