"""What a channel has to bring: how it opens, what it draws, what it promises. Its folder in `channels/` has a `VENDOR`.

A message is decided once, as plain data. Each route has it drawn by its vendor and freezes the result in the ledger.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import Channel, Promise
from orchestration.messages.dispositions import Answer
from orchestration.messages.message import Message
from orchestration.settings import Settings
from orchestration.usage.findings import Finding

Payload = dict[str, Any]
Drawn = tuple[Payload, list[Payload]]
"""JSON-ready: what is sent, and the replies or further parts that follow it in order."""


@dataclass(frozen=True)
class Target:
    """Where a route sends to: its channel's settings, without the secrets."""

    route: str
    to: str
    """The address, as the channel has it; empty where a secret has it, such as the URL of a webhook."""
    promise: Promise
    secret: Callable[[str], str | None]
    """The secret of that name of this route: `url` is HEADROOM_ROUTE_<NAME>_URL."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the vendor lets a route set besides."""
    run_id: str = ""
    """The run that sends."""


@runtime_checkable
class Checked(Protocol):
    """A channel that says whether sending would succeed."""

    def check(self) -> list[Finding]:
        """Whether all that Headroom does there would succeed. Sends nothing."""


@runtime_checkable
class Mentioning(Protocol):
    """A channel that can call a person."""

    def user_id(self, email: str) -> str | None:
        """The user with that address, None where there is none.

        :raises RefusedError: the channel did not say.
        """


@runtime_checkable
class Linking(Protocol):
    """A channel whose messages have an address."""

    def permalink(self, delivery: Delivery) -> str:
        """The address of a message that was sent, for a browser.

        :raises RefusedError: the channel did not say.
        """


@runtime_checkable
class Answering(Protocol):
    """A channel whose messages people can answer, and that can be asked what they said."""

    def answers(self, delivery: Delivery) -> list[Answer]:
        """All reactions to a message that was sent and to the replies in its thread, and the texts of people there.

        :raises RefusedError: the channel did not say.
        """


@dataclass(frozen=True)
class Vendor:
    """A channel that routes may name."""

    title: str
    """What people call it."""
    promises: Sequence[Promise]
    """What a route may choose, its default first."""
    per_second: float
    """Messages that it takes, by its documentation."""
    open: Callable[[Target, Settings], Channel]
    """:raises ValueError: a secret or an address is missing or wrong; a sentence with the remedy."""
    draw: Callable[[Message, str, Mapping[str, str]], Drawn]
    """Message, environment, and the channel's users by e-mail address."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """What it needs, by name: what each is, for people."""
    optional: Mapping[str, str] = field(default_factory=dict)
    """What else it takes from the environment."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What a route may set besides, by name: what each is, for people."""
    address: str = ""
    """What `to` is there, for people; empty where a secret says it all."""
