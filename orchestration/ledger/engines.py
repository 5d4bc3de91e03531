"""What is particular to the databases that the ledger can be in: SQLite, where nothing is configured, and Postgres.

Both give the same: one writer at a time, so that what a transaction has read is still true when it writes; what is
committed is on disk; and locks that die with their process.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock, Timeout

from orchestration.ledger import read_only

ONLY_READS = "headroom_only_reads"
"""Option of a connection whose transactions write nothing."""
SCHEMA = "headroom"
"""Of the ledger's tables on Postgres, so that the database may be Dagster's, or anybody's, too."""
# A machine that has vanished keeps its locks until the server notices: within a minute, by default in two hours. The
# other way round a run that has lost its server notices as soon.
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
WAIT_SECONDS = 60
"""That a writer waits for another one."""
_OPTIONS = {
    "search_path": SCHEMA,
    "synchronous_commit": "on",  # whatever the server's default: a claim must survive a power failure
    **{f"tcp_{name}": value for name, value in _KEEPALIVES.items()},
}


class BusyError(RuntimeError):
    """Another process does the same; nothing was done here."""


class UnusableLedgerError(RuntimeError):
    """The ledger cannot be opened. The message says why and what to do, and holds no password."""


def create(url: str, wait_seconds: int = WAIT_SECONDS) -> sa.Engine:
    """The engine for `url`; nothing is opened yet. Writers wait so long for each other."""
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite":
        path = Path(str(address.database))
        if may_only_read(path):
            engine = sa.create_engine(address, creator=partial(read_only.connect, path))
        else:
            engine = sa.create_engine(address)
            _configure_sqlite(engine, wait_seconds)
        return engine
    # No pool: a ledger is opened many times in a process, and idle connections are what servers, proxies and
    # firewalls cut. A new one costs a few milliseconds.
    options = " ".join(f"-c {name}={value}" for name, value in {**_OPTIONS, "lock_timeout": f"{wait_seconds}s"}.items())
    return sa.create_engine(
        address.set(drivername="postgresql+psycopg2"),
        poolclass=sa.NullPool,
        connect_args={"options": options, "connect_timeout": 10, "application_name": "headroom", **_KEEPALIVES},
    )


def may_only_read(path: Path) -> bool:
    """Whether there is a ledger in SQLite that this user cannot write to: neither its file, nor files beside it."""
    if not path.exists():  # asked first: another process may make it between the two
        return False
    effective = os.access in os.supports_effective_ids
    return not all(os.access(each, os.W_OK, effective_ids=effective) for each in (path, path.parent))


def is_read_only(engine: sa.Engine) -> bool:
    """Whether what is opened here can only be read. A server says so itself."""
    return is_sqlite(engine) and may_only_read(Path(str(engine.url.database)))


def is_sqlite(engine: sa.Engine) -> bool:
    return engine.dialect.name == "sqlite"


def place(engine: sa.Engine) -> str:
    """Where the ledger is, for messages."""
    url = engine.url
    if is_sqlite(engine):
        return str(url.database)
    host = url.query.get("host") or url.host or "localhost"
    return f"schema {SCHEMA} of database {url.database} at {host}"


def opening(engine: sa.Engine) -> AbstractContextManager[object]:
    """Only one process at a time, if the database needs that.

    SQLite does not wait for another process that switches the same new file to WAL: 1 open in 60 failed. The lock
    makes the folder, too.
    """
    return FileLock(f"{engine.url.database}.lock") if is_sqlite(engine) else nullcontext()


def begin_writing(connection: sa.Connection) -> None:
    """Called first in each transaction that writes: other writers wait from here to its end, readers never do.

    SQLite has begun as a writer already. On Postgres it is a lock and not serializable isolation: that would make
    every caller repeat a transaction which another one has overtaken.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_lock_key("writing"))))


def execute_many(
    connection: sa.Connection, statement: sa.Insert, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    """Insert rows by the million: values of the statement's parameters, in the order of its columns, in the database's
    own types.
    """
    if connection.dialect.name == "sqlite":  # past SQLAlchemy, which takes twice as long as SQLite itself
        # inline: it returns no keys, with which Python 3.13's executemany cannot bind a second row
        compiled = statement.inline().compile(dialect=connection.dialect)
        assert tuple(compiled.positiontup or ()) == tuple(names), compiled.positiontup
        connection.exec_driver_sql(str(compiled), list(rows))
    else:
        connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])


@contextmanager
def alone(engine: sa.Engine, name: str) -> Iterator[sa.Connection | None]:
    """Holds the lock of that name. On Postgres by the connection that comes with it: while that lives, nobody else has
    the lock.

    :raises BusyError: another process holds it.
    """
    busy = BusyError(f"another run is working on {name}")
    if is_sqlite(engine):
        lock = FileLock(f"{engine.url.database}.{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise busy from None
        try:
            yield None
        finally:
            lock.release()
        return
    key = _lock_key(name)
    with engine.connect() as connection:
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
            raise busy
        connection.commit()  # the lock is the session's and stays
        try:
            yield connection
        finally:
            # The server notices a closed connection a moment later; the next run may start at once.
            with suppress(sa.exc.SQLAlchemyError):
                connection.scalar(sa.select(sa.func.pg_advisory_unlock(key)))


def _lock_key(name: str) -> int:
    """Advisory locks of a database are numbers, which all its users share."""
    return int.from_bytes(sha256(f"{SCHEMA}|{name}".encode()).digest()[:8], signed=True)


def _configure_sqlite(engine: sa.Engine, wait_seconds: int) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions late and not for DDL
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {wait_seconds * 1000}",
            "journal_mode = wal",
            "synchronous = full",
            "foreign_keys = on",
            "cache_size = -16000",  # KB: with 2 MB a plan of a day reads and writes the same pages again and again
        ):
            cursor.execute(f"pragma {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # Immediate: what a transaction has read must still be true when it writes. Who only reads waits for nobody, and
        # nobody for them: a first plan of 200,000 accounts reads for a minute, which is as long as writers wait.
        connection.exec_driver_sql("begin" if connection.get_execution_options().get(ONLY_READS) else "begin immediate")
