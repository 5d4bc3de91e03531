"""Events in files: nothing that was acknowledged is lost by a kill, and nothing counts twice."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headroom_gate.spool import SpooledEvents
from tests.support.waiting import wait_until


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes batches, or answers with a status."""

    status = 200
    batches: list[list[dict[str, Any]]]
    keys: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.keys.append(self.headers["Authorization"])
        if type(self).status == 200:
            self.batches.append(body)
        self.send_response(type(self).status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass

    @classmethod
    def events(cls) -> list[dict[str, Any]]:
        return [event for batch in cls.batches for event in batch]


@pytest.fixture
def collector() -> Iterator[tuple[type[Collector], str]]:
    handler = type("Handler", (Collector,), {"batches": [], "keys": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_event_is_sent_and_its_file_is_gone(collector: tuple[type[Collector], str], tmp_path: Path) -> None:
    received, url = collector
    events = SpooledEvents(url, "the-key\n", tmp_path, max_age_seconds=0.01)
    events.capture("acme", endpoint="/v1/search", status=200)
    wait_until(received.events)
    wait_until(lambda: not list(tmp_path.iterdir()))
    events.close()

    (event,) = received.events()
    assert event["event"] == "api_call"
    assert event["properties"] == {"account_id": "acme", "endpoint": "/v1/search", "status": 200}
    assert {*event} == {"event", "uuid", "timestamp", "properties"}
    assert received.keys == ["Bearer the-key"]


def test_event_is_in_a_file_when_capture_returns(tmp_path: Path) -> None:
    events = SpooledEvents("http://127.0.0.1:9/", "key", tmp_path, max_age_seconds=600)
    events.capture("acme")
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_bytes())["properties"] == {"account_id": "acme"}
    assert path.stat().st_mode & 0o777 == 0o600
    events.close()


_GATE = """
import sys
from headroom_gate.spool import SpooledEvents
events = SpooledEvents(sys.argv[1], "key", sys.argv[2], file_bytes=2000, max_age_seconds=0.001)
for number in range(1_000_000):
    events.capture("acme", number=number)
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 50, 333])
def test_kill_9_loses_no_acknowledged_event(
    collector: tuple[type[Collector], str], tmp_path: Path, acknowledged: int
) -> None:
    received, url = collector
    command = [sys.executable, "-c", _GATE, url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        seen = [int(process.stdout.readline()) for _ in range(acknowledged)]
        os.kill(process.pid, signal.SIGKILL)
        seen += [int(line) for line in process.stdout if line.endswith("\n")]

    after = SpooledEvents(url, "key", tmp_path)
    assert after.flush()

    numbers = {event["properties"]["number"] for event in received.events()}
    assert numbers >= set(seen)
    ids = {event["uuid"] for event in received.events()}
    assert len(ids) == len(numbers)  # one that was sent twice has one id
    assert list(tmp_path.iterdir()) == []


def test_collector_that_is_away_gets_the_events_later(collector: tuple[type[Collector], str], tmp_path: Path) -> None:
    received, url = collector
    received.status = 503
    events = SpooledEvents(url, "key", tmp_path, max_age_seconds=600)
    events.capture("acme")
    assert not events.flush()
    assert "503" in events.problem
    received.status = 200

    assert events.flush()
    assert len(received.events()) == 1
    assert events.problem == ""
    events.close()


def test_collector_that_is_away_is_asked_once_for_all_files(
    collector: tuple[type[Collector], str], tmp_path: Path
) -> None:
    received, url = collector
    received.status = 503
    for number in range(3):
        (tmp_path / f"{number}-a.ndjson").write_bytes(b'{"event":"api_call"}\n')

    assert not SpooledEvents(url, "key", tmp_path).flush()

    assert len(received.keys) == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_events_that_the_collector_refuses_for_good_are_put_aside(
    collector: tuple[type[Collector], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    received, url = collector
    received.status = 400
    events = SpooledEvents(url, "key", tmp_path, max_age_seconds=600)
    events.capture("acme")
    assert events.flush()
    events.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".refused"]
    assert "refuses" in caplog.text


def test_events_that_were_put_aside_fill_the_folder_too(
    collector: tuple[type[Collector], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    received, url = collector
    received.status = 400
    events = SpooledEvents(url, "key", tmp_path, max_age_seconds=600, folder_bytes=100)
    for _ in range(3):
        events.capture("acme")
        events.flush()
    events.close()
    assert events.dropped == 2
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("url", ["headroom.example.com/v1/analytics/my-api/", "file:///etc/passwd", ""])
def test_address_that_is_none_is_refused_at_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="is not an address of a collector"):
        SpooledEvents(url, "key", tmp_path)


def test_key_that_no_header_can_have_is_a_problem_and_events_wait(tmp_path: Path) -> None:
    events = SpooledEvents("http://127.0.0.1:9/", "ключ", tmp_path, max_age_seconds=600)
    events.capture("acme")
    assert not events.flush()
    assert "UnicodeEncodeError" in events.problem
    events.close()


def test_file_of_a_process_that_runs_is_left_to_it(collector: tuple[type[Collector], str], tmp_path: Path) -> None:
    received, url = collector
    owner = SpooledEvents(url, "key", tmp_path, max_age_seconds=600)
    owner.capture("acme")
    SpooledEvents(url, "key", tmp_path).flush()
    assert received.events() == []
    owner.close()
    assert len(received.events()) == 1


def test_line_that_a_crash_cut_off_is_not_sent(collector: tuple[type[Collector], str], tmp_path: Path) -> None:
    received, url = collector
    (tmp_path / "1-a.open").write_bytes(b'{"event":"api_call"}\n{"event":"api_c')
    assert SpooledEvents(url, "key", tmp_path).flush()
    assert received.events() == [{"event": "api_call"}]


def test_folder_that_is_full_drops_events_and_counts_them(tmp_path: Path) -> None:
    events = SpooledEvents("http://127.0.0.1:9/", "key", tmp_path, max_age_seconds=600, file_bytes=1, folder_bytes=1)
    for _ in range(3):
        events.capture("acme")
    assert events.dropped == 2
    events.close()
