"""The snippets' examples, each on its real server: what was captured counts when the server is stopped."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import counted, installed
from tests.clients.producer import AS_NODE_20_RUNS_IT, SNIPPETS, TYPESCRIPT, compile_in_new_project
from tests.orchestration.collector import loopback
from tests.support.waiting import PATIENCE_SECONDS, free_port, wait_until

pytestmark = pytest.mark.clients

EXAMPLES = SNIPPETS / "examples"
ACCOUNTS = [f"account {number}" for number in range(20)]

FASTAPI = installed.python("fastapi==0.165.0", "uvicorn==0.54.0")
DJANGO = installed.python("django==5.2.19", "uvicorn==0.54.0")
FLASK = installed.python("flask==3.1.3", "gunicorn==27.0.1")
UWSGI = installed.python("flask==3.1.3", "pyuwsgi==2.0.30.post1")
CELERY = installed.python("celery==5.7.0")


def environment_of(collector_port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{collector_port}/v1/analytics/my-api/"
    return {"PATH": os.environ["PATH"], "HEADROOM_URL": url, "HEADROOM_KEY": loopback.KEY}


@dataclass(frozen=True)
class Server:
    """How an example is started, `{port}` being its port, and the signal that ends it."""

    name: str
    packages: installed.Packages
    options: str
    program: tuple[str, ...]
    ended_by: signal.Signals = signal.SIGTERM

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def started(self, collector_port: int, port: int) -> Iterator["subprocess.Popen[bytes]"]:
        try:
            packages = self.packages.install()
        except installed.NotInstalledError as reason:
            pytest.skip(f"{' and '.join(self.packages.names)} cannot be installed: {reason}")
        process = subprocess.Popen(
            [sys.executable, *self.program, *self.options.format(port=port).split()],
            cwd=EXAMPLES,
            env={
                **environment_of(collector_port),
                "PYTHONPATH": f"{packages}:{SNIPPETS}:{EXAMPLES}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


UVICORN = ("-m", "uvicorn")
GUNICORN = ("-m", "gunicorn")
SERVERS = [
    Server("FastAPI on uvicorn", FASTAPI, "--port {port} fastapi_main:app", UVICORN),
    Server("Django on uvicorn", DJANGO, "--port {port} django_asgi:application", UVICORN),
    Server("Flask on gunicorn", FLASK, "--bind 127.0.0.1:{port} --workers 2 flask_app:app", GUNICORN),
    Server("preloaded", FLASK, "--bind 127.0.0.1:{port} --preload --workers 2 flask_app:app", GUNICORN),
    Server("Flask alone", FLASK, "{port}", ("flask_app.py",)),
    Server(
        "Flask on uWSGI",
        UWSGI,
        "--master --processes 2 --enable-threads --http-socket 127.0.0.1:{port} --module flask_app:app",
        ("-c", "import pyuwsgi, sys; pyuwsgi.run(sys.argv[1:])"),
        signal.SIGINT,
    ),
]


def call(port: int, account: str) -> bool:
    """A request of an account to an example; False while the server is not ready."""
    address = f"http://127.0.0.1:{port}/search?account={account.replace(' ', '%20')}"
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[loopback.Program]:
    program = loopback.Program(tmp_path / "data")
    with program.running():
        yield program


@pytest.mark.parametrize("server", SERVERS, ids=str)
def test_calls_count_when_the_server_is_stopped(server: Server, collector: loopback.Program) -> None:
    port = free_port()
    with server.started(collector.port, port) as process:
        wait_until(lambda: call(port, ACCOUNTS[0]))
        assert all(call(port, account) for account in ACCOUNTS[1:])
        process.send_signal(server.ended_by)
        process.wait(PATIENCE_SECONDS)
    collector.stop()

    assert counted.in_segments(collector) == len(ACCOUNTS)
    assert [each.account_id for each in counted.in_lake(collector.data)] == sorted(ACCOUNTS)


@pytest.mark.parametrize("is_collector_away", [False, True])
def test_node_server_counts_all_and_stops(is_collector_away: bool, collector: loopback.Program, tmp_path: Path) -> None:
    folder = compile_in_new_project(TYPESCRIPT, tmp_path, *AS_NODE_20_RUNS_IT).parent
    shutil.copy(EXAMPLES / "node-server.mjs", folder)
    port = free_port()
    process = subprocess.Popen(
        [installed.node_program(), str(folder / "node-server.mjs"), str(port)],
        env=environment_of(free_port() if is_collector_away else collector.port),
    )
    try:
        wait_until(lambda: call(port, ACCOUNTS[0]))
        assert all(call(port, account) for account in ACCOUNTS[1:])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
    collector.stop()

    counts = [] if is_collector_away else sorted(ACCOUNTS)
    assert [each.account_id for each in counted.in_lake(collector.data)] == counts


@pytest.mark.parametrize("server", SERVERS, ids=str)
def test_server_stops_when_the_collector_is_away(server: Server) -> None:
    port = free_port()
    with server.started(free_port(), port) as process:
        wait_until(lambda: call(port, ACCOUNTS[0]))
        process.send_signal(server.ended_by)
        process.wait(PATIENCE_SECONDS)


CELERY_WORKER = """
import sys
from pathlib import Path

from celery_tasks import app, headroom, search

headroom._max_age_seconds = 3600  # only the end of a process sends
folder = str(Path(__file__).parent)
app.conf.broker_url = "filesystem://"
app.conf.broker_transport_options = {
    "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control"
}
for account in sys.argv[1].split(","):
    search.delay(account)
Path(folder, "sent").touch()
app.worker_main(["worker", "--pool", sys.argv[2], "--concurrency", "2", "--without-gossip", "--without-mingle"])
"""


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_task_counts_when_celery_is_stopped(pool: str, collector: loopback.Program, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "worker.py").write_text(CELERY_WORKER)
    worker = Server("Celery", CELERY, "", (str(folder / "worker.py"), ",".join(ACCOUNTS), pool))
    with worker.started(collector.port, 0) as process:
        wait_until(lambda: (folder / "sent").exists() and not list(folder.glob("*.msg")))
        process.send_signal(signal.SIGTERM)  # the tasks under way are finished first
        process.wait(PATIENCE_SECONDS)
    collector.stop()

    assert [each.account_id for each in counted.in_lake(collector.data)] == sorted(ACCOUNTS)
