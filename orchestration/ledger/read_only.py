"""An SQLite ledger for a user who may only read it, such as an analyst in the group of the data folder.

SQLite itself needs to write for that: a ledger in WAL mode has files beside it that readers make, too.
"""

import sqlite3
from pathlib import Path
from urllib.parse import quote

TRIES = 50
_VERSIONS = slice(18, 20)
"""The bytes of a file's header that say whether it is in WAL mode."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that reads what is committed. While somebody writes it follows; else it has the file as it is.

    :raises sqlite3.OperationalError: it cannot be read.
    """
    for _ in range(TRIES):
        if _log_of(path).exists():
            try:
                connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)
                connection.execute("select count(*) from sqlite_schema")
            except sqlite3.OperationalError:
                if _log_of(path).exists():
                    raise
                continue  # the last writer has just ended
            return connection
        if (content := _unchanged(path)) is not None:
            connection = sqlite3.connect(":memory:", check_same_thread=False)
            connection.deserialize(bytes(content))
            connection.execute("pragma query_only = on")
            return connection
    raise sqlite3.OperationalError("unable to open database file")


def _unchanged(path: Path) -> bytearray | None:
    """The file's bytes; None where somebody has begun to write it meanwhile."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    after = path.stat()
    if _log_of(path).exists() or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        return None
    content[_VERSIONS] = b"\x01\x01"  # in memory there is no WAL
    return content


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
