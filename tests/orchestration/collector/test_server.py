"""The process: kills, signals, and refusals to start."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.orchestration.collector.loopback import (
    BEARER,
    KEY,
    Program,
    events,
    head,
    post,
    raw_connection,
    read_all,
    request,
    settings,
    stored,
)
from tests.support.waiting import PATIENCE_SECONDS, wait_until

KILLS = 20
SENDERS = 4
EVENT = b'{"event":"api_call"}'


class Sender(threading.Thread):
    """Sends numbered events on one connection until it breaks, and remembers what was acknowledged."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__()
        self.port, self.prefix = port, name
        self.acknowledged: list[str] = []

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        number = 0
        try:
            while True:
                ids = [f"{self.prefix}-{number + offset}" for offset in range(1 + number % 3)]
                number += len(ids)
                body = json.dumps([{"event": "api_call", "uuid": each, "pad": "x" * 300} for each in ids])
                connection.request("POST", "/v1/analytics/x/", body, BEARER)
                response = connection.getresponse()
                response.read()
                assert response.status == 200
                self.acknowledged += ids
        except (OSError, HTTPException):
            return
        finally:
            connection.close()


def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    chance = random.Random(4711)
    for kill in range(KILLS):
        program = Program(tmp_path, {"HEADROOM_COLLECT_SEAL_SECONDS": chance.choice(["0.01", "0.1", "10"])})
        with program.running() as port:  # what the one before left is sealed before it listens
            assert acknowledged <= {event["uuid"] for event in events(program.folder)}
            senders = [Sender(port, f"{kill}-{number}") for number in range(SENDERS)]
            for sender in senders:
                sender.start()
            wait_until(lambda: all(sender.acknowledged for sender in senders))  # noqa: B023 - waits here
            time.sleep(chance.random() * 0.1)
            assert program.stop(signal.SIGKILL) == -signal.SIGKILL
            for sender in senders:
                sender.join()
                acknowledged.update(sender.acknowledged)
    program = Program(tmp_path)
    with program.running():
        assert program.stop() == 0
    found = Counter(event["uuid"] for event in events(program.folder))  # each line is whole: it was parsed
    assert len(acknowledged) > KILLS * SENDERS
    assert acknowledged <= set(found)
    assert set(found.values()) == {1}
    assert [path.name for path in program.folder.iterdir() if path.suffix != ".ndjson"] == []


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_what_is_under_way_and_seals(tmp_path: Path, name: int) -> None:
    program = Program(tmp_path)
    with program.running() as port:
        assert post(port, EVENT).status == 200
        with raw_connection(port) as idle, raw_connection(port) as busy:
            idle.sendall(head("/x", f"Content-Length: {len(EVENT)}") + EVENT)
            assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
            busy.sendall(head("/x", f"Content-Length: {len(EVENT)}", "Expect: 100-continue"))
            assert busy.recv(1000).startswith(b"HTTP/1.1 100 ")
            program.process.send_signal(name)
            assert read_all(idle) == b""
            with pytest.raises(OSError):
                raw_connection(port).close()
            busy.sendall(EVENT)
            answer = read_all(busy)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close\r\n" in answer
        assert program.wait() == 0
    assert len(events(program.folder)) == 3
    assert list(program.folder.glob("*.part")) == []


def test_grace_serves_on_while_readiness_says_stopping(tmp_path: Path) -> None:
    program = Program(tmp_path, {"HEADROOM_COLLECT_GRACE_SECONDS": "3600"})
    with program.running() as port:
        program.process.send_signal(signal.SIGTERM)
        wait_until(lambda: request(port, "/readyz", method="GET").status == 503)
        assert b"stopping" in request(port, "/readyz", method="GET").body
        assert request(port, "/healthz", method="GET").status == 200
        assert post(port, EVENT).status == 200
        assert program.stop() == 0  # a second signal ends the grace
    assert len(events(program.folder)) == 1


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_stop_comes_after_the_grace_or_at_once_by_ctrl_c(tmp_path: Path, name: int) -> None:
    grace = "0.1" if name == signal.SIGTERM else "3600"
    program = Program(tmp_path, {"HEADROOM_COLLECT_GRACE_SECONDS": grace})
    with program.running() as port:
        assert post(port, EVENT).status == 200
        assert program.stop(name) == 0
    assert len(events(program.folder)) == 1


