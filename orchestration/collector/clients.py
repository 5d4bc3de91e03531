"""All connections of one process: how many there may be, how long they may take, and how they end.

Deadlines are moments that are compared ten times a second, not timers: starting and stopping two timers for each
request costs more than looking at two thousand connections.
"""

from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol

from orchestration.collector.app import Collector


class Client(Protocol):
    """What is asked of a connection here."""

    deadline_seconds: float

    def give_up(self) -> None:
        """The deadline has passed."""

    def close_when_idle(self) -> None:
        """Close after the answers that are still to come."""

    def abort(self) -> None:
        """Close without a word."""


@dataclass
class Clients:
    """The connections, and what bounds them."""

    collector: Collector
    max_connections: int
    request_seconds: float
    """For a whole request, from its first byte on; for the first byte of a connection; for taking an answer."""
    idle_seconds: float
    """Between two requests."""
    connections: set[Client] = field(default_factory=set)
    is_stopping: bool = False
    now_seconds: float = 0.0
    """The loop's clock, a tenth of a second old at most: asking it costs more than it is worth here."""
    date: bytes = b""
    """The header line."""

    @property
    def is_full(self) -> bool:
        """Those above the limit are told so, if there is room for that."""
        return len(self.connections) > self.max_connections

    @property
    def is_crowded(self) -> bool:
        return len(self.connections) > 2 * self.max_connections

    def tick(self, now_seconds: float) -> None:
        """Give up who is overdue."""
        self.now_seconds = now_seconds
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        for connection in list(self.connections):
            if now_seconds >= connection.deadline_seconds:
                connection.give_up()

    def stop(self) -> None:
        """Finish the requests under way, and close."""
        self.is_stopping = True
        for connection in list(self.connections):
            connection.close_when_idle()

    def abort(self) -> None:
        for connection in list(self.connections):
            connection.abort()
