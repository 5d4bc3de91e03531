"""Stripe's invoices: drafts with the usage of when they were made, and final ones with that of when they became final.
Those do not change any more.

When they are made and finalized is in stripe_billing.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.fakes.stripe_metering import aggregated
from tests.fakes.stripe_pricing import charges
from tests.fakes.stripe_store import Collection, Json, RefusedError, Request, is_within, known, paged
from tests.fakes.stripe_subscriptions import EMBEDDED, is_listed, usage_type

if TYPE_CHECKING:
    from tests.fakes.stripe import FakeStripe

FINAL = ("open", "paid", "uncollectible", "void")


@dataclass(frozen=True)
class Part:
    """What an invoice charges of one item: its lines are made of it."""

    item: Json
    price: Json
    start: int
    end: int
    total: Decimal | None = None
    """The quantity; None where the meter says it, until the invoice is final."""
    before: Decimal = Decimal(0)
    """Of the quantity, on an earlier invoice of the same period."""
    is_free: bool = False
    """In a trial: usage of it does not count, and a quantity costs nothing."""


class Invoices(Collection):
    """Lines are stored as one list, and shown ten at a time."""

    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(stripe, "invoice", "in", filters=["created", "customer", "status", "subscription"])
        self.actions = {
            ("GET", "lines"): self._lines,
            ("POST", "finalize"): self._finalized,
            ("POST", "mark_uncollectible"): lambda request, stored: self._moved(request, stored, "uncollectible"),
            ("POST", "pay"): lambda request, stored: self._moved(request, stored, "paid"),
            ("POST", "void"): lambda request, stored: self._moved(request, stored, "void"),
        }
        self._parts: dict[str, Sequence[Part]] = {}
        """Of drafts."""

    def make(self, subscription: Json, reason: str, at: int, parts: Sequence[Part], finalizes_at: int | None) -> Json:
        """A draft. None finalizes it: people do that."""
        number = f"in_{self.stripe.next_number()}"
        starts, ends = [part.start for part in parts], [part.end for part in parts]
        invoice = self.add(
            number,
            amount_paid=0,
            auto_advance=finalizes_at is not None,
            automatically_finalizes_at=finalizes_at,
            billing_reason=reason,
            collection_method=subscription["collection_method"],
            created=at,
            currency=subscription["currency"],
            customer=subscription["customer"],
            lines=[],
            parent={
                "type": "subscription_details",
                "subscription_details": {"metadata": {}, "subscription": subscription["id"]},
            },
            period_end=min(ends, default=at),
            period_start=min(starts, default=at),
            status="draft",
            status_transitions=dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
            test_clock=subscription["test_clock"],
            total_pretax_credit_amounts=[],
        )
        self._parts[number] = parts
        self._fill(invoice, at)
        return invoice

    def finalize(self, invoice: Json, at: int) -> None:
        """Fixes its quantities as they are. An invoice of nothing is paid at once."""
        self._fill(invoice, at)
        del self._parts[invoice["id"]]
        invoice |= {"status": "open", "automatically_finalizes_at": None}
        invoice["status_transitions"]["finalized_at"] = at
        self.stripe.credits.apply(invoice, at)
        self._sum_up(invoice)
        if invoice["total"] <= 0:
            self._set(invoice, "paid", at)

    def usage(self, price: Json, customer: str, start: int, end: int, by: float | None = None) -> Decimal:
        """What the meter has of `[start, end)`, now or at a moment before; less than nothing is nothing."""
        meter = self.stripe.meters.objects[price["recurring"]["meter"]]
        counted = self.stripe.metering.counted(meter, customer, by=by)
        events = [event for event in counted if start <= event.timestamp < end]
        return max(aggregated(meter, events), Decimal(0)) if events else Decimal(0)

    def change(self, stored: Json, params: Json) -> None:
        known(params, ["auto_advance", "description", "metadata"])
        super().change(stored, params)
        if params.get("auto_advance") is False:
            stored["automatically_finalizes_at"] = None

    def create(self, params: Json) -> Json:
        raise RefusedError("These tests have invoices of subscriptions only.")

    def matches(self, stored: Json, params: Json) -> bool:
        rest = {name: value for name, value in params.items() if name not in ("created", "subscription")}
        return (
            is_listed(stored, params)
            and super().matches(stored, rest)
            and params.get("subscription", subscription_of(stored)) == subscription_of(stored)
            and is_within(stored["created"], params.get("created", {}))
        )

    def shown(self, request: Request, stored: Json) -> Json:
        path = f"/v1/invoices/{stored['id']}/lines"
        first = paged(stored["lines"], Request("GET", path, {"limit": EMBEDDED}))
        shown = super().shown(request, {**stored, "lines": first})
        for line in shown["lines"]["data"]:
            line["livemode"] = request.is_live
        return shown

    def _lines(self, request: Request, stored: Json) -> Json:
        known(request.params, ["limit", "starting_after", "expand"])
        page = paged(stored["lines"], request)
        return {**page, "data": [{**line, "livemode": request.is_live} for line in page["data"]]}

    def _finalized(self, request: Request, stored: Json) -> Json:
        if stored["status"] != "draft":
            raise RefusedError("This invoice is already finalized.", code="invoice_not_editable")
        self.finalize(stored, self.stripe.billing.now(stored["test_clock"]))
        return self.shown(request, stored)

    def _moved(self, request: Request, stored: Json, status: str) -> Json:
        if stored["status"] not in ("open", "uncollectible"):
            raise RefusedError(f"The status of this invoice is {stored['status']}.", code="invoice_not_editable")
        self._set(stored, status, self.stripe.billing.now(stored["test_clock"]))
        return self.shown(request, stored)

    def _set(self, invoice: Json, status: str, at: int) -> None:
        names = {"paid": "paid_at", "uncollectible": "marked_uncollectible_at", "void": "voided_at"}
        invoice["status"] = status
        invoice["status_transitions"][names[status]] = at
        if status == "paid":
            invoice["amount_paid"] = invoice["amount_due"]

    def _fill(self, invoice: Json, at: int) -> None:
        """The lines, as of that moment. A test clock says nothing of when usage was counted."""
        by = None if invoice["test_clock"] else at
        lines: list[Json] = []
        for part in self._parts[invoice["id"]]:
            for charge in self._charges(invoice["customer"], part, by):
                number = f"{invoice['id'].replace('in_', 'il_')}_{len(lines) + 1}"
                lines.append(_line(number, invoice, part, *charge))
        invoice["lines"] = lines
        self._sum_up(invoice)

    def _charges(self, customer: str, part: Part, by: float | None) -> list[tuple[Decimal, int, Decimal | None, str]]:
        total = part.total
        if total is None:
            total = Decimal(0) if part.is_free else self.usage(part.price, customer, part.start, part.end, by)
        found = charges(part.price, total, part.before)
        if part.is_free:
            return [(sum((each.quantity for each in found), Decimal(0)), 0, None, "Trial period")]
        return [(each.quantity, each.amount, each.unit_amount, each.words) for each in found]

    def _sum_up(self, invoice: Json) -> None:
        invoice["subtotal"] = sum(line["amount"] for line in invoice["lines"])
        invoice["total"] = invoice["subtotal"] - sum(each["amount"] for each in invoice["total_pretax_credit_amounts"])
        invoice["amount_due"] = max(invoice["total"], 0)


def subscription_of(invoice: Json) -> str:
    return str(invoice["parent"]["subscription_details"]["subscription"])


def _line(
    number: str, invoice: Json, part: Part, quantity: Decimal, amount: int, unit: Decimal | None, words: str
) -> Json:
    product = part.price.get("product")
    return {
        "id": number,
        "object": "line_item",
        "amount": amount,
        "currency": invoice["currency"],
        "description": f"{quantity:f} x {product}" + (f" ({words})" if words else ""),
        "invoice": invoice["id"],
        "metadata": {},
        "parent": {
            "type": "subscription_item_details",
            "subscription_item_details": {
                "invoice_item": None,
                "proration": False,
                "subscription": subscription_of(invoice),
                "subscription_item": part.item["id"],
            },
        },
        "period": {"start": part.start, "end": part.end},
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": part.price["id"], "product": product},
            "unit_amount_decimal": None if unit is None else f"{unit:f}",
        },
        "quantity": int(quantity),
        "quantity_decimal": f"{quantity:f}",
        "subscription": subscription_of(invoice),
        "subtotal": amount,
    }


def is_metered(part: Part) -> bool:
    return usage_type(part.price) == "metered"
