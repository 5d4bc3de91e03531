"""The published copy: a read-only DuckDB file that everyone but dbt reads.

While dbt writes the warehouse, no other process can open it. So an engine (engine.py) copies it after each build that
passed its tests, and swaps the copy in under the published name. Readers never wait and never see half a build.
"""

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from orchestration.lake import in_memory

Parameters = Sequence[object] | Mapping[str, object]
MEMORY_LIMIT = "50%"
"""Of the machine's memory, or of what its cgroup may have. What is more goes to a folder beside the copy."""
ROWS = 10_000
"""Read at a time."""


@dataclass(frozen=True)
class Answer:
    """What a query found: its columns, whose names may repeat, and the values of each row."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class NothingPublishedError(RuntimeError):
    """There is no published copy yet."""


class OutdatedCopyError(duckdb.Error):
    """The published copy lacks a table or a column: an earlier version built it. The message says what to do."""


class UnreadableCopyError(duckdb.Error):
    """The published copy is not a whole DuckDB file: somebody else wrote it. The message says what to do."""


class LockedCopyError(RuntimeError):
    """Another program has the published copy open for writing. The message says which one and what to do."""


class ForbiddenFileError(RuntimeError):
    """A question named a file that it may not read or write. The message says which ones it may."""


def swap_in(staging: Path, published: Path) -> None:
    """Make `staging`, a closed DuckDB file, the published copy, atomically. Nobody can write it then.

    A log beside the copy is that of somebody who opened it for writing: with another file below it, no reader could
    open the copy. Once more after the swap, for it may be written meanwhile.

    :raises duckdb.Error: the copy cannot be read after the swap.
    """
    staging.chmod(0o440)
    log_of(published).unlink(missing_ok=True)
    staging.replace(published)
    log_of(published).unlink(missing_ok=True)
    with connected(published) as connection:
        connection.execute("select count(*) from duckdb_tables()").fetchall()


def log_of(file: Path) -> Path:
    """DuckDB's log of what is not in the file yet."""
    return file.with_name(f"{file.name}.wal")


@contextmanager
def reading(published: Path) -> Iterator[None]:
    """Queries inside are answered from one copy, whatever is published meanwhile; and an engine is started once.

    :raises NothingPublishedError: nothing was built yet.
    """
    with connected(published) as connection, held(published, connection):
        yield


@contextmanager
def held(
    published: Path, connection: duckdb.DuckDBPyConnection, answers: "KeptAnswers | None" = None
) -> Iterator[None]:
    """Queries inside go to this connection to the copy, and those of `query_kept` to `answers` first."""
    token = _held.set(_Held(published, connection, answers))
    try:
        yield
    finally:
        _held.reset(token)


