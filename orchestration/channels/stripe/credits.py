"""Stripe's billing credits, read: a customer's grants, and what is left of each. Nothing is changed."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import stripe

from orchestration.billing.catalog_rules import in_major
from orchestration.billing.credits import CreditGrant
from orchestration.billing.meter import StoppedError
from orchestration.channels.stripe.catalog import id_of
from orchestration.channels.stripe.client import connect, explained
from orchestration.settings import Settings

PAGE = 100
_AGAIN = "run again"


class StripeCredits:
    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client
        self.requests = 0

    def customers(self) -> set[str]:
        with explained("the credit grants", _AGAIN, StoppedError):
            asked: Any = {"limit": PAGE}
            found = set()
            for number, grant in enumerate(self._client.v1.billing.credit_grants.list(asked).auto_paging_iter()):
                self.requests += number % PAGE == 0
                if not grant.voided_at and grant.amount.monetary:
                    found.add(id_of(grant.customer))
            self.requests = max(self.requests, 1)
            return found

    def grants(self, customer: str) -> list[CreditGrant]:
        with explained(f"the credit of {customer}", _AGAIN, StoppedError):
            asked: Any = {"customer": customer, "limit": PAGE}
            self.requests += 1
            grants = [*self._client.v1.billing.credit_grants.list(asked).auto_paging_iter()]
            return [self._grant(customer, grant) for grant in grants if not grant.voided_at and grant.amount.monetary]

    def _grant(self, customer: str, grant: Any) -> CreditGrant:
        money = grant.amount.monetary
        return CreditGrant(
            id=grant.id,
            currency=money.currency,
            amount=in_major(money.value, money.currency),
            left=self._left(customer, grant),
            category=str(grant.category),
            priority=50 if grant.priority is None else grant.priority,
            effective_at=_moment(grant.effective_at or grant.created),
            expires_at=_moment(grant.expires_at) if grant.expires_at else None,
        )

    def _left(self, customer: str, grant: Any) -> Decimal:
        """The list does not have it: one request for each grant."""
        asked: Any = {"customer": customer, "filter": {"type": "credit_grant", "credit_grant": grant.id}}
        self.requests += 1
        found = self._client.v1.billing.credit_balance_summary.retrieve(asked)
        amounts = [balance.ledger_balance.monetary for balance in found.balances]
        return sum((in_major(each.value, each.currency) for each in amounts if each), Decimal(0))


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def configured(config: Settings) -> StripeCredits:
    """:raises ValueError: there is no key, or none that can be used."""
    client = connect(config)
    if client is None:
        raise ValueError("STRIPE_API_KEY is not set")
    return StripeCredits(client)