def test_disk_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """The acknowledged event is sealed by the next collector; the one that hung was not acknowledged."""
    hang = """
import os, pathlib, threading
real = os.fdatasync
def hanging(descriptor):
    if pathlib.Path(os.environ["HANGS"]).exists():
        threading.Event().wait()
    real(descriptor)
os.fdatasync = hanging
"""
    sign = tmp_path / "hangs"
    program = Program(tmp_path, {"HANGS": str(sign), "HEADROOM_COLLECT_STOP_SECONDS": "0.2"}, before=hang)
    with program.running() as port:
        assert post(port, b'{"event":"api_call","uuid":"1"}').status == 200
        sign.touch()
        with raw_connection(port) as waiting:
            waiting.sendall(head("/x", f"Content-Length: {len(EVENT)}") + EVENT)
            wait_until(lambda: b"pending_bytes 0.0" not in request(port, "/metrics", method="GET").body)
            assert program.stop() == 1
            assert read_all(waiting) == b""
    assert f"The collector stopped without {program.folder}, which does not answer" in program.log
    assert "Traceback" not in program.log
    after = Program(tmp_path)
    with after.running():
        assert after.stop() == 0
    assert "1" in [event.get("uuid") for event in events(program.folder)]


def test_hangup_reads_keys_again_and_keeps_those_of_before_if_bad(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"acme:{KEY}2")
    program = Program(tmp_path, {"HEADROOM_COLLECT_KEYS_FILE": str(keys)})
    with program.running() as port:
        given = {"X-API-Key": f"{KEY}2"}
        assert request(port, "/x", EVENT, given).status == 200
        keys.write_text("short")
        program.process.send_signal(signal.SIGHUP)
        assert "those of before stay in use" in program.read_log_until("keys were")
        assert request(port, "/x", EVENT, given).status == 200
        keys.write_text(f"acme:{KEY}3")
        program.process.send_signal(signal.SIGHUP)
        assert "acme" in program.read_log_until("keys were")
        assert request(port, "/x", EVENT, given).status == 401
        assert request(port, "/x", EVENT, {"X-API-Key": f"{KEY}3"}).status == 200
        assert program.stop() == 0
    assert f"{KEY}3" not in program.log


def test_stop_does_not_wait_for_a_client_that_does_not_finish(tmp_path: Path) -> None:
    program = Program(tmp_path, {"HEADROOM_COLLECT_REQUEST_SECONDS": "0.5"})
    with program.running() as port, raw_connection(port) as connection:
        connection.sendall(head("/x", "Content-Length: 100", "Expect: 100-continue"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # it has the head, and waits for the rest
        connection.sendall(b"half")
        assert program.stop() == 0
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_readiness_says_when_it_is_stopping(tmp_path: Path) -> None:
    program = Program(tmp_path)
    with program.running() as port, raw_connection(port) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\n")
        wait_until(lambda: b"connections 2.0" in request(port, "/metrics", method="GET").body)
        program.process.send_signal(signal.SIGTERM)
        for line in program.process.stderr or []:
            if "stopping" in line:
                break
        connection.sendall(b"\r\n")
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"stopping" in answer
        assert program.wait() == 0


def test_time_of_arrival_is_now(tmp_path: Path) -> None:
    program = Program(tmp_path)
    with program.running() as port:
        before = time.time_ns() // 1000
        post(port, EVENT)
        after = time.time_ns() // 1000
        program.stop()
    (line,) = stored(program.folder)
    from datetime import datetime

    assert before <= datetime.fromisoformat(line["received_at"]).timestamp() * 1e6 + 1 <= after + 2


def test_address_that_is_taken_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        program = Program(tmp_path, {"HEADROOM_COLLECT_PORT": str(taken.getsockname()[1])})
        with pytest.raises(AssertionError, match="HEADROOM_COLLECT_PORT"):
            program.start()
        assert program.wait() == 1
    assert len(program.log.splitlines()) == 1
    assert KEY not in program.log


def test_command_says_in_one_line_that_it_cannot_listen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        own = {"HEADROOM_DATA": str(tmp_path), "HEADROOM_COLLECT_PORT": str(taken.getsockname()[1])}
        done = subprocess.run(
            [sys.executable, "-m", "orchestration.cli.main", "collect"],
            env={**os.environ, **own, "HEADROOM_COLLECT_KEYS": KEY},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_all_addresses_are_those_of_ipv4_and_ipv6(tmp_path: Path) -> None:
    program = Program(tmp_path, {"HEADROOM_COLLECT_HOST": "::"})
    with program.running() as port:
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port)) as client:
                client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert client.makefile("rb").readline().startswith(b"HTTP/1.1 200")
        assert f"http://[::]:{port}" in program.log


def test_folder_that_cannot_be_made_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "landing").write_text("a file")
    program = Program(tmp_path)
    with pytest.raises(AssertionError, match="HEADROOM_LANDING"):
        program.start()
    assert program.wait() == 1


def test_settings_do_not_show_keys(tmp_path: Path) -> None:
    assert KEY not in repr(settings(tmp_path))
