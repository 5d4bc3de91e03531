"""The published copy, kept open for the many readers of a server.

A reader has the newest copy when it asks, and that one until it is done. An older copy is closed by its last reader, so
that a swap loses no request and waits for none.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from orchestration.warehouse import published_copy
from orchestration.warehouse.published_copy import KeptAnswers

LIMITS: dict[str, str | int] = {"memory_limit": "120MB", "threads": 2}
"""Of the engine: pages ask for few rows. What needs more memory goes to a folder beside the copy."""
MOST_SECONDS = 5.0
"""That a question may take. It is interrupted then: duckdb.InterruptException."""
_LOOK_SECONDS = 0.25


@dataclass
class _Open:
    version: str
    engine: duckdb.DuckDBPyConnection
    readers: int = 0
    idle: list[duckdb.DuckDBPyConnection] = field(default_factory=list)
    answers: KeptAnswers = field(default_factory=KeptAnswers)

    def close(self) -> None:
        for connection in (*self.idle, self.engine):
            connection.close()


class KeptCopy:
    """One for a process; threads share it."""

    def __init__(self, published: Path, most_seconds: float = MOST_SECONDS) -> None:
        self._published, self._most_seconds = published, most_seconds
        self._lock = threading.Lock()
        self._newest: _Open | None = None
        self._until: dict[int, tuple[float, duckdb.DuckDBPyConnection]] = {}
        self._watch: threading.Thread | None = None
        self._closed = threading.Event()

    @contextmanager
    def reading(self) -> Iterator[str]:
        """Queries inside are answered from one copy; its version, which changes with each build.

        :raises NothingPublishedError: nothing was built yet.
        :raises published_copy.LockedCopyError: another program writes it.
        :raises published_copy.UnreadableCopyError: it is not a DuckDB file.
        """
        opened, connection = self._taken()
        try:
            with published_copy.held(self._published, connection, opened.answers):
                yield opened.version
        finally:
            self._given_back(opened, connection)

    def version(self) -> str:
        """Of the copy that is published now.

        :raises NothingPublishedError: nothing was built yet.
        """
        return published_copy.version_of(self._published)

    def close(self) -> None:
        """Readers under way finish."""
        self._closed.set()
        with self._lock:
            opened, self._newest = self._newest, None
            if opened and not opened.readers:
                opened.close()

    def _taken(self) -> tuple[_Open, duckdb.DuckDBPyConnection]:
        with self._lock:
            opened = self._opened()
            connection = opened.idle.pop() if opened.idle else None
            if connection is None:
                connection = opened.engine.cursor()
                published_copy.use(connection, self._published)
            opened.readers += 1
            self._until[id(connection)] = time.monotonic() + self._most_seconds, connection
            if self._watch is None:
                self._watch = threading.Thread(target=self._interrupt_late_ones, daemon=True)
                self._watch.start()
        return opened, connection

    def _opened(self) -> _Open:
        """The newest copy. What is swapped in while it opens may be what was opened: the next reader opens it again."""
        version, newest = self.version(), self._newest
        if newest is None or newest.version != version:
            old, newest = newest, _Open(version, published_copy.attached(self._published, LIMITS))
            self._newest = newest
            if old and not old.readers:
                old.close()
        return newest

    def _given_back(self, opened: _Open, connection: duckdb.DuckDBPyConnection) -> None:
        with self._lock:
            del self._until[id(connection)]
            opened.readers -= 1
            opened.idle.append(connection)
            if opened is not self._newest and not opened.readers:
                opened.close()

    def _interrupt_late_ones(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            with self._lock:
                for until, connection in self._until.values():
                    if time.monotonic() > until:
                        connection.interrupt()
