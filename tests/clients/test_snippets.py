"""Our snippets, in processes of their own against the real collector: nothing counts twice, and no loss is silent."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.clients import counted, installed
from tests.clients.answering import Answering
from tests.clients.proxy import LossyNetwork
from tests.orchestration.collector import loopback

SNIPPETS = PROJECT_ROOT / "orchestration" / "collector" / "snippets"
DRIVERS = Path(__file__).parent / "drivers"
TYPESCRIPT = installed.node("typescript@5.9.3", "@types/node@20.19.25")
CHECKED = ("--strict", "--skipLibCheck", "--erasableSyntaxOnly", "--noUnusedLocals", "--noFallthroughCasesInSwitch")
AS_NODE_18_RUNS_IT = ("--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10")
SECONDS = 60
CALLS = [{"account_id": name, "endpoint": "/v1/search", "status": 200} for name in ("acme", "acme", "čaj & 数")]


@dataclass(frozen=True)
class Producer:
    """A driver of one of the snippets, and how it is started."""

    program: tuple[str, ...]
    snippet: Path

    @contextmanager
    def started(self, port: int, captures: list[dict[str, Any]], **options: Any) -> Iterator["subprocess.Popen[str]"]:
        driver_input = {
            "url": f"http://127.0.0.1:{port}/v1/analytics/my-api/",
            "key": loopback.KEY,
            "events": [],
            "snippet": str(self.snippet),
            "captures": captures,
            **options,
        }
        process = subprocess.Popen(
            self.program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(driver_input))
        process.stdin.close()
        process.stdin = None
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, port: int, captures: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        """Capture, close within `close_seconds`, and return what the snippet says then."""
        with self.started(port, captures, **{"close_seconds": SECONDS, **options}) as process:
            return last_words(process)


def last_words(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The last words of a producer."""
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, stderr
    words: dict[str, Any] = json.loads(stdout.splitlines()[-1]) if stdout else {}
    return words


