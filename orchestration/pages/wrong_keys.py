"""Wrong keys by address, in memory: each one more than a few doubles the wait.

A good key opens at once, also while its address waits. Someone who tries wrong keys locks out no colleague at the same
proxy, and gains nothing: a key has 256 random bits. The wait is for scanners, and for pages left open with an old key.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

FREE = 5
"""Wrong keys of an address without a wait."""
MOST_SECONDS = 300
FORGOTTEN_AFTER = timedelta(hours=1)
ADDRESSES = 10_000
"""That are remembered; beyond them the ones that tried longest ago are forgotten."""


@dataclass(frozen=True)
class _Tries:
    count: int
    last_at: datetime
    wait_until: datetime


class WrongKeys:
    """One for a process; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def note(self, address: str, now: datetime) -> int:
        """Another wrong key; the seconds that this address has to wait, 0 for none. Tries in a wait do not count."""
        with self._lock:
            before = self._tries.get(address)
            if before and now < before.wait_until:
                return max(1, round((before.wait_until - now).total_seconds()))
            count = 1 if before is None or now - before.last_at > FORGOTTEN_AFTER else before.count + 1
            seconds = min(2 ** min(count - FREE, 20), MOST_SECONDS) if count > FREE else 0
            self._tries[address] = _Tries(count, now, now + timedelta(seconds=seconds))
            self._tries.move_to_end(address)
            if len(self._tries) > ADDRESSES:
                self._tries.popitem(last=False)
            return seconds
