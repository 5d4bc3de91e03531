"""A line for each request, without anything that a client must not find in a log."""

import io
import json
from pathlib import Path

import pytest

from orchestration.collector import access_log
from orchestration.collector.access_log import AccessLog
from tests.orchestration.collector.loopback import KEY, Collecting, post, request, settings


def test_request_leaves_one_line_of_json_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = f"acme:{KEY}"
    with Collecting(settings(tmp_path, keys=named, access_log="json")) as collector:
        assert post(collector.port, [{"event": "api_call"}] * 2, f"/v1/{KEY}/x?api_key={KEY}").status == 200
        assert request(collector.port, "/batch", b"{}", {"X-API-Key": f"{KEY}x"}).status == 401
        assert request(collector.port, "/metrics", method="GET").status == 200
        collector.stop()
    text = capsys.readouterr().out
    stored, refused = map(json.loads, text.splitlines())
    assert KEY not in text
    assert {name: stored[name] for name in ("client", "method", "path", "status", "events", "key")} == {
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/[key removed]/x",
        "status": 200,
        "events": 2,
        "key": "acme",
    }
    assert 0 < stored["seconds"] < 60
    assert stored["bytes"] > 20
    assert (refused["status"], refused["refused"], refused["key"], refused["events"]) == (401, "key", "unknown", 0)


def test_text_is_one_line_whatever_the_path_is() -> None:
    stream = io.StringIO()
    log = AccessLog("text", stream)
    log.add({"path": 'a\nb "\x1b[31m', "status": 200})
    log.close(10)
    assert stream.getvalue() == 'path="a\\nb \\"\\u001b[31m" status=200\n'


def test_lines_that_nobody_takes_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING", 0)
    stream = io.StringIO()
    log = AccessLog("json", stream)
    log.add({"status": 200})
    log.close(10)
    assert json.loads(stream.getvalue())["dropped"] == 1
