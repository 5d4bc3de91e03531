"""Paths, and the answers that each client needs (captured from the real libraries)."""

import json
import logging
import re
from datetime import datetime
from pathlib import Path

import pytest

from tests.orchestration.collector.loopback import (
    BEARER,
    KEY,
    OTHER_KEY,
    Collecting,
    events,
    post,
    request,
    settings,
    stored,
    zipped,
)

EVENT = {"event": "api_call", "uuid": "u-1", "distinct_id": "acme", "properties": {"status": 200}}


@pytest.mark.parametrize("path", ["/v1/analytics/demo/", "/v1/analytics/demo"])
def test_analytics_counts_what_it_took(collector: Collecting, path: str) -> None:
    assert post(collector.port, EVENT, path).json == {"accepted": 1, "quarantined": 0}
    assert post(collector.port, [EVENT, EVENT], path).json == {"accepted": 2, "quarantined": 0}
    assert post(collector.port, b'{"a":1}\nbad\n{"b":2}', path).json == {"accepted": 2, "quarantined": 1}


@pytest.mark.parametrize("path", ["/batch/", "/batch"])
def test_posthog_gets_exactly_200_for_a_key_in_the_body(collector: Collecting, path: str) -> None:
    body = {"api_key": KEY, "batch": [EVENT], "sent_at": "2026-11-20T08:00:00+00:00"}
    reply = request(collector.port, path, zipped(json.dumps(body).encode()), {"Content-Encoding": "gzip"})
    assert (reply.status, reply.json) == (200, {"status": 1})
    assert collector.finished() == [EVENT]


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/track", "/v1/import"])
def test_segment_gets_success(collector: Collecting, path: str) -> None:
    event = {"type": "track", "event": "api_call", "userId": "acme", "messageId": "m-1"}
    reply = request(collector.port, path, {"batch": [event], "sentAt": "2026-11-20T08:00:00Z", "writeKey": KEY})
    assert (reply.status, reply.json) == (200, {"success": True})
    assert collector.finished() == [event]


def test_posthog_v1_gets_a_result_for_each_uuid(collector: Collecting) -> None:
    body = {"created_at": "2026-11-20T08:00:00Z", "batch": [EVENT, {**EVENT, "uuid": "u-2"}, {"event": "x"}, 7]}
    reply = post(collector.port, body, "/i/v1/analytics/events")
    assert (reply.status, reply.json) == (200, {"results": {"u-1": {"result": "ok"}, "u-2": {"result": "ok"}}})
    assert post(collector.port, {"batch": []}, "/i/v1/analytics/events").json == {"results": {}}


@pytest.mark.parametrize("is_batch", [True, False])
def test_openmeter_gets_exactly_204(collector: Collecting, is_batch: bool) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "api_call", "subject": "acme", "data": {}}
    kind = "application/cloudevents-batch+json" if is_batch else "application/cloudevents+json"
    reply = post(collector.port, [event] if is_batch else event, "/api/v1/events", Content_Type=kind)
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers
    assert collector.finished() == [event]


def test_any_other_path_takes_events(collector: Collecting) -> None:
    assert post(collector.port, EVENT, "/somewhere/else?x=1").json == {"accepted": 1, "quarantined": 0}
    assert post(collector.port, EVENT, "/").json == {"accepted": 1, "quarantined": 0}
    assert collector.finished() == [EVENT, EVENT]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense"])
def test_content_type_does_not_matter(collector: Collecting, content_type: str | None) -> None:
    headers = {**BEARER, **({"Content-Type": content_type} if content_type else {})}
    assert request(collector.port, "/x", EVENT, headers).status == 200
    assert collector.finished() == [EVENT]


def test_chunked_body_without_a_length_is_taken(collector: Collecting) -> None:
    assert request(collector.port, "/x", EVENT, BEARER, chunks=True).status == 200
    assert collector.finished() == [EVENT]


@pytest.mark.parametrize("path", ["/batch", "/v1/batch", "/i/v1/analytics/events", "/api/v1/events"])
def test_sdk_path_refuses_what_is_not_json(collector: Collecting, path: str) -> None:
    for body in (b"not json", b'{"a":1}\n{"b":2}', b"7", b"\x1f\x8bdamaged", b"[" * 100_000):
        reply = post(collector.port, body, path)
        assert reply.status == 400
        assert "error" in reply.json
    assert collector.finished() == []


def test_damaged_gzip_lands_in_quarantine_on_other_paths(collector: Collecting) -> None:
    damaged = zipped(json.dumps(EVENT).encode())[:-9]
    assert post(collector.port, damaged, "/logs", Content_Encoding="gzip").json == {"accepted": 0, "quarantined": 1}
    collector.stop()
    assert stored(collector.folder)[0]["line"].startswith("\x1f\\x8b")


@pytest.mark.parametrize("body", [b"", b" \n ", b"[]", b'{"batch":[]}', b"\n\n"])
@pytest.mark.parametrize(("path", "status"), [("/x", 200), ("/batch", 200), ("/api/v1/events", 204)])
def test_empty_body_is_a_success_and_stores_nothing(collector: Collecting, body: bytes, path: str, status: int) -> None:
    assert post(collector.port, body, path).status == status
    collector.stop()
    assert list(collector.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/batch/", 400), ("/api/v1/events/", 400), ("/batch//", 400), ("/x/", 200)]
)
def test_slash_at_the_end_makes_no_difference(collector: Collecting, path: str, status: int) -> None:
    assert post(collector.port, b"no json", path).status == status


