"""Send usage events to Headroom without ever slowing a request down. Copy this file: Python 3.9+, nothing to install.

    headroom = HeadroomEvents("https://headroom.example.com/v1/analytics/my-api/", os.environ["HEADROOM_KEY"])
    headroom.capture("acme", endpoint="/v1/search", status=200)  # returns at once, never raises
    headroom.capture("acme", event="quota_set", api_quota_monthly=100_000)
    print(headroom.dropped, headroom.problem)  # what got lost, and what went wrong last
    headroom.close(timeout_seconds=5)  # waits so long at most

Each event gets its id and time when it is captured, so that a repeated request counts once.

`close` runs by itself when Python exits, and when a child of multiprocessing does. A signal may end a process without
that, so uvicorn, uWSGI and Celery need a hook. Examples for FastAPI, Django, Flask and Celery are in examples/. A pool
of multiprocessing kills its children at the end of `with`: call its close() and join() before.
"""

# ruff: noqa: BLE001, S310, S311, UP017
from __future__ import annotations

import atexit
import itertools
import json
import logging
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import deque
from datetime import datetime, timezone
from http.client import HTTPException

logger = logging.getLogger("headroom")
_REFUSED_FOR_GOOD = (400, 413, 415, 422)  # the events are at fault; any other refusal is of the key or the address


