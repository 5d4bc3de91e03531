"""How tests wait: for exactly what they assert next, and never for a time.

A file, a line of output, a counter and a row appear one after another: who waits for the first and asserts the second
fails on a busy machine. What is asserted of a thread, a process or a server that is at work is the condition here.
"""

import random
import socket
import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 120.0
"""No test waits for this; it only ends those that hang."""
RUN_SECONDS = 300.0
"""The same, for programs that import Dagster or dbt, or go through hundreds of rounds."""


def wait_until(
    condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS, seen: Callable[[], Any] | None = None
) -> Any:
    """The first true value of the condition. `seen` is what a vain wait shows in its place."""
    end, pause = time.monotonic() + seconds, 0.002
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain; in the end it was {seen() if seen else value!r}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)  # what takes long is not made slower by asking
    return value


def free_port() -> int:
    """A port for a program that takes no socket, and cannot choose the port itself.

    Not one of the kernel's choice: those are given to every connection, too, until the program has bound it.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
