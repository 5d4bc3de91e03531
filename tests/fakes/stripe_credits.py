"""Stripe's billing credits: grants, what is left of them, and their use by invoices of metered prices.

An invoice uses them when it becomes final, by priority, as documented. Chosen here: of the same priority the grant that
expires first is used first, then the oldest one; expired and used credit is left out of both balances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.stripe_store import Collection, Json, RefusedError, Request, known, missing, required

if TYPE_CHECKING:
    from tests.fakes.stripe import FakeStripe

PRIORITY = 50
FOREVER = float("inf")


class CreditGrants(Collection):
    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(
            stripe,
            "billing.credit_grant",
            "credgr",
            permission="credit_grant",
            filters=["customer"],
            defaults={
                "category": "paid",
                "expires_at": None,
                "name": None,
                "priority": PRIORITY,
                "test_clock": None,
                "voided_at": None,
            },
        )
        self.actions = {("POST", "expire"): self._expire, ("POST", "void"): self._void}
        self._left: dict[str, int] = {}

    def create(self, params: Json) -> Json:
        known(params, {*self.defaults, "amount", "applicability_config", "customer", "effective_at", "metadata"})
        required(params, "amount", "applicability_config", "customer")
        if not self.stripe.has_customer(params["customer"]):
            raise missing("customer", params["customer"], "customer", 400)
        money = params["amount"].get("monetary") or {}
        required(money, "currency", "value")
        if params["amount"].get("type") != "monetary" or not isinstance(money["value"], int) or money["value"] <= 0:
            raise RefusedError("Invalid amount: must be positive and monetary.", param="amount")
        clock = self.stripe.customers.objects[params["customer"]].get("test_clock")
        now = self.stripe.billing.now(clock)
        grant = super().create({"effective_at": now, **params, "test_clock": clock})
        grant |= {"created": now, "updated": now}
        self._left[grant["id"]] = money["value"]
        return grant

    def grant(self, customer: str, value: int, currency: str = "usd", **fields: Any) -> Json:
        """One that somebody made, for metered prices."""
        return self.create(
            {
                "customer": customer,
                "amount": {"type": "monetary", "monetary": {"currency": currency, "value": value}},
                "applicability_config": {"scope": {"price_type": "metered"}},
                **fields,
            }
        )

    def usable(self, customer: str, currency: str, at: int) -> list[Json]:
        """Grants with something left, in the order of their use."""
        found = [
            each
            for each in self.objects.values()
            if (each["customer"], each["amount"]["monetary"]["currency"]) == (customer, currency)
            and each["effective_at"] <= at < (each["expires_at"] or FOREVER)
            and not each["voided_at"]
            and self._left[each["id"]]
        ]
        return sorted(found, key=lambda each: (each["priority"], each["expires_at"] or FOREVER, each["effective_at"]))

    def left(self, grant: Json) -> int:
        return self._left[grant["id"]]

    def apply(self, invoice: Json, at: int) -> None:
        """Takes from the customer's credit what the metered lines cost."""
        for grant in self.usable(invoice["customer"], invoice["currency"], at):
            for line in invoice["lines"]:
                due = line["amount"] - sum(each["amount"] for each in line["pretax_credit_amounts"])
                used = min(due, self._left[grant["id"]])
                if used > 0 and self._covers(grant, line):
                    self._left[grant["id"]] -= used
                    use = {"amount": used, "type": "credit_balance_transaction", "credit_balance_transaction": None}
                    use["credit_balance_transaction"] = f"cbtxn_{self.stripe.next_number()}"
                    line["pretax_credit_amounts"].append(use)
                    invoice["total_pretax_credit_amounts"].append(use)

    def _covers(self, grant: Json, line: Json) -> bool:
        number = line["pricing"]["price_details"]["price"]
        price = self.stripe.resources["/v1/prices"].objects[number]  # type: ignore[attr-defined]
        scope = grant["applicability_config"]["scope"]
        named = [each["id"] for each in scope.get("prices") or ()]
        return bool((price.get("recurring") or {}).get("meter")) and (not named or number in named)

    def _expire(self, request: Request, grant: Json) -> Json:
        grant["expires_at"] = self.stripe.billing.now(grant["test_clock"])
        return self.shown(request, grant)

    def _void(self, request: Request, grant: Json) -> Json:
        if self._left[grant["id"]] != grant["amount"]["monetary"]["value"]:
            raise RefusedError("A credit grant that was used cannot be voided.")
        grant["voided_at"] = self.stripe.billing.now(grant["test_clock"])
        return self.shown(request, grant)


class CreditBalance:
    """`GET /v1/billing/credit_balance_summary`: what is left, by currency."""

    permission = "credit_grant"

    def __init__(self, stripe: FakeStripe) -> None:
        self.stripe = stripe

    def call(self, request: Request, rest: list[str]) -> Json:
        params = request.params
        known(params, ["customer", "expand", "filter"])
        required(params, "customer", "filter")
        if not self.stripe.has_customer(params["customer"]):
            raise missing("customer", params["customer"], "customer", 400)
        asked = params["filter"]
        now = self.stripe.billing.now(self.stripe.customers.objects[params["customer"]].get("test_clock"))
        held = self.stripe.credits
        grants = [each for each in held.objects.values() if each["customer"] == params["customer"]]
        if asked.get("type") == "credit_grant":
            grants = [each for each in grants if each["id"] == asked.get("credit_grant")]
        elif asked.get("type") != "applicability_scope":
            raise RefusedError("Invalid filter: type must be applicability_scope or credit_grant.", param="filter")
        balances = []
        for currency in sorted({each["amount"]["monetary"]["currency"] for each in grants}):
            usable = [each for each in held.usable(params["customer"], currency, now) if each in grants]
            amount = {
                "type": "monetary",
                "monetary": {"currency": currency, "value": sum(map(held.left, usable))},
            }
            balances.append({"available_balance": amount, "ledger_balance": amount})
        return {
            "object": "billing.credit_balance_summary",
            "balances": balances,
            "customer": params["customer"],
            "livemode": request.is_live,
        }