class HeadroomEvents:
    """Queues events, and sends them in batches from a thread of its own. One for each process is enough."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        batch_size: int = 500,
        max_age_seconds: float = 1.0,
        queue_size: int = 10_000,
        refused_seconds: float = 900.0,  # how long a wrong key or address may last: while a key is changed, say
    ) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {key.strip()}", "Content-Type": "application/json"}
        self._batch_size, self._max_age_seconds, self._queue_size = batch_size, max_age_seconds, queue_size
        self._refused_seconds = refused_seconds
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._start_over()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_over)

    def _start_over(self) -> None:
        """Begin with an empty queue: after a fork, thread and events stay with the parent."""
        self._forking = threading.Lock()
        self.dropped = 0  # events that were not, or not for certain, received
        self.problem = ""  # what went wrong last
        self._reported = 0  # of the dropped ones
        self._report: tuple[bytes, int] | None = None  # the line that says how many more, and that number
        self._refused_at: float | None = None
        self._queue: deque[bytes] = deque()
        self._in_flight = self._hurrying = 0
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._pid = os.getpid()

    def _notice_fork(self) -> None:
        """uWSGI forks without a word to Python."""
        if self._pid != os.getpid():
            with self._forking:
                if self._pid != os.getpid():
                    self._start_over()

    def capture(self, account_id: str, event: str = "api_call", **properties: object) -> None:
        """Queue an event. If the queue is full, or the event cannot be written as JSON, it is dropped and counted."""
        try:
            self._notice_fork()
            line = _line(event, {"account_id": account_id, **properties})
            with self._changed:
                if self._closing.is_set() or len(self._queue) >= self._queue_size:
                    self.dropped += 1
                    self.problem = self.problem or "captured after close(), or faster than the collector takes it"
                    return
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="headroom", daemon=True)
                    thread.start()
                    self._thread = thread
                    self._close_at_exit()
                self._queue.append(line)
                if len(self._queue) in (1, self._batch_size):
                    self._changed.notify_all()
        except Exception as error:  # nothing that goes wrong here is worth a failed request
            self._drop(1, repr(error))

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until everything is sent (or dropped); False if that takes longer."""
        self._notice_fork()
        with self._changed:
            self._hurrying += 1
            self._changed.notify_all()
            is_done = self._changed.wait_for(lambda: not self._queue and not self._in_flight, timeout_seconds)
            self._hurrying -= 1
            return is_done

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send what is left, for so long at most; the rest is dropped. Later captures are dropped too."""
        self._notice_fork()
        self._closing.set()
        if not self.flush(timeout_seconds):
            self._given_up.set()
            with self._changed:
                left = len(self._queue) + self._in_flight
                self._queue.clear()
                self._in_flight = 0
            self._drop(left, f"closed before they could be sent; {self.problem}")

    def _close_at_exit(self) -> None:
        """A child of multiprocessing ends without atexit."""
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.parent_process() is not None:
            sys.modules["multiprocessing.util"].Finalize(None, self.close, exitpriority=100)
        uwsgi = sys.modules.get("uwsgi")
        if uwsgi is not None and not (uwsgi.opt.get("enable-threads") or uwsgi.opt.get("threads")):
            logger.warning("uWSGI may stop the thread that sends events: set enable-threads")

    def _run(self) -> None:
        while not self._given_up.is_set():
            with self._changed:
                self._in_flight = 0
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue)
                self._changed.wait_for(
                    lambda: len(self._queue) >= self._batch_size or self._hurrying, self._max_age_seconds
                )
                batch = [self._queue.popleft() for _ in range(min(self._batch_size, len(self._queue)))]
                self._in_flight = len(batch)
                unreported = self.dropped - self._reported
                self._report = None
                if unreported:
                    line = _line("events_dropped", {"dropped": unreported, "problem": self.problem})
                    self._report = line, unreported
                    batch.append(line)
            try:
                self._send(batch)
            except Exception as error:  # a URL or key that no request can be made of
                self._give_up(batch, repr(error))

    def _send(self, batch: list[bytes]) -> None:
        """Send until it is received or refused; as long as the collector is away, only the queue fills up."""
        for attempt in itertools.count():
            status, problem, wait_seconds = self._post(b"[" + b",".join(batch) + b"]")
            if self._given_up.is_set():
                break
            if 200 <= status < 300:
                self._refused_at = None
                if self._report is not None and self._report[0] in batch:
                    self._reported += self._report[1]
                break
            self.problem = problem
            if status == 413 and len(batch) > 1:
                self._send(batch[: len(batch) // 2])
                self._send(batch[len(batch) // 2 :])
                break
            is_refused = status < 500 and status not in (0, 408, 429)
            if is_refused and (status in _REFUSED_FOR_GOOD or self._refused_for_seconds() >= self._refused_seconds):
                self._give_up(batch, problem)
                break
            if attempt:
                logger.warning("%d events wait, %d were dropped: %s", len(batch), self.dropped, problem)
            if self._closing.is_set():
                time.sleep(0.1)
            else:
                backoff_seconds = min(30.0, 0.25 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)
                self._closing.wait(backoff_seconds if wait_seconds is None else wait_seconds)

    def _post(self, body: bytes) -> tuple[int, str, float | None]:
        """The answer's status, or 0 if there was none; what went wrong; its Retry-After in seconds."""
        try:
            request = urllib.request.Request(self._url, body, self._headers)
            with self._opener.open(request, timeout=10) as answer:
                return answer.status, "", None
        except urllib.error.HTTPError as error:
            with error:
                wait = error.headers.get("Retry-After", "")
                wait_seconds = min(60.0, float(wait)) if wait.isdigit() else None
                return error.code, f"HTTP {error.code} {error.reason}", wait_seconds
        except (OSError, HTTPException) as error:
            return 0, repr(error), None

    def _refused_for_seconds(self) -> float:
        now = time.monotonic()
        self._refused_at = now if self._refused_at is None else self._refused_at
        return now - self._refused_at

    def _give_up(self, batch: list[bytes], problem: str) -> None:
        """Drop a batch; a report in it was no event, and is made again."""
        self._drop(len(batch) - (self._report is not None and self._report[0] in batch), problem)

    def _drop(self, count: int, problem: str) -> None:
        with self._changed:
            self.dropped += count
            self.problem = problem
        logger.warning("%d events dropped: %s", count, problem)


def _line(event: str, properties: dict[str, object]) -> bytes:
    now = datetime.now(timezone.utc).isoformat()
    fields = {"event": event, "uuid": str(uuid.uuid4()), "timestamp": now, "properties": properties}
    return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode(errors="replace")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would follow with a GET without the events, and take its 200 for a success."""

    def redirect_request(self, *_: object) -> None:
        return None
