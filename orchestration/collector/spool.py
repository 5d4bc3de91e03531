"""Group commit: requests put their lines here and wait until they are durable.

One thread writes everything that is pending while the next group forms, so that under load one sync, or one object,
serves many requests. What is written is in `segments.py` and `objects.py`; what a client is told, in `app.py`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from orchestration.collector.metrics import Metrics
from orchestration.collector.segments import Segment
from orchestration.collector.writer_thread import WriterThread, call

RETRY_SECONDS = 1.0
"""Between attempts to write to a disk that failed, and to seal what could not be sealed."""
RECOVER_SECONDS = 10.0
"""Between looks for segments of collectors that were killed: until then what they acknowledged is not counted."""
GROUP_BYTES = 4 * 2**20
"""With so much a group waits for nothing."""

logger = logging.getLogger("headroom.collector")


Told = Callable[[str | None], None]
"""What is called in the end: with None when the lines are durable, with what went wrong when they are not."""


class HungWriterError(Exception):
    """The disk or the bucket neither takes what it was given nor refuses it."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"The collector stopped without {place}, which does not answer: look at that disk or bucket. What was"
            " acknowledged is there; the next collector that runs on it seals it."
        )


class Writer(Protocol):
    """Where lines become durable: see `SegmentWriter`."""

    @property
    def place(self) -> str: ...
    @property
    def sealed_count(self) -> int: ...

    @property
    def segment(self) -> Segment | None: ...
    @property
    def is_settled(self) -> bool: ...
    def prepare(self) -> None: ...
    def recover(self) -> None: ...
    def commit(self, lines: Sequence[bytes]) -> None: ...
    def probe(self) -> None: ...
    def seal(self, segment: Segment | None = None, /) -> None: ...
    def settle(self) -> None: ...


class Group:
    """Lines that become durable together, and who waits for it."""

    __slots__ = ("began_at_seconds", "bytes", "lines", "waiting")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.bytes = 0
        self.waiting: list[Told] = []
        self.began_at_seconds = 0.0


