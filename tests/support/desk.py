"""One message on its way to a vendor: the ledger, the channel as a route opens it, and a clock that tests move."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration.ledger.ledger import Delivery, Ledger
from orchestration.ledger.outbox import DOUBT_WINDOW, Promise, deliver, deliver_parts
from orchestration.messages.message import Line, Message, Section
from orchestration.messages.vendor import Target, Vendor
from orchestration.settings import load
from tests.fakes.loopback import Loopback

KEY = "local|weekly|2026-W47|crm"
ROUTE = "crm"


def make_message(lines: int = 2, **fields: Any) -> Message:
    """A message with one section of so many lines, each of another account."""
    listed = [Line(f"{n} of 100 calls used", owner_name="Ana", name=f"Acme {n}") for n in range(1, lines + 1)]
    sent = {
        "key": "weekly|2026-W47",
        "audience": "sales",
        "title": "Week 47",
        "headline": "2 accounts crossed a threshold.",
        "sections": [Section("Call first", listed)],
        "footer": ["Data through 07:58 UTC"],
    }
    return Message(**{**sent, **fields})


def make_line(**fields: Any) -> Line:
    return Line(**{"text": "98 of 100 calls used", "name": "Acme", **fields})


def target(fake: Loopback, promise: Promise, **fields: Any) -> Target:
    """That of a route to the vendor, with the secrets that point at it."""
    secrets = fake.environment(ROUTE)
    prefix = f"HEADROOM_ROUTE_{ROUTE.upper()}_"
    return Target(
        **{
            "route": ROUTE,
            "to": fake.to,
            "promise": promise,
            "secret": lambda name: secrets.get(f"{prefix}{name.upper()}"),
            **fields,
        }
    )


class Desk:
    """`promise` is the vendor's default where there is none."""

    def __init__(self, folder: Path, vendor: Vendor, fake: Loopback, promise: Promise | None = None) -> None:
        self.vendor, self.fake, self.now = vendor, fake, datetime.now(UTC)
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
        self.promise = promise or vendor.promises[0]
        self.open()

    def open(self, **fields: Any) -> None:
        """The channel as another run has it."""
        self.channel = self.vendor.open(target(self.fake, self.promise, **fields), load())

    def prepare(self, message: Message, users: Mapping[str, str] | None = None, key: str = KEY) -> None:
        self.freeze(*self.vendor.draw(message, "local", users or {}), key=key)

    def freeze(self, payload: dict[str, Any], replies: Sequence[dict[str, Any]] = (), key: str = KEY) -> None:
        with self.ledger.transaction() as connection:
            self.ledger.prepare(connection, key, self.vendor.title, payload, self.now, replies)

    def deliver(self, key: str = KEY) -> Delivery:
        return deliver(self.ledger, key, self.channel, lambda: self.now)

    def deliver_all(self, key: str = KEY) -> None:
        self.deliver(key)
        deliver_parts(self.ledger, key, self.channel, lambda: self.now)

    def delivery(self, key: str = KEY) -> Delivery:
        found = self.ledger.delivery(key)
        assert found
        return found

    def wait(self, span: timedelta = DOUBT_WINDOW) -> None:
        self.now += span
