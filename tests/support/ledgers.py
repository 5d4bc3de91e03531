"""Ledgers in SQLite without what takes longest in them, where a test is of something else."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dagster._core.storage.event_log import in_memory as event_log
from dagster._core.storage.runs import in_memory as runs

from orchestration.ledger import engines
from orchestration.ledger.ledger import Ledger

OPEN = Ledger.__init__
"""What makes the tables of a new one by its migrations."""
_SQLITE = "sqlite:///"


@cache
def empty() -> bytes:
    """A ledger without rows, to be written where one is wanted: the migrations take longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite")
        ledger = Ledger.__new__(Ledger)
        OPEN(ledger, f"{_SQLITE}{path}")
        ledger.close()
        return path.read_bytes()


@contextmanager
def quick_first_opening() -> Iterator[None]:
    """The first opening of a ledger in this process copies `empty()`, and all know the statements of the others: to
    put them together takes longer than most tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "__init__", _open_copy)
        patch.setattr(engines, "create", partial(_knowing, engines.create))
        for storage in (event_log, runs):  # of Dagster's instances in memory
            patch.setattr(storage, "create_engine", partial(_knowing, storage.create_engine))
        yield


_engines: dict[str, Any] = {}
"""One of each kind of database. Once connected it knows what its server can do, and the others take that over."""


def _knowing(create: Callable[..., Any], *where: Any, **options: Any) -> Any:
    engine = create(*where, **options)
    first = _engines.get(engine.dialect.name)
    if first is None or first.dialect.server_version_info is None:
        _engines[engine.dialect.name] = engine
        return engine
    # SQLAlchemy looks a statement up by its dialect, too, of which each engine has its own.
    engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
    return engine


def _open_copy(ledger: Ledger, url: str, *wait: Any, **waits: Any) -> None:
    path = Path(url.removeprefix(_SQLITE))
    if url.startswith(_SQLITE) and not path.exists():
        with suppress(OSError):  # of what cannot be written the opening itself speaks
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent) as staged:
                staged.write(empty())
                staged.flush()
                os.link(staged.name, path)  # whole at once: another process may make it
    OPEN(ledger, url, *wait, **waits)


@contextmanager
def quick_disk() -> Iterator[None]:
    """No waiting for the disk, most of the time that a run takes: here processes end, power does not fail."""
    if sa.event.contains(sa.pool.Pool, "checkout", _hurry):
        yield
        return
    sa.event.listen(sa.pool.Pool, "checkout", _hurry)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "fdatasync"):
                patch.setattr(os, name, lambda _: None)
            yield
    finally:
        sa.event.remove(sa.pool.Pool, "checkout", _hurry)


@contextmanager
def real_disk() -> Iterator[None]:
    """Connections that are opened within wait for the disk as the program tells them to."""
    sa.event.remove(sa.pool.Pool, "checkout", _hurry)
    try:
        yield
    finally:
        sa.event.listen(sa.pool.Pool, "checkout", _hurry)


def _hurry(connection: Any, record: Any, *_: object) -> None:
    if type(connection).__module__ == "sqlite3" and not record.info.get("hurries"):
        connection.execute("pragma synchronous = off")
        record.info["hurries"] = True  # a connection stays so, and a statement for each use was 1 % of the suite
