"""Keys in a body that is not parsed: where they are found, and what a client without one can make the collector do."""

import json
import tracemalloc
from pathlib import Path

import orjson
import pytest

from orchestration.collector import bodies
from orchestration.collector.body_keys import MAX_PLACES, candidates
from tests.orchestration.collector.loopback import (
    KEY,
    OTHER_KEY,
    Collecting,
    head,
    raw_connection,
    read_reply,
    request,
    settings,
    zipped,
)
from tests.support.waiting import wait_until

EVENT = {"event": "api_call", "uuid": "u-1", "properties": {"token": "another's", "api_key": "another's"}}
EVENTS = [EVENT] * (3 * MAX_PLACES)
HTML = json.dumps(OTHER_KEY).replace("/", "\\/").replace("=", "\\u003d").encode()
"""As PHP and Gson write it."""


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"api_key": KEY, "batch": EVENTS}).encode(),
        json.dumps({"batch": EVENTS, "sentAt": "2026-11-20T08:00:00Z", "writeKey": KEY}).encode(),
        json.dumps({"batch": EVENTS, "api_key": KEY}, indent=4).encode(),
        json.dumps({**EVENT, "token": KEY}).encode(),
        orjson.dumps({"token": KEY, "batch": EVENTS}),
        b'{"batch":[{}],"api_key":' + HTML + b"}",
        b'\xef\xbb\xbf{"x":NaN,"batch":[{"u":"\\ud800"}],"api_key":' + HTML + b"}",
    ],
)
def test_key_in_the_body_is_found_wherever_clients_write_it(collector: Collecting, body: bytes) -> None:
    found = list(candidates(body))
    assert KEY.encode() in found or OTHER_KEY.encode() in found
    assert request(collector.port, "/batch/", body).status == 200
    assert request(collector.port, "/batch/", zipped(body)).status == 200


def test_search_for_a_key_ends_whatever_the_body_is() -> None:
    for text in (
        b'"token":"x",',
        b'"token":',
        b'"token":"\\',
        b'"token"' + b" " * 70 + b":",
        b'"api_key":"' + b"x" * 700,
    ):
        assert len(list(candidates(text * 2000))) <= 2 * MAX_PLACES


@pytest.mark.parametrize("text", [b'{"a":{}},', b"[],", b'{"a":"\\ud800"},', b'"\\ud800",'])
def test_body_without_a_key_is_not_parsed(collector: Collecting, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(bodies, "parse", fail)
    body = b'{"batch":[' + text * 100_000 + b'0],"api_key":"wrong"}'
    assert request(collector.port, "/batch/", body).status == 401
    assert request(collector.port, "/x", body, {"Authorization": "Bearer wrong"}).status == 401
    assert request(collector.port, "/x", body, {"X-API-Key": "wrong"}).status == 401


def test_four_kilobytes_without_a_key_cost_little_memory() -> None:
    bomb = zipped(b'{"batch":[' + b'{"a":{}},' * 500_000 + b"0]}")
    assert len(bomb) < 12_000
    tracemalloc.start()
    with pytest.raises(bodies.RefusedError) as refused:
        bodies.inflate(bomb, b"gzip", 6 * 2**20, is_proven=False)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (refused.value.answer.status, refused.value.reason) == (413, "ratio")
    assert most_bytes < 200 * len(bomb)
    assert len(bodies.inflate(bomb, b"gzip", 6 * 2**20)) > 4_000_000


@pytest.mark.parametrize("path", ["/v1/logs", "/x"])
def test_body_that_has_no_place_for_a_key_is_refused_unread(collector: Collecting, path: str) -> None:
    lines = ("Content-Length: 1000", "ce-specversion: 1.0" if path == "/x" else "X: y")
    with raw_connection(collector.port) as connection:
        connection.sendall(head(path, *lines, key=False))
        assert read_reply(connection).startswith(b"HTTP/1.1 401 ")


def test_refusal_before_the_key_is_seen_says_what_it_is(tmp_path: Path) -> None:
    """PostHog's libraries send the key in the body, drop a batch on 401 and repeat it on 503."""
    event = json.dumps({"api_key": KEY, "batch": [{"uuid": str(number)} for number in range(40)]}).encode()
    limits = {"max_body_bytes": len(event), "max_pending_bytes": len(event) + 100, "max_events": 40}
    with Collecting(settings(tmp_path, **limits)) as collector:
        port = collector.port
        assert request(port, "/batch/", event + b" ").status == 413
        assert request(port, "/batch/", event + b" ", chunks=True).status == 413
        assert request(port, "/batch/", zipped(event + b" ")).status == 413
        assert request(port, "/batch/", {"batch": [0] * 41, "api_key": KEY}).status == 413
        assert request(port, "/batch/", {"batch": [0] * 41, "api_key": "wrong"}).status == 401
        assert request(port, "/batch/", zipped(event)).status == 503  # both as sent and unpacked it is too much
        assert request(port, "/batch/", event, {"Content-Encoding": "br"}).status == 415
        assert request(port, "/batch/", zipped(event)[:-9]).status == 400
        assert request(port, "/batch/", b'{"api_key":"' + KEY.encode() + b'"').status == 400
        with raw_connection(port) as slow:
            slow.sendall(head("/batch", "Content-Length: 600") + b" " * 500)
            wait_until(lambda: collector.figure("headroom_collector_pending_bytes") == 500)
            reply = request(port, "/batch/", event)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert request(port, "/batch/", event, chunks=True).status == 503


def test_batch_of_the_size_that_posthog_sends_is_taken(collector: Collecting) -> None:
    """Its Python library closes a batch with the event that passes 5 MiB, and an event has up to 900 KiB."""
    batch = [{"event": "api_call", "uuid": str(number), "properties": {"x": "y" * 900_000}} for number in range(6)]
    batch.append({"event": "api_call", "uuid": "last", "properties": {"x": "y" * 765_000}})
    body = json.dumps({"batch": batch, "sentAt": "2026-11-20T08:00:00Z", "api_key": KEY}).encode()
    assert 5 * 2**20 + 900 * 2**10 < len(body) < 6 * 2**20
    assert request(collector.port, "/batch/", body).status == 200
    packed = zipped(json.dumps({"batch": [EVENT] * 10, "api_key": KEY}).encode())
    assert request(collector.port, "/batch/", packed, {"Content-Encoding": "gzip"}).status == 200
    assert len(collector.finished()) == 17
