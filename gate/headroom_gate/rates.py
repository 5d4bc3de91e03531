"""Rates: how many units a plan lets through in how many seconds. The window slides, by the library `limits`.

Not here: which rate is for which call (policy.py), and the script that applies a rate in Redis (redis_counter.py).
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

LONGEST_WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` units in `window_seconds`, both at least 1."""

    amount: int
    window_seconds: int

    def units(self, cost: int) -> int:
        """What a call takes of the rate: its cost. One that costs more than the whole rate takes all of it."""
        return min(cost, self.amount)


def per_second(text: str) -> Rate:
    """The rate of a number such as 20, 2.5 (5 in 2 seconds) or 0.1 (1 in 10 seconds). The window is a minute at most.

    :raises ValueError: it is not a number above 0.
    """
    exact = Fraction(text)
    if exact <= 0:
        raise ValueError(f"{text} is not above 0")
    near = exact.limit_denominator(LONGEST_WINDOW_SECONDS) or Fraction(1, LONGEST_WINDOW_SECONDS)
    return Rate(near.numerator, near.denominator)


class LocalRates:
    """Rates within this process. Not safe between threads: the counter that owns it has the lock."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._items: dict[Rate, RateLimitItemPerSecond] = {}

    def hit(self, account_id: str, rate: Rate, cost: int) -> bool:
        """Take units of the rate; False, and nothing is taken, if that is too fast."""
        item = self._items.get(rate)
        if item is None:
            item = self._items[rate] = RateLimitItemPerSecond(rate.amount, rate.window_seconds, "gate")
        return self._limiter.hit(item, account_id, cost=rate.units(cost))


def seconds_until(moment: float | None, now: float) -> int:
    """Whole seconds, rounded up, at least 1; 1 if there is no moment."""
    return 1 if moment is None else max(1, math.ceil(moment - now))
