"""The reader: keeps the newest snapshot that could be read, from a file or from `headroom pages`, in a thread.

A snapshot that is missing, damaged or of another version changes nothing: the one before stays in use, and grows old.
"""

import gzip
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from headroom_gate.parsing import SnapshotError, parse
from headroom_gate.snapshot import Snapshot

logger = logging.getLogger("headroom_gate")
WAIT_SECONDS = 30
"""How long `headroom pages` holds a question open until there is a newer snapshot."""


class Limits:
    """The snapshot in use. `source` is the path of limits.json, or the address of /v1/limits with a gate's key.

    The thread starts with the first call of `current` in each process, also after a fork.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        key: str = "",
        meter: str | None = None,  # the main one
        poll_seconds: float = 2.0,  # between two looks at a file, and between two questions that found nothing new
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source, self._key, self._meter = str(source), key.strip(), meter
        self._is_url = self._source.startswith(("http://", "https://"))
        self._poll_seconds, self._clock = poll_seconds, clock
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._snapshot: Snapshot | None = None
        self.problem = ""
        """What went wrong with the last look; empty if nothing."""
        self._version: object = None
        self._refused = ""
        """What is wrong with the snapshot of `_version`."""
        self._closed = threading.Event()
        self._start_over()
        os.register_at_fork(after_in_child=self._start_over)

    def _start_over(self) -> None:
        self._lock, self._pid = threading.Lock(), 0

    @property
    def current(self) -> Snapshot | None:
        """The newest snapshot that could be read; None before the first."""
        if self._pid != os.getpid():
            self._start()
        return self._snapshot

    def age_seconds(self) -> float | None:
        """Since the snapshot in use was published."""
        return None if self._snapshot is None else max(0.0, self._clock() - self._snapshot.published_at)

    def refresh(self, wait_seconds: int = 0) -> bool:
        """Look for a newer snapshot now; whether there is one. `problem` says what went wrong, if something did."""
        before = self._snapshot
        try:
            found = self._fetched(wait_seconds) if self._is_url else self._read()
            if found is not None:
                self._take(*found)
            problem = self._refused
        except Exception as error:  # noqa: BLE001 - without this thread the limits would grow old
            problem = str(error) or repr(error)
        if problem and problem != self.problem:
            logger.warning("the limits stay as they were: %s", problem)
        self.problem = problem
        return self._snapshot is not before

    def _take(self, version: object, text: str) -> None:
        """From now on only another version is read. Calls go by the snapshot before until the new one is complete."""
        try:
            self._snapshot, self._refused = parse(text, self._meter), ""
        except SnapshotError as error:
            self._refused = str(error)
        self._version = version

    def close(self) -> None:
        """End the thread, after its present look."""
        self._closed.set()

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid() or self._closed.is_set():
                return
            threading.Thread(target=self._run, name="headroom-limits", daemon=True).start()
            self._pid = os.getpid()

    def _run(self) -> None:
        while not self._closed.is_set():
            started = time.monotonic()
            self.refresh(WAIT_SECONDS if self._snapshot else 0)
            # a server that holds the question open has waited already
            self._closed.wait(max(0.1, self._poll_seconds - (time.monotonic() - started)))

    def _read(self) -> tuple[object, str] | None:
        path = Path(self._source)
        about = path.stat()
        version = about.st_mtime_ns, about.st_ino, about.st_size
        return None if version == self._version else (version, path.read_bytes().decode())

    def _fetched(self, wait_seconds: int) -> tuple[object, str] | None:
        headers = {"Authorization": f"Bearer {self._key}", "Accept-Encoding": "gzip"}
        if self._version:
            headers["If-None-Match"] = str(self._version)
        address = f"{self._source}{'&' if '?' in self._source else '?'}wait={wait_seconds}"
        request = urllib.request.Request(address if wait_seconds else self._source, headers=headers)  # noqa: S310
        try:
            with self._opener.open(request, timeout=wait_seconds + 10) as answer:
                raw: bytes = answer.read()
                is_packed = answer.headers.get("Content-Encoding") == "gzip"
                return answer.headers.get("ETag"), (gzip.decompress(raw) if is_packed else raw).decode()
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304:
                    return None
                raise OSError(f"{self._source} answers HTTP {error.code}") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes to the address that was given, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None
