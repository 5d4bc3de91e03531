"""The gate: one decision for each call. The middlewares for ASGI and WSGI, and the check for proxies, ask it.

A call is let through where the gate knows too little: no snapshot yet, a snapshot that is old, a subject without a
limit, an error of its own. `fail="closed"` changes the first two.
"""

import logging
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar, get_args

from headroom_gate import headers, policy
from headroom_gate.counters import Counter, LocalCounter
from headroom_gate.identify import Identify
from headroom_gate.metering import Events, Metering
from headroom_gate.policy import Answer, Decision, Question
from headroom_gate.reader import Limits
from headroom_gate.templates import Templates

logger = logging.getLogger("headroom_gate")
Request = TypeVar("Request")
"""An ASGI scope, or a WSGI environ."""
Found = TypeVar("Found")
Fail = Literal["open", "closed"]
MAX_AGE_SECONDS = 6 * 3600


class Gate:
    """Decides by the limits, counts in the counter, and reports to `events`."""

    def __init__(
        self,
        limits: Limits,
        *,
        counter: Counter | None = None,  # of this process alone
        events: Events | None = None,  # none: the API sends its events itself
        event: str = "api_call",
        endpoints: Iterable[str] = (),  # route templates without a weight, where no framework names the route
        fail: Fail = "open",
        max_age_seconds: float = MAX_AGE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """:raises ValueError: `fail` is neither open nor closed."""
        if fail not in get_args(Fail):
            raise ValueError(f"fail is {fail!r}. It may be {' or '.join(get_args(Fail))}")
        self.limits, self.counter = limits, counter or LocalCounter(clock)
        self.metering = Metering(events, event)
        self._decisions: Counts[str] = Counts()
        self._endpoints, self._is_closed = Templates(endpoints), fail == "closed"
        self._max_age_seconds, self._clock, self._lock = max_age_seconds, clock, threading.Lock()

    @property
    def decisions(self) -> dict[str, int]:
        """Calls by the reason of their decision."""
        with self._lock:
            return dict(self._decisions)

    def close(self) -> None:
        """Send the events that wait, and follow the limits no longer. It may take seconds."""
        self.limits.close()
        self.metering.close()

    def endpoint_of(self, path: str) -> str | None:
        """The route template of a path, of those with a weight and of those that the gate was given."""
        snapshot = self.limits.current
        return (snapshot.templates.match(path) if snapshot else None) or self._endpoints.match(path)

    def decide(self, subject: str, endpoint: str | None) -> Decision:
        """Whether a call may pass, from a thread; counted if it may. Never raises."""
        try:
            asked = self._ask(subject, endpoint)
            if isinstance(asked, Decision):
                return self._noted(asked)
            return self._settled(asked, self.counter.take(asked))
        except Exception:  # noqa: BLE001 - no fault of the gate is worth a failed request
            return self._failed()

    async def decide_async(self, subject: str, endpoint: str | None) -> Decision:
        """The same, from an event loop."""
        try:
            asked = self._ask(subject, endpoint)
            if isinstance(asked, Decision):
                return self._noted(asked)
            return self._settled(asked, await self.counter.take_async(asked))
        except Exception:  # noqa: BLE001 - no fault of the gate is worth a failed request
            return self._failed()

    def served(self, subject: str, decision: Decision, endpoint: str | None, status: int | None) -> None:
        """Report a call that was let through, before its answer leaves. `status` is the API's, None if not known."""
        self.metering.served(subject, decision, endpoint, status)

    def refused(self, subject: str, decision: Decision, endpoint: str | None) -> tuple[headers.Fields, bytes]:
        """Report a call that was refused. Returns the header fields and the body of its answer."""
        snapshot = self.limits.current
        meter, unit, usage_url = (snapshot.meter, snapshot.unit, snapshot.usage_url) if snapshot else (None, "", None)
        self.metering.refused(subject, decision, endpoint, meter)
        body = headers.problem(decision, unit, usage_url)
        fields = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
        return [*fields, ("Cache-Control", "no-store"), *self.fields(decision)], body

    def fields(self, decision: Decision) -> headers.Fields:
        """What the answer's header says of limits."""
        return headers.fields(decision, self._clock())

    def subject(self, identify: Identify, request: Any) -> str | None:
        """Who calls; None where nobody is named, or `identify` fails, and the call goes on uncounted."""
        found = self.read(identify, request)
        if not found:
            return None
        if isinstance(found, str):
            return found
        if not isinstance(found, list):
            logger.error("a call goes on uncounted: %r found %r, which is not a subject in text", identify, found)
            self._count("error")
            return None
        subjects: list[str] = found
        if len(subjects) == 1 or (snapshot := self.limits.current) is None:
            return subjects[0]
        now = self._clock()
        return next((each for each in subjects if snapshot.limit_of(snapshot.account_of(each, now), now)), subjects[0])

    def read(self, function: Callable[[Request], Found | None], request: Request) -> Found | None:
        """What a function of the API's owner reads from a request; None where it fails, and the call goes on."""
        try:
            return function(request)
        except Exception:
            logger.exception("a call goes on without what %r should have read", function)
            self._count("error")
            return None

    def _ask(self, subject: str, endpoint: str | None) -> Question | Decision:
        snapshot, now = self.limits.current, self._clock()
        if snapshot is None:
            return policy.missing(is_closed=self._is_closed)
        cost = snapshot.cost(endpoint, now)
        if now - snapshot.published_at > self._max_age_seconds and not self._is_closed:
            return Decision(True, "stale", cost=cost)
        if self.metering.event not in snapshot.events:
            return Decision(True, "other_meter", cost=cost)
        return policy.question(snapshot, snapshot.account_of(subject, now), cost, now)

    def _settled(self, asked: Question, answer: Answer) -> Decision:
        return self._noted(policy.settle(asked, answer, self._clock()))

    def _noted(self, decision: Decision) -> Decision:
        self._count(decision.reason)
        return decision

    def _count(self, reason: str) -> None:
        with self._lock:
            self._decisions[reason] += 1

    def _failed(self) -> Decision:
        logger.exception("the gate lets a call through because of an error of its own")
        return self._noted(Decision(True, "error"))
