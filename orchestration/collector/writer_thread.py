"""The one thread that blocks on the disk or the bucket, in the order of what it is given.

It is a daemon, unlike those of an executor: a disk that hangs keeps its thread, but not the process, which could not
exit otherwise.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue


class WriterThread:
    """Runs what it is given, one after the other."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, work: Callable[[], None]) -> None:
        """Run it when all before it are done. What it raises ends the thread, so it must not."""
        self._work.put(work)

    async def finished(self, work: Callable[[], None]) -> None:
        """Run it, and wait until it is done.

        :raises Exception: what it raises.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def run() -> None:
            problem: Exception | None = None
            try:
                work()
            except Exception as error:  # noqa: BLE001 - raised again where it is awaited
                problem = error
            call(loop, lambda: settle(problem))

        self.submit(run)
        await future

    def close(self) -> None:
        """End the thread when all that it was given is done."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # with the requests that it holds, while the thread waits for more


def call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """In the loop, from the thread; nothing where the loop has been given up since."""
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        if not loop.is_closed():
            raise
