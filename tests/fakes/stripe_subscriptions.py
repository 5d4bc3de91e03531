"""Stripe's subscriptions: what they have, and how they are made, changed and canceled. Their periods are in
stripe_billing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tests.fakes.stripe_calendar import Interval, period
from tests.fakes.stripe_store import (
    Collection,
    Json,
    RefusedError,
    Request,
    is_within,
    known,
    missing,
    paged,
    required,
)

if TYPE_CHECKING:
    from tests.fakes.stripe import FakeStripe

LIVE = ("active", "past_due", "trialing", "unpaid")
"""States in which periods end and are invoiced."""
PERIOD_BOUNDS: dict[str, Callable[[Iterable[int]], int]] = {"current_period_start": max, "current_period_end": min}
"""Filters of a list, and which of a subscription's items they look at."""
EMBEDDED = 10
"""Objects of a list within another object, at most; the others are on the next pages."""
DAY = 86_400
CREATED = {
    "backdate_start_date",
    "billing_cycle_anchor",
    "billing_thresholds",
    "cancel_at",
    "cancel_at_period_end",
    "collection_method",
    "currency",
    "customer",
    "description",
    "items",
    "metadata",
    "payment_behavior",
    "proration_behavior",
    "trial_end",
    "trial_period_days",
}
CHANGED = {"billing_thresholds", "cancel_at", "cancel_at_period_end", "description", "metadata"}