def test_line_has_the_time_of_arrival_and_the_events_as_they_were_sent(tmp_path: Path) -> None:
    text = b'{"event" : "api_call",\n "n": 12345678901234567890123,\r\n "f": 1.10, "u": "\\u00e9"}\n'
    with Collecting(settings(tmp_path)) as collector:
        post(collector.port, text)
        post(collector.port, b"[" + text + b"," + text + b"]\n")
    lines = [line for path in collector.folder.glob("*.ndjson") for line in path.read_bytes().splitlines(keepends=True)]
    frame = rb'\{"received_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z","received_key":"key-[0-9a-f]{8}",'
    assert all(re.match(frame + rb'"received_source":"demo","batch":\[', line) for line in lines)
    flat = text.replace(b"\n", b" ").replace(b"\r", b" ")
    assert lines[0].endswith(b'"batch":[' + flat + b"]}\n")
    assert lines[1].endswith(b'"batch":[' + flat + b"," + flat + b"] }\n")


def test_time_of_arrival_is_the_fixed_clock_where_there_is_one(tmp_path: Path) -> None:
    config = settings(tmp_path).model_copy(update={"fixed_now": datetime.fromisoformat("2026-11-20T09:00:00+01:00")})
    with Collecting(config) as collector:
        post(collector.port, EVENT)
    assert stored(collector.folder)[0]["received_at"] == "2026-11-20T08:00:00.000000Z"


def test_idempotency_key_is_the_id_of_events_without_one(collector: Collecting) -> None:
    post(collector.port, {"event": "a"}, Idempotency_Key="k1")
    post(collector.port, {"event": "b", "messageId": "own"}, Idempotency_Key='"k2"')
    post(collector.port, [{"event": "c"}, {"id": "own"}, {"event": "d", "uuid": None}, 7], Idempotency_Key="k3")
    post(collector.port, {}, Idempotency_Key="k4")
    assert collector.finished() == [
        {"idempotencyKey": "k1", "event": "a"},
        {"event": "b", "messageId": "own"},
        {"event": "c", "idempotencyKey": "k3-0"},
        {"id": "own"},
        {"event": "d", "uuid": None, "idempotencyKey": "k3-2"},
        7,
        {"idempotencyKey": "k4"},
    ]


def test_pages_answer_get_and_head_and_refuse_other_methods(collector: Collecting) -> None:
    assert request(collector.port, "/healthz", method="GET").json == {"status": "ok"}
    assert request(collector.port, "/readyz", method="GET").json == {"status": "ready"}
    assert "event" in request(collector.port, "/v1/schema.json", method="GET").json["description"]
    empty = request(collector.port, "/healthz", method="HEAD")
    assert (empty.status, empty.body, empty.headers["content-length"]) == (200, b"", "15")
    missing = request(collector.port, "/nowhere", method="GET")
    assert (missing.status, list(missing.json)) == (404, ["error"])
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        refused = request(collector.port, "/batch", b"{}", BEARER, method=method)
        assert (refused.status, list(refused.json), refused.headers["allow"]) == (405, ["error"], "GET, HEAD, POST")
    assert collector.finished() == []


def test_unexpected_error_is_503_without_keys_in_the_log(
    collector: Collecting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"broken by {KEY}")

    monkeypatch.setattr("orchestration.collector.bodies.parse", fail)
    reply = post(collector.port, EVENT)
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert "Traceback" in caplog.text
    assert "broken by [key removed]" in caplog.text
    assert KEY not in caplog.text
    monkeypatch.undo()
    assert post(collector.port, EVENT).status == 200


def test_keys_are_in_no_stored_byte_log_metric_or_answer(
    collector: Collecting, caplog: pytest.LogCaptureFixture
) -> None:
    """All ways to send a key, and all paths: none is in a stored byte, a log, a metric or an answer."""
    caplog.set_level(logging.DEBUG)
    old = "hr_key_of_yesterday_that_is_not_configured"
    bodies = [
        json.dumps({"api_key": KEY, "batch": [{**EVENT, "api_key": old}]}),
        json.dumps({"writeKey": OTHER_KEY, "batch": [{**EVENT, "writeKey": old, "properties": {"token": OTHER_KEY}}]}),
        json.dumps({"token": KEY, **EVENT, "deep": [{"er": f"<{KEY}>"}]}),
        json.dumps({"api_key": OTHER_KEY, **EVENT}).replace("/", "\\/"),
        json.dumps([{**EVENT, "api_key": KEY}, {**EVENT, "x": OTHER_KEY}]),
        json.dumps({**EVENT, KEY: 1}) + f"\nbad line with {KEY}\n" + json.dumps({**EVENT, "api_key": old}),
        f"no json, but {OTHER_KEY}",
    ]
    headers = [
        {},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"Bearer {KEY}wrong"},
        {"X-API-Key": OTHER_KEY, "Idempotency-Key": KEY, "ce-specversion": "1.0", "ce-id": KEY},
    ]
    answers = b""
    for path in ("/batch/", "/v1/batch", "/i/v1/analytics/events", "/api/v1/events", "/v1/analytics/x/", f"/{KEY}"):
        for header in headers:
            for body in bodies:
                answers += request(collector.port, path + f"?api_key={KEY}", body.encode(), header).body
    answers += request(collector.port, f"/nowhere/{KEY}", method="GET").body
    answers += request(collector.port, "/metrics", method="GET").body
    assert len(events(collector.folder)) == 0
    assert len(collector.finished()) > 100
    segments = b"".join(path.read_bytes() for path in collector.folder.iterdir())
    for place in (segments, answers, caplog.text.encode()):
        for key in (KEY, OTHER_KEY, OTHER_KEY.replace("/", "\\/")):
            assert key.encode() not in place
    # A key that is not configured is known by its field; the data of a CloudEvent has none.
    assert not [line for line in stored(collector.folder) if old in json.dumps(line) and "specversion" not in str(line)]
