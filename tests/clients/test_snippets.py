"""Our snippets, in processes of their own against the real collector: nothing counts twice, and no loss is silent."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.usage.events import Rejection
from tests.clients import counted, installed
from tests.clients.answering import Answering
from tests.clients.producer import (
    AS_NODE_20_RUNS_IT,
    DRIVERS,
    PYTHON,
    SECONDS,
    TYPESCRIPT,
    Producer,
    compile_in_new_project,
    last_words,
)
from tests.clients.proxy import LossyNetwork
from tests.orchestration.collector import loopback

OLDER_TYPESCRIPT = installed.node("typescript@5.9.3", "@types/node@20.19.25")
AS_INIT_ADVISES_FOR_NODE = ("--lib", "esnext", "--types", "node")
CALLS = [{"account_id": name, "endpoint": "/v1/search", "status": 200} for name in ("acme", "acme", "čaj & 数")]


@pytest.fixture(params=["python", pytest.param("typescript", marks=pytest.mark.clients)])
def producer(request: pytest.FixtureRequest) -> Producer:
    if request.param == "python":
        return PYTHON
    compiled: Path = request.getfixturevalue("compiled")
    return Producer((installed.node_program(), str(DRIVERS / "snippet.cjs")), compiled)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TypeScript snippet as JavaScript."""
    return compile_in_new_project(TYPESCRIPT, tmp_path_factory.mktemp("snippet"), *AS_NODE_20_RUNS_IT)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[loopback.Program]:
    program = loopback.Program(tmp_path / "data")
    with program.running():
        yield program


def accounts(captures: list[dict[str, Any]]) -> list[str]:
    return sorted(str(each["account_id"]) for each in captures)


def counted_accounts(collector: loopback.Program, reported: int = 0) -> list[str]:
    """The accounts whose calls count; nothing else may be in quarantine than the report of lost events."""
    calls = counted.in_lake(collector.data, rejected=[Rejection.DROPPED] if reported else [])
    said = [json.loads(line)["properties"]["dropped"] for _, line in counted.rejected_lines(collector.data)]
    assert sum(said) == reported
    return [call.account_id for call in calls]


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
    refusals = [(401, {})] * 100  # what is refused is sent again, how often before the process ends is chance
    with Answering(refusals) as server, producer.started(server.port, CALLS, **options) as process:
        assert process.stdout is not None
        assert "401" in process.stdout.readline()

    sent = {event["uuid"] for body in server.bodies for event in json.loads(body)}
    assert 1 <= len(sent) <= len(CALLS)


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


@pytest.mark.parametrize(
    ("status", "refused_seconds"),
    [(400, 900), (413, 900), (415, 900), (422, 900), (301, 0), (302, 0), (307, 0), (401, 0), (403, 0), (404, 0)],
)
def test_events_are_dropped_and_counted_when_they_are_refused(
    producer: Producer, status: int, refused_seconds: float
) -> None:
    with Answering([(status, {"Location": "/elsewhere"})] * 9) as server:
        words = producer.run(server.port, CALLS, batch_size=1, refused_seconds=refused_seconds)

    sent = [event for body in server.bodies for event in json.loads(body)]
    assert words["dropped"] == len({event["uuid"] for event in sent if event["event"] == "api_call"}) == len(CALLS)
    assert str(status) in words["problem"]
    # a batch of one event and the report of lost ones is halved once
    assert len(server.bodies) == (7 if status == 413 else len(CALLS))


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_events_arrive_when_key_or_address_were_refused_for_a_while(producer: Producer, status: int) -> None:
    with Answering([(status, {"Retry-After": "0"})] * 3 + [(200, {})]) as server:
        words = producer.run(server.port, CALLS)

    assert words["dropped"] == 0
    assert [json.loads(body) for body in server.bodies] == [json.loads(server.bodies[0])] * 4


def test_lost_events_are_reported_once_by_the_next_batch(producer: Producer) -> None:
    answers: list[tuple[int, dict[str, str]]] = [
        (400, {}),
        (400, {}),
        (503, {"Retry-After": "0"}),
        (200, {}),
        (200, {}),
    ]
    with Answering(answers) as server:
        words = producer.run(server.port, CALLS, later_captures=[*CALLS])

    batches = [json.loads(body) for body in server.bodies]
    reports = [[e["properties"] for e in batch if e["event"] == "events_dropped"] for batch in batches]
    three, four = [{"dropped": count, "problem": reports[2][0]["problem"]} for count in (3, 4)]
    assert reports == [[], [three], [four], [four], []]
    assert "400" in four["problem"]
    assert batches[2] == batches[3]  # with the same ids
    assert words["dropped"] == 4


def test_events_are_dropped_and_counted_when_the_queue_is_full(producer: Producer, collector: loopback.Program) -> None:
    words = producer.run(collector.port, CALLS * 2, queue_size=2, max_age_seconds=3600)
    collector.stop()

    assert words["dropped"] == len(CALLS * 2) - 2
    assert counted_accounts(collector, reported=words["dropped"]) == accounts(CALLS[:2])


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
    assert counted_accounts(collector, reported=3) == accounts([half, *CALLS])


@pytest.mark.parametrize("child", ["fork", "fork in C", "multiprocessing", "pool"])
def test_event_counts_once_when_the_process_has_a_child(collector: loopback.Program, child: str) -> None:
    words = PYTHON.run(collector.port, CALLS, child=child, max_age_seconds=3600)
    collector.stop()

    assert words["dropped"] == 0
    assert counted.in_segments(collector) == len(CALLS) + 1
    assert counted_accounts(collector) == sorted([*accounts(CALLS), "the child"])


@pytest.mark.clients
@pytest.mark.parametrize("typescript", [TYPESCRIPT, OLDER_TYPESCRIPT], ids=lambda packages: packages.names[0])
@pytest.mark.parametrize("options", [(), AS_INIT_ADVISES_FOR_NODE], ids=["for any", "for Node"])
def test_snippet_compiles_in_a_new_project(
    typescript: installed.Packages, options: tuple[str, ...], tmp_path: Path
) -> None:
    assert compile_in_new_project(typescript, tmp_path, *options).exists()