class Subscriptions(Collection):
    """With items as a list of their own, and the whole price in each. Canceled ones are listed only where asked for."""

    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(
            stripe,
            "subscription",
            "sub",
            filters=["customer", "price", "status", "test_clock", *PERIOD_BOUNDS],
            defaults={
                "billing_thresholds": None,
                "cancel_at": None,
                "cancel_at_period_end": False,
                "canceled_at": None,
                "collection_method": "charge_automatically",
                "ended_at": None,
                "status": "active",
                "test_clock": None,
                "trial_end": None,
                "trial_start": None,
            },
        )

    def call(self, request: Request, rest: list[str]) -> Json:
        if request.method == "DELETE" and len(rest) == 1:
            known(request.params, ["cancellation_details", "expand", "invoice_now", "prorate"])
            stored = self.find(rest[0])
            self.cancel(stored, is_invoiced=request.params.get("invoice_now", False))
            return self.shown(request, stored)
        return super().call(request, rest)

    def create(self, params: Json) -> Json:
        known(params, CREATED)
        required(params, "customer", "items")
        customer = self.stripe.customers.objects.get(params["customer"])
        if not customer or customer.get("deleted"):
            raise missing("customer", params["customer"], "customer", 400)
        now = self.stripe.billing.now(customer.get("test_clock"))
        start = params.get("backdate_start_date", now)
        trial_end = params.get("trial_end")
        if days := params.get("trial_period_days"):
            trial_end = now + days * DAY
        for name in ("trial_end", "billing_cycle_anchor", "cancel_at"):
            if isinstance(params.get(name), int) and params[name] <= now:
                raise RefusedError(f"The {name} must be in the future.", param=name)
        if start > now:
            raise RefusedError("The backdate_start_date must be in the past.", param="backdate_start_date")
        stored = self.make(
            params["customer"],
            [(item.get("price"), item.get("quantity")) for item in params["items"]],
            anchor=params.get("billing_cycle_anchor") or trial_end or start,
            start=start,
            trial_end=trial_end,
            **{name: params[name] for name in CHANGED & params.keys() - {"billing_thresholds"}},
            billing_thresholds=_thresholds(params.get("billing_thresholds")),
        )
        self.stripe.billing.begin(stored, start, is_new=True)
        return stored

    def make(
        self,
        customer: str,
        prices: Sequence[tuple[Any, int | None]],
        *,
        anchor: int,
        start: int,
        trial_end: int | None = None,
        **fields: Any,
    ) -> Json:
        """Checked items, and the fields of a subscription; its periods do not begin yet."""
        found: Any = self.stripe.resources["/v1/prices"]
        clock = self.stripe.customers.objects.get(customer, {}).get("test_clock")
        items = []
        for number, quantity in prices:
            if number not in found.objects:
                raise missing("price", str(number), "items", 400)
            is_metered = usage_type(found.objects[number]) == "metered"
            if is_metered and quantity is not None:
                raise RefusedError("Quantity should not be specified where usage_type is `metered`.", param="items")
            items.append(
                {
                    "id": f"si_{self.stripe.next_number()}",
                    "created": start,
                    "metadata": {},
                    "price": number,
                    **({} if is_metered else {"quantity": quantity or 1}),
                }
            )
        if len({interval(found.objects[item["price"]]) for item in items}) > 1:
            raise RefusedError("All prices of a subscription must have the same billing interval.", param="items")
        if trial_end is not None:
            fields = {"status": "trialing", "trial_start": start, "trial_end": trial_end, **fields}
        first = found.objects[items[0]["price"]]
        begin, end = period(anchor, interval(first), max(start, self.stripe.billing.now(clock)))
        for item in items:
            item |= {"current_period_start": begin, "current_period_end": end}
        return self.add(
            customer=customer,
            billing_cycle_anchor=anchor,
            created=start,
            currency=first.get("currency"),
            items=items,
            start_date=start,
            test_clock=clock,
            **fields,
        )

    def change(self, stored: Json, params: Json) -> None:
        known(params, CHANGED)
        if stored["status"] == "canceled":
            raise RefusedError("A canceled subscription can only update its cancellation_details and metadata.")
        if "billing_thresholds" in params:
            params["billing_thresholds"] = _thresholds(params["billing_thresholds"])
        super().change(stored, params)
        now = self.stripe.billing.now(stored["test_clock"])
        if params.keys() & {"cancel_at", "cancel_at_period_end"}:
            is_ending = stored["cancel_at_period_end"] or stored["cancel_at"]
            stored["canceled_at"] = now if is_ending else None
            if "cancel_at_period_end" in params:
                ends = [item["current_period_end"] for item in stored["items"]]
                stored["cancel_at"] = min(ends) if params["cancel_at_period_end"] else None
        self.stripe.billing.watch(stored)

    def cancel(self, stored: Json, *, is_invoiced: bool = False) -> None:
        """At once. Its usage that was not invoiced is lost, or comes on a last invoice."""
        if stored["status"] == "canceled":
            raise missing("subscription", stored["id"])
        self.stripe.billing.cancel(stored, is_invoiced=is_invoiced)

    def matches(self, stored: Json, params: Json) -> bool:
        rest = {name: value for name, value in params.items() if name not in ("price", "status", *PERIOD_BOUNDS)}
        for name, pick in PERIOD_BOUNDS.items():
            if name in params and not is_within(pick(item[name] for item in stored["items"]), params[name]):
                return False
        if not is_listed(stored, params) or not super().matches(stored, rest):
            return False
        if "price" in params and all(item["price"] != params["price"] for item in stored["items"]):
            return False
        status = params.get("status")
        return status == "all" or stored["status"] == status or (status is None and stored["status"] != "canceled")

    def shown(self, request: Request, stored: Json) -> Json:
        embedded = Request(request.method, "/v1/subscription_items", {"limit": EMBEDDED}, request.key)
        return {**super().shown(request, stored), "items": self.items(embedded, stored)}

    def items(self, request: Request, stored: Json) -> Json:
        """A page of the items. Its address names the subscription, as the next page has to."""
        prices: Any = self.stripe.resources["/v1/prices"]
        plain = Request(request.method, request.path, key=request.key)
        found = [
            {
                **item,
                "object": "subscription_item",
                "price": prices.shown(plain, prices.find(item["price"])),
                "subscription": stored["id"],
            }
            for item in stored["items"]
        ]
        return {**paged(found, request), "url": f"{request.path}?subscription={stored['id']}"}


class Items:
    """`GET /v1/subscription_items`: the items of one subscription."""

    permission = "subscription"

    def __init__(self, stripe: FakeStripe) -> None:
        self.stripe = stripe

    def call(self, request: Request, rest: list[str]) -> Json:
        required(request.params, "subscription")
        subscriptions = self.stripe.subscriptions
        return subscriptions.items(request, subscriptions.find(request.params["subscription"]))


def is_listed(stored: Json, params: Json) -> bool:
    """What has a test clock is listed only where it is asked for by that, by its customer or by its subscription."""
    return not stored.get("test_clock") or bool(params.keys() & {"customer", "subscription", "test_clock"})


def interval(price: Json) -> Interval:
    recurring = price.get("recurring") or {}
    return recurring.get("interval", "month"), int(recurring.get("interval_count", 1))


def usage_type(price: Json) -> str:
    return str((price.get("recurring") or {}).get("usage_type", "licensed"))


def _thresholds(asked: Any) -> Json | None:
    if not asked:
        return None
    known(asked, ["amount_gte", "reset_billing_cycle_anchor"])
    return {"amount_gte": None, "reset_billing_cycle_anchor": False, **asked}
