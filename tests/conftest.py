"""Fixtures for all tests: an environment without the developer's own settings, and a data folder of its own."""

import gc
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from orchestration.defs import dagster_migrations
from tests.fakes import stores
from tests.fakes.postgres import Postgres, running
from tests.support import ledgers

NAMES = ("SLACK_BOT_TOKEN", "SLACK_API_URL", "STRIPE_API_KEY", "STRIPE_API_BASE", "DAGSTER_HOME")

# An example has 200 ms otherwise, and ten of them a second to be made: on a busy machine that is no fault of the code.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True, scope="session")
def quick_ledgers() -> Iterator[None]:
    """In this process. The programs that tests start, and kill, wait for the disk and migrate."""
    with ledgers.quick_disk(), ledgers.quick_first_opening():
        yield


@pytest.fixture(autouse=True, scope="session")
def quick_dagster() -> None:
    """An instance in memory takes 30 ms instead of 85."""
    dagster_migrations.keep()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of the developer's shell reaches a test, and none that a test exports reaches the next, nor its
    umask.
    """
    umask = os.umask(0o022)
    for name in list(os.environ):
        if name.startswith("HEADROOM_") or name in NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setattr("orchestration.settings.Settings.model_config", _without_env_file())
    yield
    os.umask(umask)


def _without_env_file() -> object:
    from orchestration.settings import Settings

    return {**Settings.model_config, "env_file": None}


@pytest.fixture
def heeded_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end what the test starts, also where the suite runs in the background and ignores them."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HEADROOM_DATA, with an empty landing folder in it."""
    folder = tmp_path / "data"
    (folder / "landing").mkdir(parents=True)
    monkeypatch.setenv("HEADROOM_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server. Where none can be started, the tests that need one are skipped and say why."""
    try:
        server = running()
        started = server.__enter__()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no Postgres: {error}")
    yield started
    server.__exit__(None, None, None)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger without rows, on each of the databases that it can be in."""
    if request.param == "sqlite":
        path = tmp_path / "ledger.sqlite"
        path.write_bytes(ledgers.empty())
        return f"sqlite:///{path}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.ledger()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server on loopback."""
    with stores.running() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the server with an empty bucket `usage`; the program's own clients speak to the server, too."""
    for name, value in stores.variables(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    with stores.bucket(s3_endpoint) as client:
        yield client


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle-files",
        metavar="SEED",
        help="run the test files in a random order, the tests of a file in the order of the file. The same SEED gives"
        " the same order. With xdist add --dist loadfile --no-loadscope-reorder",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m clickhouse` and its like: a file without the word has no such test, and most take long to import."""
    marker, names = config.getoption("-m"), [line.partition(":")[0] for line in config.getini("markers")]
    if marker not in names or collection_path.suffix != ".py":
        return None
    return f"mark.{marker}" not in collection_path.read_text() or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if seed := config.getoption("--shuffle-files"):
        # Of the files' names, so that all of xdist's workers agree, however each one listed them.
        order = sorted({item.path for item in items})
        random.Random(seed).shuffle(order)
        place = {path: number for number, path in enumerate(order)}
        items.sort(key=lambda item: place[item.path])


def pytest_collection_finish() -> None:
    """What the test files import stays, and the collector need not go through it: an eighth of the time with Dagster's
    modules. Of what is left it comes less often, which is another 2 %.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The seed stands at the end of the output: -q leaves out the header."""
    if seed := config.getoption("--shuffle-files"):
        terminalreporter.write_line(f"files shuffled: --shuffle-files {seed}")


def pytest_unconfigure() -> None:
    """Hypothesis leaves a callback with the garbage collector; at exit DuckDB then reports its own types as leaked."""
    gc.unfreeze()
    gc.callbacks[:] = [call for call in gc.callbacks if not str(call.__module__).startswith("hypothesis")]
