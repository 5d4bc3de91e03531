"""Several workers: one port, one set of figures, and none that stays dead."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.orchestration.collector.loopback import KEY, Program, events, post, request
from tests.support.waiting import wait_until

WORKERS = {"HEADROOM_COLLECT_WORKERS": "2"}
REQUESTS = 40


def children(process: int) -> list[int]:
    return sorted(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def figure(port: int, sample: str) -> float:
    page = request(port, "/metrics", method="GET").body.decode()
    found = re.search(rf"^headroom_collector_{re.escape(sample)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def send(port: int, first: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        replies = pool.map(
            lambda number: post(port, {"event": "api_call", "uuid": str(number)}), range(first, first + REQUESTS)
        )
        assert {reply.status for reply in replies} == {200}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path, WORKERS)


def test_workers_share_a_port_and_their_figures(program: Program) -> None:
    with program.running() as port:
        wait_until(lambda: figure(port, "workers") == 2)
        send(port, 0)
        wait_until(lambda: len(list(program.folder.glob("*.part"))) == 2)  # both took some, each has its own file
        wait_until(lambda: figure(port, "events_total") == REQUESTS)
        assert [figure(port, "events_total") for _ in range(20)] == [REQUESTS] * 20  # whichever is asked
        assert program.stop() == 0
    assert sorted(int(event["uuid"]) for event in events(program.folder)) == list(range(REQUESTS))


def test_worker_that_dies_is_started_again_and_loses_nothing(program: Program) -> None:
    with program.running() as port:
        wait_until(lambda: figure(port, "workers") == 2)
        before = children(program.process.pid)
        send(port, 0)
        wait_until(lambda: figure(port, "events_total") == REQUESTS)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(children(program.process.pid)) - set(before)) == 1)
        wait_until(lambda: len(list(program.folder.glob("*.ndjson"))) == 1)  # sealed by its successor
        assert figure(port, "events_total") == REQUESTS  # a total that fell would count as a new beginning
        assert program.stop() == 0
    assert "worker 0 ended with status -9: it is started again" in program.log
    assert len(events(program.folder)) == REQUESTS


def test_workers_end_with_their_supervisor(program: Program) -> None:
    with program.running():
        workers = children(program.process.pid)
        assert program.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert list(program.folder.glob("*.part")) == []


def test_hangup_reaches_every_worker(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"acme:{KEY}2")
    program = Program(tmp_path, {**WORKERS, "HEADROOM_COLLECT_KEYS_FILE": str(keys)})
    with program.running() as port:
        wait_until(lambda: figure(port, "workers") == 2)
        keys.write_text(f"acme:{KEY}3")
        program.process.send_signal(signal.SIGHUP)
        said = {program.read_log_until("keys were reloaded").partition("worker ")[2][0] for _ in range(2)}
        assert said == {"0", "1"}
        assert request(port, "/x", b"{}", {"X-API-Key": f"{KEY}3"}).status == 200


def test_port_that_is_taken_is_refused_before_a_worker_starts(program: Program, tmp_path: Path) -> None:
    with program.running() as port:
        other = Program(tmp_path, {**WORKERS, "HEADROOM_COLLECT_PORT": str(port)})
        with pytest.raises(AssertionError, match=f"Cannot listen on 127.0.0.1:{port}"):
            other.start()
        assert other.wait() == 1
    assert len(other.log.splitlines()) == 1
