"""Metering: the events that a gate sends. Nothing that goes wrong here fails or delays a request.

`events` is anything with the snippet's `capture`: HeadroomEvents of headroom_events.py, or SpooledEvents of spool.py,
which survives the process.
"""

import logging
from typing import Protocol

from headroom_gate.policy import Decision

logger = logging.getLogger("headroom_gate")
REFUSED = "api_call_refused"
LIMIT_REACHED = "usage.limit_reached"


class Events(Protocol):
    """Takes an event and returns at once. Its id and time are those of the capture."""

    def capture(self, account_id: str, event: str = "api_call", **properties: object) -> None: ...


class Metering:
    """What becomes of a call, as events of its subject."""

    def __init__(self, events: Events | None, event: str) -> None:
        self._events, self.event = events, event
        self.failures = 0

    @property
    def dropped(self) -> int:
        """Events that were captured, and lost later."""
        return getattr(self._events, "dropped", 0)

    def close(self) -> None:
        """Send what waits, where the object of events can do that."""
        getattr(self._events, "close", bool)()

    def served(self, subject: str, decision: Decision, endpoint: str | None, status: int | None) -> None:
        """A call that the API answered, whatever the status: it counts."""
        self._capture(subject, self.event, endpoint, status=status, weight=decision.cost)

    def refused(self, subject: str, decision: Decision, endpoint: str | None, meter: str | None) -> None:
        """A call that the gate answered: it is in no meter, and is never billed."""
        self._capture(
            subject, REFUSED, endpoint, status=decision.status, refused_by=decision.reason, weight=decision.cost
        )
        asked = decision.question
        if decision.is_first and asked is not None:
            limit = asked.limit
            facts = {"metric": meter, "limit": limit.quota, "used": decision.spent, "plan": limit.plan}
            self._capture(subject, LIMIT_REACHED, None, **facts)

    def _capture(self, subject: str, event: str, endpoint: str | None, **properties: object) -> None:
        if self._events is None:
            return
        known = {name: value for name, value in {"endpoint": endpoint, **properties}.items() if value is not None}
        try:
            self._events.capture(subject, event=event, **known)
        except Exception:  # whatever an events object of others raises
            self.failures += 1
            logger.warning("an event was not captured", exc_info=True)
