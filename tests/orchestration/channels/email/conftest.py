"""A loopback mail server, and a desk that delivers to it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels.email.channel import EmailChannel
from orchestration.channels.email.vendor import VENDOR
from orchestration.ledger.ledger import Delivery, Ledger
from orchestration.ledger.outbox import DOUBT_WINDOW, Promise, deliver
from orchestration.messages.message import Message
from orchestration.messages.vendor import Target
from orchestration.settings import load
from tests.fakes.email import FakeEmail
from tests.support.builders import NOW

KEY = "local|digest|2026-11-20|mail"


class Desk:
    """A ledger, the channel as a route opens it, and a clock that tests move."""

    def __init__(self, folder: Path, server: FakeEmail) -> None:
        self.server, self.now = server, datetime.now(UTC)
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
        self.channel = self.open()

    def open(self, to: str | None = None, promise: Promise = Promise.EXACTLY_ONCE, **options: str) -> EmailChannel:
        options = {**self.server.options, **options}
        secrets = {"url": self.server.url}
        target = Target("mail", self.server.to if to is None else to, promise, secrets.get, options)
        channel = VENDOR.open(target, load())
        assert isinstance(channel, EmailChannel)
        return channel

    def prepare(self, message: Message, key: str = KEY, **payload: Any) -> None:
        drawn, replies = VENDOR.draw(message, "local", {})
        with self.ledger.transaction() as connection:
            self.ledger.prepare(connection, key, "email", {**drawn, **payload}, NOW, replies)

    def deliver(self, key: str = KEY) -> Delivery:
        return deliver(self.ledger, key, self.channel, lambda: self.now)

    def wait_for_the_doubt_to_end(self) -> None:
        self.now += DOUBT_WINDOW

    def stored(self, key: str = KEY, **fields: Any) -> Delivery:
        delivery = self.ledger.delivery(key)
        assert delivery
        return replace(delivery, **fields)


@pytest.fixture
def server() -> Iterator[FakeEmail]:
    with FakeEmail() as server:
        yield server


@pytest.fixture
def desk(data: Path, tmp_path: Path, server: FakeEmail) -> Iterator[Desk]:
    desk = Desk(tmp_path, server)
    desk.prepare(Message("digest|2026-11-20", "sales", "Usage digest", "1 account crossed 80 %"))
    yield desk
    desk.ledger.close()
