"""One count for many gates, in Redis or Valkey: a call is one round trip, and one atomic script (counting.lua).

The seconds of the buckets are those of Redis's clock, so that gates need not agree on the time.

While Redis is away each gate counts on by itself, from the last count that it heard. What it lets through meanwhile it
reports as a running sum with its next calls. So a repeated report, or an answer that was lost, counts once.
"""

import asyncio
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from limits.storage import RedisStorage

from headroom_gate.counters import LocalCounter
from headroom_gate.policy import Answer, Outcome, Question
from headroom_gate.rates import Rate

logger = logging.getLogger("headroom_gate")
NO_RATE = Rate(0, 1)
KEPT_AFTER_PERIOD_SECONDS = 86_400
KEPT_WITHOUT_END_SECONDS = 400 * 86_400

SCRIPT = "\n".join(
    (
        "local function acquire(KEYS, ARGV)",
        RedisStorage.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode(),
        "end",
        files("headroom_gate").joinpath("counting.lua").read_text(encoding="utf-8"),
    )
)


class RedisCounter:
    """Counts in the Redis at `url`, such as redis://localhost:6379/0 or rediss://user:password@host:6380."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 0.25,  # a call waits so long at most, then the gate counts on by itself
        retry_seconds: float = 1.0,  # and tries Redis again after this
        max_connections: int = 50,  # of this process; more calls at once wait for one
        prefix: str = "headroom:gate",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options: dict[str, Any] = {
            **dict.fromkeys(("timeout", "socket_timeout", "socket_connect_timeout"), timeout_seconds),
            "max_connections": max_connections,
            "retry": None,  # the next call is a second try
        }
        self._url, self._retry_seconds, self._prefix = url, retry_seconds, prefix
        self._local = LocalCounter(clock)
        self._lock = threading.Lock()
        self.failures = 0
        """Calls for which Redis did not answer."""
        self.problem = ""
        """Why it did not answer last; empty while it does."""
        self._start_over()
        os.register_at_fork(after_in_child=self._start_over)

    def _start_over(self) -> None:
        self._token = secrets.token_hex(8)
        self._away_until = 0.0
        pool = redis.BlockingConnectionPool.from_url(self._url, **self._options)
        self._script = redis.Redis(connection_pool=pool).register_script(SCRIPT)
        self._async_scripts: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    @property
    def is_away(self) -> bool:
        """Whether Redis did not answer a moment ago."""
        return time.monotonic() < self._away_until

    async def aclose(self) -> None:
        """Close the connections of the event loop that runs, at its end."""
        if script := self._async_scripts.pop(asyncio.get_running_loop(), None):
            await script.registered_client.aclose()

    def take(self, question: Question) -> Answer:
        if not self._is_asked():
            return self._local.take(question)
        keys, arguments = self._call(question)
        try:
            return self._heard(question, self._script(keys=keys, args=arguments))
        except (redis.RedisError, OSError) as error:
            return self._unheard(question, error)

    async def take_async(self, question: Question) -> Answer:
        if not self._is_asked():
            return self._local.take(question)
        keys, arguments = self._call(question)
        try:
            return self._heard(question, await self._async_script()(keys=keys, args=arguments))
        except (redis.RedisError, OSError) as error:
            return self._unheard(question, error)
        except asyncio.CancelledError:
            if question.limit.quota is not None:
                self._local.count(question)  # Redis may have it: so it counts once, whether Redis does or not
            raise

    def _is_asked(self) -> bool:
        """Whether Redis answers, as far as is known; while it does not, one call in a while finds out."""
        if not self._away_until:
            return True
        with self._lock:
            if self.is_away:
                return False
            self._away_until = time.monotonic() + self._retry_seconds
            return True

    def _async_script(self) -> Any:
        """With connections of the event loop that runs: no other can use them."""
        loop = asyncio.get_running_loop()
        script = self._async_scripts.get(loop)
        if script is None:
            pool = redis.asyncio.BlockingConnectionPool.from_url(self._url, **self._options)
            client = redis.asyncio.Redis.from_pool(pool)
            script = self._async_scripts[loop] = client.register_script(SCRIPT)
        return script

    def _call(self, question: Question) -> tuple[list[str], list[Any]]:
        limit, rate = question.limit, question.rate or NO_RATE
        throttle = question.throttle or NO_RATE
        account = f"{self._prefix}:{{{limit.account_id}}}"  # in braces: all on one node of a cluster
        keys = [f"{account}:{limit.period_start}"]
        keys += [f"{account}:{each.amount}/{each.window_seconds}:{n}" for each in (rate, throttle) for n in (0, 1)]
        with self._local.lock:
            tally = self._local.tally(question)
            ever, own = tally.ever, tally.own
        if limit.resets_at is None:
            expire_at = question.published_at + KEPT_WITHOUT_END_SECONDS
        else:
            expire_at = limit.resets_at + KEPT_AFTER_PERIOD_SECONDS
        quota = "" if limit.quota is None else limit.quota
        counted = [question.published_at, limit.used, limit.through, ever, own, expire_at]
        rates = [rate.amount, rate.window_seconds, throttle.amount, throttle.window_seconds]
        gate = f"gate:{self._token}:{os.getpid()}"  # uWSGI forks without a word to Python
        return keys, [gate, question.cost, quota, int(question.is_hard), *counted, *rates]

    def _heard(self, question: Question, reply: list[int]) -> Answer:
        self._away_until, self.problem = 0.0, ""
        outcome, spent, is_first = Outcome(reply[0]), reply[1], bool(reply[2])
        if question.limit.quota is not None:
            self._local.learn(question, spent, is_allowed=outcome is Outcome.ALLOWED)
        return Answer(outcome, spent, is_first)

    def _unheard(self, question: Question, error: Exception) -> Answer:
        with self._lock:
            is_news, self.problem = not self.problem, str(error) or repr(error)
            self.failures += 1
            self._away_until = time.monotonic() + self._retry_seconds
        if is_news:
            logger.warning("Redis does not answer, so this process counts by itself: %s", self.problem)
        return self._local.take(question)
