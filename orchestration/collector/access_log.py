"""One line for each request that brings events, and for each that is turned away. Probes and `/metrics` leave none.

No header, no query and no body is in a line, of keys only the name, and keys are cut out of the path. Lines are written
by a thread of their own: a reader of them that hangs holds no request.
"""

import json
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

MAX_WAITING = 100_000
"""Lines that were not taken yet. More are dropped, and counted."""
MAX_PATH = 200

Fields = dict[str, str | int | float]


class AccessLog:
    """Writes to standard output, as text or as JSON, a line a request."""

    def __init__(self, kind: str, stream: TextIO | None = None) -> None:
        self._format: Callable[[Fields], str] = _as_json if kind == "json" else _as_text
        self._stream = stream or sys.stdout
        self._waiting: deque[Fields] = deque()
        self._dropped = 0
        self._wakes = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def add(self, fields: Fields) -> None:
        """One request; `path` may be anything that a client sent."""
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(fields)
        self._wakes.set()

    def close(self, limit_seconds: float) -> None:
        """Write what waits."""
        self._is_closing = True
        self._wakes.set()
        self._thread.join(limit_seconds)

    def _run(self) -> None:
        while True:
            is_last = self._is_closing
            self._wakes.clear()
            taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
            dropped, self._dropped = self._dropped, 0
            if dropped:
                taken.append({"time": now(), "dropped": dropped})
            try:
                self._stream.write("".join(f"{self._format(fields)}\n" for fields in taken))
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody reads them any more
            if is_last:
                return
            if not self._waiting:
                self._wakes.wait()


def now() -> str:
    """A line's time."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def _as_json(fields: Fields) -> str:
    return json.dumps(fields)


def _as_text(fields: Fields) -> str:
    return " ".join(f"{name}={json.dumps(value) if _is_odd(value) else value}" for name, value in fields.items())


def _is_odd(value: str | float) -> bool:
    return isinstance(value, str) and (not value.isascii() or not value.isprintable() or any(c in value for c in ' "='))