def version_of(published: Path) -> str:
    """Of the copy that is published now; it changes with each build.

    :raises NothingPublishedError: nothing was built yet.
    """
    try:
        found = published.stat()
    except FileNotFoundError:
        raise NothingPublishedError("there are no figures yet: `headroom run` counts and publishes them") from None
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def query(published: Path, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
    """Rows of a query against the published copy; timestamps come back as aware UTC datetimes.

    :raises NothingPublishedError: nothing was built yet.
    :raises OutdatedCopyError: an earlier version built it.
    """
    with connected(published) as connection:
        return rows_of(connection, sql, parameters)


def query_kept(published: Path, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
    """As `query`; but a server that keeps the copy open asks once, and knows the answer until the next copy.

    For what many pages ask in the same words. The rows are everybody's: nobody changes them.
    """
    held = _held.get()
    if held is None or held.published != published or held.answers is None:
        return query(published, sql, parameters)
    return held.answers.of(held.connection, sql, parameters or {})


class KeptAnswers:
    """What one copy has said. Bounded: the oldest goes first, and a long answer is not kept. Threads share it."""

    def __init__(self, most_rows: int = 10_000) -> None:
        self._most_rows, self._rows = most_rows, 0
        self._known: dict[tuple[str, tuple[tuple[str, object], ...]], list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def of(
        self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object]
    ) -> list[dict[str, Any]]:
        asked = sql, tuple(parameters.items())
        with self._lock:
            if (known := self._known.get(asked)) is not None:
                return known
        rows = rows_of(connection, sql, parameters or None)
        if len(rows) <= self._most_rows // 10:
            with self._lock:
                if asked not in self._known:
                    self._known[asked], self._rows = rows, self._rows + _weight(rows)
                while self._rows > self._most_rows:
                    self._rows -= _weight(self._known.pop(next(iter(self._known))))
        return rows


def _weight(rows: list[dict[str, Any]]) -> int:
    """Of an answer: its question takes memory, too."""
    return len(rows) + 1


def ask(published: Path, lake: Path, sql: str) -> Answer:
    """The answer to what somebody types: about the published copy, and the lake that the staging views read.

    It reads no other file and writes none, whatever it says.

    :raises NothingPublishedError: nothing was built yet.
    :raises LockedCopyError: nobody can read the copy at the moment.
    :raises ForbiddenFileError: it names another file, or writes one.
    :raises duckdb.Error: it cannot be understood, or changes the copy.
    """
    with attached(published, {"memory_limit": MEMORY_LIMIT}) as connection:
        # DuckDB allows a folder for reading and writing. So only what never writes may look into the lake.
        statements = connection.extract_statements(sql)
        if all(statement.type == duckdb.StatementType.SELECT for statement in statements):
            globbed = re.sub(r"([\[*?])", r"[\1]", str(lake))  # as the staging views name it
            connection.execute("set allowed_directories = ?", [[str(lake), globbed]])
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        try:
            connection.execute(sql)
        except duckdb.PermissionException as error:
            raise ForbiddenFileError(
                f"a query reads the published tables and the lake in {lake}, no other file, and writes none."
                f" {str(error).splitlines()[0]}"
            ) from error
        names = [column[0] for column in connection.description or []]
        return Answer(names, [tuple(map(aware, row)) for row in connection.fetchall()] if names else [])


def columns(published: Path) -> dict[str, dict[str, str]]:
    """The columns of each published table with their types, in order."""
    found: dict[str, dict[str, str]] = {}
    for row in query(published, _COLUMNS):
        found.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    return found


def chunks(
    published: Path, table: str, names: Sequence[str], order: Sequence[str] = (), size: int = 10_000
) -> Iterator[list[tuple[Any, ...]]]:
    """These columns of all rows of a published table, so many rows at a time; of one build, whatever is published
    meanwhile.
    """
    selected, by = (", ".join(f'"{name}"' for name in columns) for columns in (names, order))
    with connected(published) as connection:
        connection.execute(f'select {selected} from main."{table}" {"order by " if by else ""}{by}')
        while rows := connection.fetchmany(size):
            yield [tuple(map(aware, row)) for row in rows]


_COLUMNS = """
    select columns.table_name, columns.column_name, columns.data_type
    from duckdb_columns() as columns
    semi join duckdb_tables() as tables using (database_name, schema_name, table_name)
    where columns.database_name = current_database() and columns.schema_name = 'main'
    order by columns.table_name, columns.column_index
"""


@dataclass(frozen=True)
class _Held:
    published: Path
    connection: duckdb.DuckDBPyConnection
    answers: KeptAnswers | None


_held: ContextVar[_Held | None] = ContextVar("_held", default=None)


@contextmanager
def connected(published: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    held = _held.get()
    if held and held.published == published:
        yield held.connection
        return
    with attached_for_now(published) as connection:
        yield connection


@contextmanager
def attached_for_now(published: Path, memory_limit: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the copy as it is now, whatever is swapped in later.

    :raises: what `attached` raises.
    """
    # In memory alone, it would spill into the folder that this process happens to run in.
    with in_memory.engine(_spill_folder(published), memory_limit or MEMORY_LIMIT) as connection:
        _attach(connection, published)
        yield connection


def attached(published: Path, limits: Mapping[str, str | int]) -> duckdb.DuckDBPyConnection:
    """The same with an engine of its own, whose settings nobody else has. The caller closes it.

    :raises NothingPublishedError: nothing was built yet.
    :raises LockedCopyError: another program writes it.
    :raises UnreadableCopyError: it is not a DuckDB file.
    """
    connection = duckdb.connect(config={**limits, "temp_directory": _spill_folder(published)})
    try:
        _attach(connection, published)
    except BaseException:
        connection.close()
        raise
    return connection


def _attach(connection: duckdb.DuckDBPyConnection, published: Path) -> None:
    """Not opened: opened, it would be shared with every reader in this process that still holds an older copy."""
    if not published.exists():
        raise NothingPublishedError(f"{published} does not exist yet: `headroom run` builds and publishes it")
    try:
        connection.execute(f"attach '{_quoted(published)}' as \"{published.stem}\" (read_only)")
        use(connection, published)
    except duckdb.Error as error:
        if not isinstance(error, duckdb.IOException) or "lock" not in str(error):
            raise UnreadableCopyError(
                f"{published} cannot be read: `headroom run` publishes it again. {str(error).splitlines()[0]}"
            ) from error
        holder = re.search(r"held in (.+?)\s*\(PID (\d+)\)", str(error))
        program = f"{Path(holder[1]).name}, process {holder[2]}," if holder else "another program"
        raise LockedCopyError(
            f"{published} cannot be read: {program} has it open for writing. Close it there, or open it read only"
        ) from error


def _spill_folder(published: Path) -> str:
    """Where what is too large for the memory goes: beside the copy, or, where nobody may write, to a folder of ours."""
    return f"{published}.tmp" if os.access(published.parent, os.W_OK) else _own_folder().name


@cache
def _own_folder() -> TemporaryDirectory[str]:
    """It goes with this process."""
    return TemporaryDirectory(prefix="headroom-")


def use(connection: duckdb.DuckDBPyConnection, published: Path) -> None:
    """Names without a schema are those of the attached copy. Each connection to an engine needs it."""
    connection.execute(f'use "{published.stem}"')
    connection.execute("set TimeZone = 'UTC'")


def rows_of(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters | None = None
) -> list[dict[str, Any]]:
    try:
        connection.execute(sql, parameters)
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        raise OutdatedCopyError(
            "another version of Headroom built the published copy: `headroom run` builds it again."
            f" {str(error).splitlines()[0]}"
        ) from error
    described = connection.description or []
    columns, moments = [name for name, *_ in described], [name for name, kind, *_ in described if _is_moment(kind)]
    if repeated := [name for name, count in Counter(columns).items() if count > 1]:
        raise ValueError(f"the query names {', '.join(repeated)} twice, and one of the two would be lost: {sql}")
    rows = []
    while chunk := connection.fetchmany(ROWS):  # not all at once: as tuples and as dictionaries they take twice as much
        rows += [dict(zip(columns, row, strict=True)) for row in chunk]
    for row in rows if moments else ():
        for name in moments:  # few columns have any, and a digest of 200,000 accounts has four million values
            row[name] = aware(row[name])
    return rows


def _is_moment(kind: object) -> bool:
    return str(kind).startswith("TIMESTAMP")


def aware(value: object) -> object:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def count_rows(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    [[count]] = connection.execute(f"select count(*) from {relation}").fetchall()
    return int(count)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
