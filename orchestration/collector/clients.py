"""All connections of one process: how many there may be, how long they may take, and how they end.

Deadlines are moments that are compared ten times a second, not timers: starting and stopping two timers for each
request costs more than looking at two thousand connections.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from email.utils import formatdate
from math import inf
from typing import Protocol

from orchestration.collector.app import Collector

EVICTED_SECONDS = 1.0
"""So long idle a connection may be closed to make room; one that was just opened sends its request in a moment."""
EXTRA_SECONDS = 2.0
"""For the first request of a connection above the limit: the room is kept free for probes and refusals."""
LINGER_SECONDS = 5.0
"""Without a byte from a client that has its last answer and has not closed; nginx waits as long."""
STOPPING_LINGER_SECONDS = 1.0


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
    idle: OrderedDict[Client, float] = field(default_factory=OrderedDict)
    """Those without a request, and since when; the longest idle first."""
    leaving: set[Client] = field(default_factory=set)
    """Those that have their last answer: they take no place."""
    is_stopping: bool = False
    now_seconds: float = 0.0
    """The loop's clock, a tenth of a second old at most: asking it costs more than it is worth here."""
    date: bytes = b""
    """The header line."""

    @property
    def is_full(self) -> bool:
        """Connections above the limit get 503 for events, and answers for probes."""
        return len(self.connections) - len(self.leaving) > self.max_connections

    @property
    def is_crowded(self) -> bool:
        """There is no room for an answer, either."""
        return len(self.connections) > 2 * self.max_connections

    def make_room(self) -> None:
        """Close the connection that is idle for longest, so that idle clients do not keep others out."""
        client, since_seconds = next(iter(self.idle.items()), (None, inf))
        if client is not None and self.now_seconds - since_seconds >= EVICTED_SECONDS:
            client.close_when_idle()

    def forget(self, client: Client) -> None:
        """It is closed."""
        self.connections.discard(client)
        self.leaving.discard(client)
        self.idle.pop(client, None)

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
