"""Adding a channel is one folder, one registration and one row in the docs: here a pigeon post, which nothing else in
the program knows.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestration.channels import vendors
from orchestration.ledger.ledger import Delivery, State
from orchestration.ledger.outbox import DOUBT_WINDOW, Channel, InDoubtError, Promise, RefusedError, deliver_parts
from orchestration.messages.message import Message
from orchestration.messages.vendor import Drawn, Target, Vendor
from orchestration.settings import PROJECT_ROOT, Settings
from tests.support import posting

KEY = "message-end"


@dataclass
class PigeonPost:
    """Its pigeons carry one payload each; the dovecote knows which have arrived."""

    target: Target
    arrived: list[tuple[str, str, Any]] = field(default_factory=list)
    """Address, mark and payload."""
    trouble: list[Exception] = field(default_factory=list)
    """What the next pigeons meet after they have arrived."""
    name: str = "Pigeon post"
    is_preview: bool = False
    promise: Promise = Promise.EXACTLY_ONCE

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        return str(delivery.payload.get("to") or self.target.to)

    def send(self, delivery: Delivery) -> str:
        self.arrived.append((str(delivery.address), delivery.mark, delivery.payload))
        if self.trouble:
            raise self.trouble.pop()
        return delivery.mark

    def find(self, delivery: Delivery) -> str | None:
        return next((mark for _, mark, _ in self.arrived if mark == delivery.mark), None)


def draw(message: Message, env: str, mentions: Any) -> Drawn:
    return {"title": message.title}, [{"line": line} for line in message.lines]


@pytest.fixture
def dovecote(monkeypatch: pytest.MonkeyPatch) -> list[PigeonPost]:
    """What was opened. The one registration is the name; the folder is its module."""
    opened: list[PigeonPost] = []

    def open_channel(target: Target, config: Settings) -> Channel:
        if not target.secret("grain"):
            raise ValueError(f"route {target.route} needs grain: see docs/messages/routes.md")
        opened.append(PigeonPost(target, opened[0].arrived if opened else [], opened[0].trouble if opened else []))
        return opened[-1]

    module = ModuleType("orchestration.channels.pigeon.vendor")
    module.VENDOR = Vendor(  # type: ignore[attr-defined]
        title="Pigeon post",
        promises=(Promise.EXACTLY_ONCE,),
        per_second=0.01,
        open=open_channel,
        draw=draw,
        secrets={"grain": "what the pigeons eat"},
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(vendors, "NAMES", (*vendors.NAMES, "pigeon"))
    monkeypatch.setenv("HEADROOM_ROUTE_ON_CALL_GRAIN", "wheat")
    return opened


def test_new_channel_delivers_through_the_same_outbox(dovecote: list[PigeonPost], tmp_path: Path) -> None:
    with posting.opened(tmp_path, "pigeon", Promise.EXACTLY_ONCE, "the tower") as desk:
        desk.prepare(KEY)
        desk.open()
        dovecote[0].trouble.append(InDoubtError("the pigeon did not come back"))
        with pytest.raises(InDoubtError):
            desk.deliver(KEY)

        desk.to = "another tower"
        assert desk.bring_to_its_end(KEY).state is State.SENT
        deliver_parts(desk.ledger, KEY, desk.open(), lambda: desk.now)

    assert [(to, mark) for to, mark, _ in dovecote[0].arrived[:2]] == [
        ("the tower", KEY),
        ("another tower", f"{KEY}:1"),
    ]
    assert dovecote[0].arrived[0][2] == {"title": f"Hard quota alert {KEY}"}
    assert dovecote[0].arrived[1][2] == {"line": f"{KEY} is out of quota"}


def test_new_channel_refuses_and_forgets_nothing(dovecote: list[PigeonPost], tmp_path: Path) -> None:
    with posting.opened(tmp_path, "pigeon", Promise.EXACTLY_ONCE, "the tower") as desk:
        desk.prepare(KEY)
        desk.open()
        dovecote[0].trouble.append(RefusedError("it rains: run again"))
        with pytest.raises(RefusedError, match="it rains"):
            desk.deliver(KEY)
        desk.now += DOUBT_WINDOW

        assert desk.delivery(KEY).error == "it rains: run again"
        assert desk.bring_to_its_end(KEY).state is State.SENT


def test_new_channel_says_what_it_needs(
    dovecote: list[PigeonPost], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADROOM_ROUTE_ON_CALL_GRAIN")
    with (
        posting.opened(tmp_path, "pigeon", Promise.EXACTLY_ONCE, "the tower") as desk,
        pytest.raises(ValueError, match="route on-call needs grain"),
    ):
        desk.open()


@pytest.mark.parametrize("name", ["pigeon", "stripe", "postgres", "..", ""])
def test_what_is_not_registered_is_no_channel(name: str) -> None:
    with pytest.raises(KeyError):
        vendors.vendor(name)


@pytest.mark.parametrize("name", vendors.NAMES)
def test_every_channel_has_a_row_in_the_docs(name: str) -> None:
    page = (PROJECT_ROOT / "docs/messages/routes.md").read_text()
    [row] = [line for line in page.splitlines() if f"| `{name}` |" in line]
    vendor = vendors.vendor(name)

    assert all(f"`{secret}`" in row for secret in vendor.secrets)
    assert all(f"`{promise}`" in row for promise in vendor.promises) or (
        vendor.promises[0] is Promise.EXACTLY_ONCE and "exactly once" in row
    )
