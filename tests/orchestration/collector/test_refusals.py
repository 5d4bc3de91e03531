"""A client that sends all of its body before it reads sees why it was refused, and not a reset."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest

from orchestration.collector import protocol
from orchestration.collector.clients import EVICTED_SECONDS, LINGER_SECONDS
from tests.clients import nginx
from tests.orchestration.collector.loopback import (
    Collecting,
    head,
    post,
    raw_connection,
    read_all,
    read_reply,
    request,
    settings,
)
from tests.support.waiting import wait_until

LARGE_BYTES = 12 * 2**20
"""More than the sockets of both sides hold together."""
LIMIT_SECONDS = 1000.0
WRONG = "Authorization: Bearer wrong"
EVENT = b'{"event":"api_call"}'


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Collecting]:
    limits = {"max_body_bytes": 1000, "max_pending_bytes": 1000, "max_connections": 2, "request_seconds": LIMIT_SECONDS}
    with Collecting(settings(tmp_path, **limits)) as running:
        yield running


def answer_after_all(port: int, *lines: str, key: bool = True, size: int = LARGE_BYTES) -> bytes:
    """What a blocking client reads that looks for an answer only when everything is sent."""
    with raw_connection(port) as connection:
        connection.sendall(head("/batch/", f"Content-Length: {size}", "Connection: close", *lines, key=key))
        connection.sendall(bytes(size))
        return read_until_end(connection)


def read_until_end(connection: socket.socket) -> bytes:
    """A reset fails here."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def busy(collector: Collecting, stack: ExitStack, body_bytes: int) -> None:
    """A connection with a request that does not end."""
    connection = stack.enter_context(raw_connection(collector.port))
    connection.sendall(head("/x", "Content-Length: 1000") + bytes(body_bytes))
    if body_bytes:
        wait_until(lambda: collector.figure("headroom_collector_pending_bytes") == body_bytes)


def test_wrong_key_is_seen_after_the_whole_body(small: Collecting) -> None:
    assert answer_after_all(small.port, WRONG, key=False).startswith(b"HTTP/1.1 401 ")


def test_too_long_body_is_seen_to_be_so_after_all_of_it(small: Collecting) -> None:
    assert answer_after_all(small.port).startswith(b"HTTP/1.1 413 ")