@pytest.fixture(params=["python", pytest.param("typescript", marks=pytest.mark.clients)])
def producer(request: pytest.FixtureRequest) -> Producer:
    if request.param == "python":
        return Producer((sys.executable, "-S", str(DRIVERS / "snippet.py")), SNIPPETS / "headroom_events.py")
    compiled: Path = request.getfixturevalue("compiled")
    return Producer((installed.node_program(), str(DRIVERS / "snippet.cjs")), compiled)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TypeScript snippet as JavaScript, checked on the way."""
    try:
        modules = TYPESCRIPT.install() / "node_modules"
        node = installed.node_program()
    except installed.NotInstalledError as reason:
        pytest.skip(f"TypeScript cannot be installed: {reason}")
    folder = tmp_path_factory.mktemp("snippet")
    types = ("--types", "node", "--typeRoots", str(modules / "@types"))
    tsc = (node, str(modules / "typescript" / "bin" / "tsc"))
    outcome = subprocess.run(
        [*tsc, *CHECKED, *AS_NODE_18_RUNS_IT, *types, "--outDir", str(folder), str(SNIPPETS / "headroom-events.ts")],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert outcome.returncode == 0, outcome.stdout
    return folder / "headroom-events.js"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[loopback.Program]:
    program = loopback.Program(tmp_path / "data")
    with program.running():
        yield program


def accounts(captures: list[dict[str, Any]]) -> list[str]:
    return sorted(str(each["account_id"]) for each in captures)


def counted_accounts(collector: loopback.Program) -> list[str]:
    return [call.account_id for call in counted.in_lake(collector.data)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_event_has_the_id_and_the_time_of_its_call(producer: Producer, collector: loopback.Program) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    words = producer.run(collector.port, CALLS)
    after = datetime.now(UTC)
    collector.stop()

    assert (words["dropped"], words["problem"]) == (0, "")
    [batch] = [line["batch"] for line in loopback.stored(collector.folder)]
    assert [event["properties"] for event in batch] == CALLS
    calls = counted.in_lake(collector.data)
    assert [call.account_id for call in calls] == accounts(CALLS)
    assert {call.event_id for call in calls} == {event["uuid"] for event in batch}
    assert all(before <= call.event_at <= after for call in calls)


def test_events_arrive_when_the_process_just_ends(producer: Producer, collector: loopback.Program) -> None:
    with producer.started(collector.port, CALLS, max_age_seconds=3600) as process:
        last_words(process)
    collector.stop()

    assert counted_accounts(collector) == accounts(CALLS)


def test_events_are_sent_without_close_when_they_are_old_enough(producer: Producer) -> None:
    options = {"max_age_seconds": 0.05, "is_problem_expected": True}
    with Answering([(401, {})]) as server, producer.started(server.port, CALLS, **options) as process:
        assert process.stdout is not None
        assert "401" in process.stdout.readline()

    assert len(server.bodies) == 1


def test_events_arrive_when_a_batch_is_full(producer: Producer, collector: loopback.Program) -> None:
    words = producer.run(collector.port, CALLS, batch_size=2, max_age_seconds=3600)
    collector.stop()

    assert words["dropped"] == 0
    assert counted_accounts(collector) == accounts(CALLS)
    assert sorted(len(line["batch"]) for line in loopback.stored(collector.folder)) == [1, 2]


def test_events_arrive_when_the_collector_comes_back(producer: Producer, tmp_path: Path) -> None:
    port = free_port()
    collector = loopback.Program(tmp_path / "data", {"HEADROOM_COLLECT_PORT": str(port)})
    options = {"max_age_seconds": 0.01, "is_problem_expected": True, "close_seconds": SECONDS}
    with producer.started(port, CALLS, **options) as process:
        assert process.stdout is not None
        assert "refused" in process.stdout.readline().lower()
        with collector.running():
            words = last_words(process)
            collector.stop()

    assert words["dropped"] == 0
    assert counted_accounts(collector) == accounts(CALLS)


def test_events_arrive_when_the_collector_was_full(producer: Producer, tmp_path: Path) -> None:
    collector = loopback.Program(tmp_path / "data", {"HEADROOM_COLLECT_MAX_CONNECTIONS": "1"})
    options = {"max_age_seconds": 0.01, "is_problem_expected": True, "close_seconds": SECONDS}
    with collector.running() as port, loopback.raw_connection(port) as other:
        other.sendall(loopback.head("/x", "Expect: 100-continue", "Content-Length: 10"))
        assert b"100 Continue" in other.recv(1000)  # one that is idle would make room
        with producer.started(port, CALLS, **options) as process:
            assert process.stdout is not None
            assert "503" in process.stdout.readline()
            other.close()
            words = last_words(process)
        collector.stop()

    assert words["dropped"] == 0
    assert counted_accounts(collector) == accounts(CALLS)


def test_event_counts_once_when_the_answer_is_lost(producer: Producer, collector: loopback.Program) -> None:
    with LossyNetwork(collector.port, losses=2) as network:
        words = producer.run(network.port, CALLS)
    collector.stop()

    assert (network.lost, words["dropped"]) == (2, 0)
    assert counted.in_segments(collector) == 3 * len(CALLS)
    assert counted_accounts(collector) == accounts(CALLS)


def test_batch_is_halved_when_it_is_too_large(producer: Producer, tmp_path: Path) -> None:
    collector = loopback.Program(tmp_path / "data", {"HEADROOM_COLLECT_MAX_EVENTS": "2"})
    with collector.running() as port:
        words = producer.run(port, CALLS * 2)
        collector.stop()

    assert words["dropped"] == 0
    assert counted_accounts(collector) == accounts(CALLS * 2)


def test_batch_is_sent_again_at_once_when_the_answer_says_so(producer: Producer) -> None:
    with Answering([(429, {"Retry-After": "0"}), (500, {}), (408, {}), (200, {})]) as server:
        words = producer.run(server.port, CALLS)

    assert words["dropped"] == 0
    assert [json.loads(body) for body in server.bodies] == [json.loads(server.bodies[0])] * 4


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 413])
def test_events_are_dropped_and_counted_when_they_are_refused(producer: Producer, status: int) -> None:
    with Answering([(status, {"Location": "/elsewhere"})] * 9) as server:
        words = producer.run(server.port, CALLS, batch_size=1)

    assert words["dropped"] == len(server.bodies) == len(CALLS)
    assert str(status) in words["problem"]


def test_events_are_dropped_and_counted_when_the_queue_is_full(producer: Producer, collector: loopback.Program) -> None:
    words = producer.run(collector.port, CALLS * 2, queue_size=2, max_age_seconds=3600)
    collector.stop()

    assert words["dropped"] == len(CALLS * 2) - 2
    assert counted_accounts(collector) == accounts(CALLS[:2])


def test_events_are_dropped_and_counted_when_it_is_closed_too_early(producer: Producer) -> None:
    words = producer.run(free_port(), CALLS, close_seconds=0.3, captures_after_close=2)

    assert words["dropped"] == len(CALLS) + 2
    assert "closed before they could be sent" in words["problem"]


def test_capture_returns_at_once_when_the_collector_hangs(producer: Producer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        options = {"queue_size": 1000, "batch_size": 10, "close_seconds": 0.2}
        words = producer.run(hanging.getsockname()[1], CALLS * 1000, **options)

    assert words["dropped"] == len(CALLS * 1000)
    assert words["seconds"] < 2  # a thousandth of it is usual for one


def test_event_that_is_no_json_is_dropped_alone(producer: Producer, collector: loopback.Program) -> None:
    half = {"account_id": "acme", "endpoint": "/caf\ud83d"}
    words = producer.run(collector.port, [half, *CALLS], is_bad_captured=True)
    collector.stop()

    assert words["dropped"] == 3
    assert counted_accounts(collector) == accounts([half, *CALLS])


def test_event_counts_once_when_the_process_forks(collector: loopback.Program) -> None:
    producer = Producer((sys.executable, "-S", str(DRIVERS / "snippet.py")), SNIPPETS / "headroom_events.py")
    producer.run(collector.port, CALLS, is_forking=True)
    collector.stop()

    assert counted.in_segments(collector) == len(CALLS) + 1
    assert counted_accounts(collector) == sorted([*accounts(CALLS), "the child of the fork"])