class Spool:
    """Durable storage of lines for the event loop that `start` runs in.

    A group is written `wait_seconds` after its first line, or at once where that is 0 and the thread is free.
    """

    def __init__(self, writer: Writer, metrics: Metrics, *, seal_seconds: float, wait_seconds: float = 0) -> None:
        self.problem: str | None = "starting"
        """Why nothing can be stored at the moment."""
        self.place: str = writer.place
        """The folder or the bucket."""
        self.is_stopping = False
        """Set when the process is asked to stop; what is on its way is still stored."""
        self._metrics = metrics
        self._seal_seconds = seal_seconds
        self._wait_seconds = wait_seconds
        self._writer = writer
        self._thread = WriterThread("spool")
        self._loop: asyncio.AbstractEventLoop
        self._forming = Group()
        self._waiting_for_more: asyncio.TimerHandle | None = None
        self._is_busy = False
        self._is_idle = asyncio.Event()
        self._is_closed = False
        self._armed_for: Segment | None = None
        self._retrying: asyncio.TimerHandle | None = None
        self._checked_at_seconds = 0.0

    async def start(self) -> None:
        """Seal what killed processes left, and see whether the disk or the bucket takes something.

        :raises OSError: the folder cannot be made or read. A full disk is no error: it may have room again later.
        """
        self._loop = asyncio.get_running_loop()
        await self._thread.finished(self._writer.prepare)
        await self._thread.finished(lambda: self._then(self._writer.probe, self._checked))
        self._loop.call_later(RECOVER_SECONDS, self._recover)

    def append(self, lines: Sequence[bytes], told: Told) -> None:
        """Store the lines with the next group."""
        group = self._forming
        group.lines += lines
        group.waiting.append(told)
        if self._wait_seconds:
            group.bytes += sum(map(len, lines))
            group.began_at_seconds = group.began_at_seconds or self._loop.time()
        if not self._is_busy:
            self._is_busy = True
            if self._wait_seconds:
                self._wait_for_more()
            else:
                self._loop.call_soon(self._commit)  # requests that are read in this turn of the loop come along
        elif self._waiting_for_more is not None and group.bytes >= GROUP_BYTES:
            self._commit()

    def _wait_for_more(self) -> None:
        """Commit when the oldest request of the group has waited long enough: each object costs, also to read."""
        group = self._forming
        left = group.began_at_seconds + self._wait_seconds - self._loop.time()
        if left <= 0 or group.bytes >= GROUP_BYTES:
            self._commit()
        else:
            self._waiting_for_more = self._loop.call_later(left, self._commit)

    def _commit(self) -> None:
        if self._waiting_for_more is not None:
            self._waiting_for_more.cancel()
            self._waiting_for_more = None
        group, self._forming = self._forming, Group()
        if self._is_closed:
            self._finish(group, "the collector is stopping")
        else:
            self._thread.submit(lambda: self._write(group))

    def _write(self, group: Group) -> None:
        """In the thread."""
        started = time.perf_counter()
        problem = _attempt(lambda: self._writer.commit(group.lines))
        seconds = time.perf_counter() - started
        call(self._loop, lambda: self._written(group, problem, seconds))

    def _written(self, group: Group, problem: str | None, seconds: float) -> None:
        self._metrics.observe_commit(seconds, len(group.waiting))
        self._checked(problem)
        self._finish(group, problem)

    def _finish(self, group: Group, problem: str | None) -> None:
        if self._forming.waiting:
            self._wait_for_more()
        else:
            self._is_busy = False
        for told in group.waiting:
            try:
                told(problem)
            except Exception:
                logger.exception("unexpected, while answering")
        if not self._is_busy:
            self._is_idle.set()

    def _checked(self, problem: str | None) -> None:
        """Remember whether the disk took something just now."""
        self._checked_at_seconds = self._loop.time()
        if problem is not None and problem != self.problem:
            logger.error("cannot store events: %s; asking clients to send again", problem)
        elif problem is None and self.problem not in (None, "starting"):
            logger.info("events can be stored again")
        self.problem = problem
        self._keep_time()

    def _keep_time(self) -> None:
        """See that the open segment is sealed in time, and that what failed is tried again."""
        segment = self._writer.segment
        self._metrics.segment_opened_at_seconds = segment.opened_at_seconds if segment else None
        self._metrics.sealed_segments = self._writer.sealed_count
        if segment is not None and segment is not self._armed_for:
            self._armed_for = segment
            self._loop.call_later(self._seal_seconds, self._seal, segment)
        if (self.problem is not None or not self._writer.is_settled) and self._retrying is None:
            self._retrying = self._loop.call_later(RETRY_SECONDS, self._retry)

    def _seal(self, segment: Segment) -> None:
        if not self._is_closed:
            self._submit(lambda: self._writer.seal(segment), lambda _: self._keep_time())

    def _recover(self) -> None:
        """Seal what other collectors of the folder left, and look again when that is done."""

        def look_again(_: str | None) -> None:
            self._loop.call_later(RECOVER_SECONDS, self._recover)

        if not self._is_closed:
            self._submit(self._writer.recover, look_again)

    def _retry(self) -> None:
        self._retrying = None
        if self._is_closed:
            return
        self._submit(self._writer.settle, lambda _: self._keep_time())
        if self.problem is not None:
            self._submit(self._writer.probe, self._checked)

    def _submit(self, work: Callable[[], None], report: Told) -> None:
        self._thread.submit(lambda: self._then(work, report))

    def _then(self, work: Callable[[], None], report: Told) -> None:
        """In the thread."""
        problem = _attempt(work)
        call(self._loop, lambda: report(problem))

    def check(self, told: Told) -> None:
        """Tell why nothing can be stored now, or None; tries it out unless that was done within the last second."""
        if self.is_stopping:
            told("stopping")
        elif self._loop.time() - self._checked_at_seconds < RETRY_SECONDS:
            told(self.problem)
        else:
            self._checked_at_seconds = self._loop.time()

            def report(problem: str | None) -> None:
                self._checked(problem)
                told(problem)

            self._submit(self._writer.probe, report)

    async def stop(self, limit_seconds: float) -> None:
        """Write what is pending, seal, and take nothing any more.

        :raises HungWriterError: that took longer; what is pending was not acknowledged.
        """
        self.is_stopping = True
        try:
            async with asyncio.timeout(limit_seconds):
                while self._is_busy:
                    self._is_idle.clear()
                    await self._is_idle.wait()
                self._is_closed = True
                await self._thread.finished(self._writer.seal)
        except TimeoutError:
            self._is_closed = True
            raise HungWriterError(self.place) from None
        self._thread.close()


def _attempt(work: Callable[[], None]) -> str | None:
    """None, or what went wrong, in words for a client."""
    try:
        work()
    except OSError as error:
        return error.strerror or type(error).__name__
    except Exception as error:
        logger.exception("unexpected, in the thread that writes")
        return type(error).__name__
    return None