def test_full_memory_is_seen_after_the_whole_body(tmp_path: Path) -> None:
    limits = {"max_body_bytes": LARGE_BYTES // 2, "max_pending_bytes": LARGE_BYTES // 2 - 1}
    with Collecting(settings(tmp_path, **limits)) as collector:
        assert answer_after_all(collector.port, size=LARGE_BYTES // 2).startswith(b"HTTP/1.1 503 ")


def test_full_collector_is_seen_after_the_whole_body(small: Collecting) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            busy(small, stack, 0)
        answer = answer_after_all(small.port)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"too many connections" in answer


@pytest.mark.parametrize("line", ["Content-Length: 900", "Transfer-Encoding: chunked"])
def test_lateness_is_seen_by_a_client_that_goes_on_sending(small: Collecting, line: str) -> None:
    with raw_connection(small.port) as connection:
        connection.sendall(head("/x", line) + b"1")
        wait_until(lambda: request(small.port, "/healthz", method="GET").status == 200)
        small.let_pass(LIMIT_SECONDS)
        small.wait_for('headroom_collector_refused_total{reason="slow"}', 1)
        connection.sendall(bytes(LARGE_BYTES))
        assert read_until_end(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("text", [b"nonsense\r\n\r\n", head("/x", *(f"X-{number}: y" for number in range(101)))])
def test_unreadable_request_is_seen_to_be_so_by_who_goes_on(small: Collecting, text: bytes) -> None:
    with raw_connection(small.port) as connection:
        connection.sendall(text)
        small.wait_for('headroom_collector_refused_total{reason="protocol"}', 1)
        connection.sendall(bytes(LARGE_BYTES))
        assert read_until_end(connection).startswith(b"HTTP/1.1 400 ")


def test_refused_client_that_does_not_close_is_given_up(small: Collecting) -> None:
    with raw_connection(small.port) as connection:
        connection.sendall(head("/x", WRONG, "Content-Length: 900", "Connection: close", key=False))
        assert read_until_end(connection).startswith(b"HTTP/1.1 401 ")  # at once
        assert small.figure("headroom_collector_connections") == 2
        small.let_pass(LINGER_SECONDS + 1)
        small.wait_for("headroom_collector_connections", 1)


def test_refused_client_that_sends_without_end_is_cut_off(small: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_DISCARDED_BYTES", 50_000)
    for start in (head("/x", WRONG, "Content-Length: 100000000", "Connection: close", key=False), b"nonsense\r\n\r\n"):
        with raw_connection(small.port) as connection:
            connection.sendall(start)
            with pytest.raises(OSError):
                while True:
                    connection.sendall(bytes(10_000))


def test_connection_ends_at_once_when_all_was_read(small: Collecting) -> None:
    with raw_connection(small.port) as connection:
        connection.sendall(head("/x", WRONG, "Content-Length: 900", "Connection: close", key=False) + bytes(900))
        assert read_until_end(connection).startswith(b"HTTP/1.1 401 ")
        small.wait_for("headroom_collector_connections", 1)


def test_client_that_says_it_sends_no_more_gets_its_answer(collector: Collecting) -> None:
    with raw_connection(collector.port) as connection:
        connection.sendall(head("/x", f"Content-Length: {len(EVENT)}") + EVENT)
        connection.shutdown(socket.SHUT_WR)
        assert read_until_end(connection).startswith(b"HTTP/1.1 200 ")


def test_probes_are_answered_when_the_collector_is_full(small: Collecting) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            busy(small, stack, 0)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert request(small.port, path, method="GET").status == 200
        reply = post(small.port, EVENT)
        assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
        count = 'headroom_collector_requests_total{path="/v1/analytics/{project}",status="503"}'
        assert small.figure(count) == 1
        assert small.figure('headroom_collector_refused_total{reason="connections"}') == 1


def test_refusals_before_the_head_ends_are_counted_as_requests(small: Collecting) -> None:
    with raw_connection(small.port) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
    with raw_connection(small.port) as connection:
        connection.sendall(b"POST /x HT")
        wait_until(lambda: request(small.port, "/healthz", method="GET").status == 200)
        small.let_pass(LIMIT_SECONDS)
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
    for status in (400, 408):
        assert small.figure(f'headroom_collector_requests_total{{path="/{{unread}}",status="{status}"}}') == 1


@pytest.mark.parametrize("kind", ["silent", "between requests"])
def test_idle_connections_make_room_for_others(small: Collecting, kind: Literal["silent", "between requests"]) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(raw_connection(small.port)) for _ in range(2)]
        if kind == "between requests":
            for connection in idle:
                connection.sendall(head("/x", f"Content-Length: {len(EVENT)}") + EVENT)
                assert read_reply(connection).startswith(b"HTTP/1.1 200 ")
        small.wait_for("headroom_collector_connections", 3)
        small.let_pass(EVICTED_SECONDS + 1)
        wait_until(lambda: post(small.port, EVENT).status == 200)
        assert read_until_end(idle[0]) == b""
        small.wait_for("headroom_collector_connections", 2)  # one of the two is still there


def test_request_under_way_is_not_closed_to_make_room(small: Collecting) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            busy(small, stack, 0)
        small.let_pass(EVICTED_SECONDS + 1)
        for _ in range(3):
            assert post(small.port, EVENT).status == 503
        small.wait_for("headroom_collector_connections", 3)  # also the one that asks


@pytest.mark.parametrize("directive", ["", "proxy_request_buffering off;", "proxy_http_version 1.1;"])
def test_nginx_passes_every_refusal_on(small: Collecting, tmp_path: Path, directive: str) -> None:
    with nginx.in_front(small.port, tmp_path / "nginx", directive) as port, ExitStack() as stack:
        small.wait_for("headroom_collector_connections", 1)  # only the one that asks
        for number in range(3):
            size = LARGE_BYTES + number
            assert answer_after_all(port, WRONG, key=False, size=size).startswith(b"HTTP/1.1 401 ")
            assert answer_after_all(port, size=size).startswith(b"HTTP/1.1 413 ")
        busy(small, stack, 900)
        assert answer_after_all(port, size=950).startswith(b"HTTP/1.1 503 ")
        busy(small, stack, 0)
        for _ in range(3):
            answer = answer_after_all(port)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"too many connections" in answer


def test_nginx_passes_lateness_on(small: Collecting, tmp_path: Path) -> None:
    late = 'headroom_collector_refused_total{reason="slow"}'
    with (
        nginx.in_front(small.port, tmp_path / "nginx", "proxy_request_buffering off;") as port,
        raw_connection(port) as connection,
    ):
        connection.sendall(head("/x", "Content-Length: 900") + b"1")
        small.wait_for("headroom_collector_pending_bytes", 1)
        small.let_pass(LIMIT_SECONDS)
        small.wait_for(late, 1)
        connection.sendall(bytes(899))
        assert read_reply(connection).startswith(b"HTTP/1.1 408 ")
