"""Stripe's test clocks: a customer with one lives by its frozen time.

A clock that advances says `advancing` for as many looks as the fake is set to, and only then has done it: who
does not wait reads the invoices of before.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.fakes.stripe_billing import Timeline
from tests.fakes.stripe_calendar import boundary
from tests.fakes.stripe_store import Collection, Json, RefusedError, Request, known, missing, required
from tests.fakes.stripe_subscriptions import LIVE, interval

if TYPE_CHECKING:
    from tests.fakes.stripe import FakeStripe

KEPT = 30 * 86_400
"""How long a clock stays where nobody deletes it."""
FARTHEST = 2 * 366 * 86_400
"""Without a subscription."""
INTERVALS = 2
"""Of the shortest subscription, at most in one step."""


class TestClocks(Collection):
    __test__ = False

    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(stripe, "test_helpers.test_clock", "clock", permission="billing_clock")
        self.actions = {("POST", "advance"): self._advance}
        self.slow_looks = 1
        """How often a clock that advances is seen doing so."""
        self._looks: dict[str, int] = {}

    def call(self, request: Request, rest: list[str]) -> Json:
        if request.is_live:
            raise RefusedError("Test clocks can only be used in test mode.")
        if request.method == "GET" and len(rest) == 1:
            self._look(self.find(rest[0]))
        return super().call(request, rest)

    def find(self, number: str) -> Json:
        clock = super().find(number)
        if clock.get("deleted"):
            raise missing("test_clock", number)
        return clock

    def create(self, params: Json) -> Json:
        known(params, ["customer", "frozen_time", "name"])
        required(params, "frozen_time")
        customer = params.pop("customer", None)
        if customer and customer not in self.stripe.customers.objects:
            raise missing("customer", customer, "customer", 400)
        clock = self.add(
            frozen_time=params["frozen_time"],
            name=params.get("name"),
            deletes_after=self.stripe.now + KEPT,
            status="ready",
            status_details={},
        )
        if customer:
            self.stripe.customers.objects[customer]["test_clock"] = clock["id"]
        self.stripe.billing.timelines[clock["id"]] = Timeline(partial(clock.__getitem__, "frozen_time"))
        return clock

    def delete(self, number: str) -> Json:
        """With its customers and all that they have."""
        self.find(number)
        for subscription in self.stripe.subscriptions.objects.values():
            if subscription["test_clock"] == number and subscription["status"] != "canceled":
                self.stripe.subscriptions.cancel(subscription)
        for customer in list(self.stripe.customers.objects.values()):
            if customer.get("test_clock") == number:
                self.stripe.customers.delete(customer["id"])
        return super().delete(number)

    def change(self, stored: Json, params: Json) -> None:
        raise RefusedError("A test clock cannot be changed.")

    def _advance(self, request: Request, clock: Json) -> Json:
        known(request.params, ["expand", "frozen_time"])
        required(request.params, "frozen_time")
        until = request.params["frozen_time"]
        if clock["status"] != "ready":
            raise RefusedError("This test clock is advancing.", code="testmode_charges_only")
        if until <= clock["frozen_time"]:
            raise RefusedError("You can only advance a test clock forward in time.", param="frozen_time")
        if until > self._farthest(clock):
            text = "You cannot advance a test clock more than two intervals of its shortest subscription at once."
            raise RefusedError(text, param="frozen_time")
        clock |= {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": until}}}
        self._looks[clock["id"]] = self.slow_looks
        return self.shown(request, clock)

    def _farthest(self, clock: Json) -> int:
        now: int = clock["frozen_time"]
        prices = self.stripe.resources["/v1/prices"].objects  # type: ignore[attr-defined]
        ends = [
            boundary(now, interval(prices[item["price"]]), INTERVALS)
            for each in self.stripe.subscriptions.objects.values()
            if each["test_clock"] == clock["id"] and each["status"] in LIVE
            for item in each["items"]
        ]
        return min(ends, default=now + FARTHEST)

    def _look(self, clock: Json) -> None:
        if clock["status"] != "advancing":
            return
        if self._looks[clock["id"]]:
            self._looks[clock["id"]] -= 1
            return
        until = clock["status_details"]["advancing"]["target_frozen_time"]
        self.stripe.billing.advance(clock["id"], until)
        clock |= {"frozen_time": until, "status": "ready", "status_details": {}}
