"""Counters: the units of an account's period, from the snapshot on. What they decide is atomic.

`LocalCounter` counts in this process: for one process, and for a while without Redis. The count of many gates is in
redis_counter.py.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from headroom_gate.policy import Answer, Outcome, Question
from headroom_gate.rates import LocalRates


class Counter(Protocol):
    """Decides by the units so far, and adds the call's own if it is allowed: both at once."""

    def take(self, question: Question) -> Answer: ...

    async def take_async(self, question: Question) -> Answer: ...


def bucket(now: float, through: int) -> int:
    """The second under which a call is kept, until a snapshot counts it: after what the present snapshot counts.

    Seconds become coarser the older the snapshot is: 3,600 buckets for the first hour, 31,000 for a month.
    """
    width = max(1, int(now - through) // 3600)
    return max(int(now) // width * width, through + 1)


class Tally:
    """One account's period, as this process knows it."""

    __slots__ = ("_buckets", "_published_at", "elsewhere", "ever", "is_reached", "own", "through", "used")

    def __init__(self) -> None:
        self._published_at = -1
        self._buckets: dict[int, int] = {}
        self.used = self.through = 0
        self.own = 0
        """Units of this process that the snapshot does not count yet."""
        self.ever = 0
        """Units of this process in the whole period."""
        self.elsewhere = 0
        """Units that other gates counted after the snapshot, as far as this one has heard."""
        self.is_reached = False

    @property
    def spent(self) -> int:
        return self.used + self.own + self.elsewhere

    def follow(self, question: Question) -> None:
        """Take what a newer snapshot says in place of the units that it counts."""
        if question.published_at <= self._published_at:
            return
        limit = question.limit
        self._published_at, self.used, self.through = question.published_at, limit.used, limit.through
        self._buckets = {at: units for at, units in self._buckets.items() if at > limit.through}
        self.own, self.elsewhere = sum(self._buckets.values()), 0

    def add(self, cost: int, now: float) -> None:
        at = bucket(now, self.through)
        self._buckets[at] = self._buckets.get(at, 0) + cost
        self.own += cost
        self.ever += cost


class LocalCounter:
    """Counts in this process alone, exactly under threads and under asyncio. Times are those of `clock`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._start_over()
        os.register_at_fork(after_in_child=self._start_over)

    def _start_over(self) -> None:
        self.lock = threading.Lock()
        self._rates = LocalRates()
        self._tallies: dict[str, dict[int, Tally]] = {}

    def take(self, question: Question) -> Answer:
        with self.lock:
            tally = self.tally(question)
            spent = tally.spent
            if question.is_hard and question.is_over(spent):
                is_first, tally.is_reached = not tally.is_reached, True
                return Answer(Outcome.QUOTA, spent, is_first)
            rate = question.rate_at(spent)
            if rate and not self._rates.hit(question.limit.account_id, rate, question.cost):
                return Answer(Outcome.RATE, spent)
            if question.limit.quota is not None:
                tally.add(question.cost, self._clock())
            return Answer(Outcome.ALLOWED, tally.spent)

    async def take_async(self, question: Question) -> Answer:
        return self.take(question)

    def tally(self, question: Question) -> Tally:
        """That of the account's period. Hold `lock`. Two periods are kept, for a clock that jumps over their border."""
        limit = question.limit
        periods = self._tallies.setdefault(limit.account_id, {})
        tally = periods.get(limit.period_start)
        if tally is None:
            if len(periods) > 1:
                del periods[min(periods)]
            tally = periods[limit.period_start] = Tally()
        tally.follow(question)
        return tally

    def count(self, question: Question) -> None:
        """Add a call that was decided elsewhere."""
        with self.lock:
            self.tally(question).add(question.cost, self._clock())

    def learn(self, question: Question, spent: int, *, is_allowed: bool) -> None:
        """Follow what all gates together have counted."""
        with self.lock:
            tally = self.tally(question)
            if is_allowed:
                tally.add(question.cost, self._clock())
            tally.elsewhere = max(0, spent - tally.used - tally.own)
