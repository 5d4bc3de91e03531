"""DuckDB in memory. This process uses an engine again: a new one registers thousands of functions, for some 20 ms."""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

_FOR_GOOD: dict[str, str | bool | int | float | list[str]] = {"async_threads": 0, "enable_external_file_cache": False}
"""No threads that read from afar; and what was read of a file is not kept, for another may come in its place."""
_MOST_IDLE = 4
_idle: list[duckdb.DuckDBPyConnection] = []
_of_the_parent: list[list[duckdb.DuckDBPyConnection]] = []
_lock = threading.Lock()


@contextmanager
def engine(
    spilled: Path | str = "", memory_limit: str = "80%", threads: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an engine that nobody else uses until the block ends. Its zone is UTC.

    What does not fit into `memory_limit`, a size or a share of the machine's, goes to the folder `spilled`; without one
    it fails. Only temporary tables end with the block, and files that it attached. So create no others, and set no
    option for good.
    """
    with _lock:
        used = _idle.pop() if _idle else None
    used = used or duckdb.connect(config=_FOR_GOOD)
    connection = used.cursor()
    try:
        connection.execute("set memory_limit = ?", [memory_limit])
        connection.execute("set temp_directory = ?", [str(spilled)])
        connection.execute("set threads = ?", [threads]) if threads else connection.execute("reset threads")
        connection.execute("set TimeZone = 'UTC'")  # read as TIMESTAMP, an offset would be dropped silently
        yield connection
    finally:
        connection.close()
        _keep(used)


def _keep(used: duckdb.DuckDBPyConnection) -> None:
    """For the next block; but not an engine that has spilled, which leaves its folder only in the end, or is broken."""
    with suppress(duckdb.Error):
        attached = used.execute("select database_name from duckdb_databases() where not internal").fetchall()
        for (name,) in attached:
            if name != "memory":
                used.execute(f'detach "{name}"')
        used.execute("set temp_directory = ''")
        used.execute("set threads = 1")  # its threads would wait, and a fork would lose them
        with _lock:
            if len(_idle) < _MOST_IDLE:
                _idle.append(used)
                return
    used.close()


def _leave_to_the_parent() -> None:
    """An engine does not outlive a fork, and is not closed in the child: its locks may be held there for ever."""
    global _idle, _lock
    _of_the_parent.append(_idle)
    _idle, _lock = [], threading.Lock()


def _end() -> None:
    for used in _idle:
        used.close()
    _idle.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)
atexit.register(_end)
