"""What a rehearsal needs of the vendor's sandbox. The implementation is in channels/stripe/rehearsal.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Leftover:
    """The test clock of a rehearsal that was killed."""

    clock: str
    name: str
    created_at: datetime


@dataclass(frozen=True)
class RehearsedSubscription:
    id: str
    metered_item: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class RehearsedLine:
    id: str
    item: str
    start: datetime
    end: datetime
    quantity: int
    amount: int
    """In the currency's least unit."""
    currency: str


@dataclass(frozen=True)
class RehearsedInvoice:
    id: str
    is_draft: bool
    finalizes_at: datetime | None
    finalized_at: datetime | None
    lines: tuple[RehearsedLine, ...]


class Sandbox(Protocol):
    """Stripe with a test key. Every call raises RefusedError or StoppedError with a sentence where it fails."""

    def leftovers(self) -> list[Leftover]:
        """Test clocks of earlier rehearsals."""

    def start(self, at: datetime) -> str:
        """A test clock, frozen at that moment."""

    def customer(self, clock: str) -> str:
        """A customer who lives by the clock and can pay."""

    def subscribe(self, customer: str, prices: Sequence[str], metered: str) -> RehearsedSubscription:
        """A subscription on the prices; the metered one bounds its period."""

    def advance(self, clock: str, to: datetime) -> None:
        """Moves the clock, and waits until Stripe has done what comes of it."""

    def invoice(self, subscription: RehearsedSubscription) -> RehearsedInvoice | None:
        """The invoice with the usage of the subscription's period."""

    def delete(self, clock: str) -> None:
        """Deletes the clock, and with it all that lives by it."""
