"""Ledgers in SQLite without what takes longest in them, where a test is of something else."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from orchestration.ledger.ledger import Ledger


@cache
def empty() -> bytes:
    """A ledger without rows, to be written where one is wanted: the migrations take longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite")
        Ledger(f"sqlite:///{path}").close()
        return path.read_bytes()


@contextmanager
def quick_disk() -> Iterator[None]:
    """No waiting for the disk, most of the time that a run takes: here processes end, power does not fail."""
    sa.event.listen(sa.pool.Pool, "checkout", _hurry)
    try:
        yield
    finally:
        sa.event.remove(sa.pool.Pool, "checkout", _hurry)


def _hurry(connection: Any, *_: object) -> None:
    if type(connection).__module__ == "sqlite3":
        connection.execute("pragma synchronous = off")
