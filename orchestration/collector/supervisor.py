"""Several workers on one port: starts them, and each again that dies. It takes no request itself.

Each worker is a process with a socket, an event loop and segments of its own; the kernel spreads connections over the
sockets (SO_REUSEPORT). It is forked from a process without threads and without a loop, which only waits for signals.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable

RESTART_SECONDS = 1.0
"""Between the starts of a worker, so that one that cannot live does not take the processor."""
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

logger = logging.getLogger("headroom.collector")


def supervise(count: int, work: Callable[[int], int]) -> int:
    """Run `work(index)` in so many processes until SIGTERM or SIGINT; the exit status: 0 where all ended well.

    SIGTERM, SIGINT and SIGHUP go to every worker. A worker that dies is started again.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    workers: dict[int, int] = {}
    """Indexes by process id."""
    due = dict.fromkeys(range(count), 0.0)
    """When workers that do not run are to be started."""
    is_stopping, status = False, 0
    while workers or not is_stopping:
        now = time.monotonic()
        for index in [index for index, at in due.items() if at <= now and not is_stopping]:
            workers[_start(index, work)] = index
            del due[index]
        wait_seconds = max(0.0, min(due.values()) - now) if due and not is_stopping else 3600
        arrived = signal.sigtimedwait(_SIGNALS, wait_seconds)
        if arrived is None:
            continue
        if arrived.si_signo in (signal.SIGTERM, signal.SIGINT):
            is_stopping = True
        if arrived.si_signo != signal.SIGCHLD:
            for process in workers:
                os.kill(process, arrived.si_signo)
        for process, code in _ended():
            index = workers.pop(process)
            if is_stopping:
                status = status or code
            else:
                logger.error("worker %d ended with status %d: it is started again", index, code)
                due[index] = time.monotonic() + RESTART_SECONDS
    return status


def _start(index: int, work: Callable[[int], int]) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        code = work(index)
    except BaseException:  # the copy must never go on as the supervisor
        logger.exception("unexpected, in worker %d", index)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended() -> list[tuple[int, int]]:
    """Process ids and statuses of workers that ended; one signal may stand for several."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not process:
            return found
        found.append((process, os.waitstatus_to_exitcode(status)))
