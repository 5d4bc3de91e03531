"""What a client can do to a connection, and what it cannot."""

import json
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from orchestration.collector import protocol
from tests.orchestration.collector.loopback import (
    BEARER,
    KEY,
    Collecting,
    Program,
    events,
    head,
    post,
    raw_connection,
    read_all,
    read_reply,
    request,
    settings,
    zipped,
)
from tests.support.waiting import PATIENCE_SECONDS, wait_until

EVENT = b'{"event":"api_call"}'
LENGTH = f"Content-Length: {len(EVENT)}"
MEMORY_BYTES = 300 * 2**20


def still_serves(collector: Collecting) -> None:
    before = collector.figure("headroom_collector_events_total")
    assert post(collector.port, EVENT).status == 200
    assert collector.figure("headroom_collector_events_total") == before + 1
    assert collector.figure("headroom_collector_pending_bytes") == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Collecting]:
    """A collector whose limits are reached at once."""
    limits = {"max_body_bytes": 1000, "max_pending_bytes": 1500, "max_connections": 4, "max_events": 5}
    with Collecting(settings(tmp_path, **limits)) as running:
        yield running


LIMIT_SECONDS = 1000.0
"""What the tests themselves never need for a request, and then let pass by the collector's clock."""


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Collecting]:
    with Collecting(settings(tmp_path, request_seconds=LIMIT_SECONDS, idle_seconds=LIMIT_SECONDS)) as running:
        yield running


def wait_until_read(collector: Collecting) -> None:
    """What was sent before is read when a connection that was made later is answered."""
    assert request(collector.port, "/healthz", method="GET").status == 200


def test_declared_length_above_the_limit_is_refused_without_the_body(small: Collecting) -> None:
    with raw_connection(small.port) as connection:
        connection.sendall(head("/x", "Content-Length: 1001"))
        assert read_reply(connection).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"x" * 1001 + head("/x", LENGTH) + EVENT)  # the connection goes on behind it
        assert read_reply(connection).startswith(b"HTTP/1.1 200 ")
    assert post(small.port, b" " * (1000 - len(EVENT)) + EVENT).status == 200
    still_serves(small)


def test_client_that_sends_a_long_body_anyway_reads_the_answer(tmp_path: Path) -> None:
    with Collecting(settings(tmp_path, max_body_bytes=1000)) as collector:
        reply = post(collector.port, bytes(20 * 2**20))
        assert (reply.status, "1000 bytes" in reply.json["error"]) == (413, True)
        still_serves(collector)


def test_chunked_body_is_refused_when_it_passes_the_limit(small: Collecting) -> None:
    assert request(small.port, "/x", b"x" * 1001, BEARER, chunks=True).status == 413
    assert request(small.port, "/x", b" " * 980 + EVENT, BEARER, chunks=True).status == 200
    still_serves(small)


def test_bomb_is_refused_and_nothing_of_it_is_stored(small: Collecting) -> None:
    reply = post(small.port, zipped(bytes(200_000)), Content_Encoding="gzip")
    assert (reply.status, list(reply.json)) == (413, ["error"])
    assert post(small.port, zipped(bytes(200_000))).status == 413
    still_serves(small)
    assert small.finished() == [json.loads(EVENT)]


def test_too_many_events_are_refused(small: Collecting) -> None:
    assert post(small.port, b"[1,2,3,4,5,6]").status == 413
    assert post(small.port, b"[1,2,3,4,5]").status == 200
    still_serves(small)


def test_endless_body_that_was_refused_is_cut_off(small: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_DISCARDED_BYTES", 5000)
    with raw_connection(small.port) as connection:
        connection.sendall(head("/x", "Content-Length: 100000000"))
        assert read_reply(connection).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"x" * 10_000)
    still_serves(small)


def test_pending_bytes_are_bounded_over_all_requests(small: Collecting) -> None:
    with raw_connection(small.port) as first, raw_connection(small.port) as second:
        first.sendall(head("/x", "Content-Length: 920") + b" " * 900)
        wait_until(lambda: small.figure("headroom_collector_pending_bytes") == 900)
        reply = post(small.port, b" " * 700 + EVENT)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        second.sendall(head("/x", "Transfer-Encoding: chunked") + b"300\r\n" + b" " * 0x300 + b"\r\n")
        assert read_reply(second).startswith(b"HTTP/1.1 503 ")
        first.sendall(EVENT)
        assert read_reply(first).startswith(b"HTTP/1.1 200 ")
        assert post(small.port, b" " * 700 + EVENT).status == 200
    with raw_connection(small.port) as connection:
        connection.sendall(head("/x", "Content-Length: 900") + b" " * 700)
        wait_until(lambda: small.figure("headroom_collector_pending_bytes") == 700)
        assert post(small.port, zipped(b" " * 900 + EVENT)).status == 503  # a few bytes as sent
    wait_until(lambda: small.figure("headroom_collector_pending_bytes") == 0)
    still_serves(small)


def test_connections_above_the_limit_are_asked_to_come_back(small: Collecting) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(raw_connection(small.port))
        fifth = stack.enter_context(raw_connection(small.port))
        fifth.sendall(head("/x", LENGTH) + EVENT)
        answer = read_all(fifth).lower()
        assert answer.startswith(b"http/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
        assert b"connection: close\r\n" in answer
        for _ in range(4):
            stack.enter_context(raw_connection(small.port))
        assert read_all(stack.enter_context(raw_connection(small.port))) == b""

    def is_served() -> bool:
        with suppress(OSError):  # cut off: it has not seen yet that the others are gone
            return post(small.port, EVENT).status == 200
        return False

    wait_until(is_served)
    still_serves(small)


def test_half_a_request_stores_nothing(collector: Collecting) -> None:
    for start in (head("/x", LENGTH)[:-10], head("/x", LENGTH) + EVENT[:-1], head("/x", "Transfer-Encoding: chunked")):
        with raw_connection(collector.port) as connection:
            connection.sendall(start)
            wait_until(lambda: collector.figure("headroom_collector_connections") == 2)
    wait_until(lambda: collector.figure('headroom_collector_refused_total{reason="disconnected"}') == 2)
    still_serves(collector)
    assert len(collector.finished()) == 1


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"POST /x HT", b"HTTP/1.1 408 "),
        (head("/x", LENGTH)[:-4], b"HTTP/1.1 408 "),
        (head("/x", LENGTH) + EVENT[:-1], b"HTTP/1.1 408 "),
        (head("/x", "Transfer-Encoding: chunked") + b"5\r\nab", b"HTTP/1.1 408 "),
    ],
)
def test_client_that_does_not_finish_is_given_up(impatient: Collecting, start: bytes, answer: bytes) -> None:
    with raw_connection(impatient.port) as connection:
        connection.sendall(start)
        wait_until_read(impatient)
        impatient.let_pass(LIMIT_SECONDS)
        received = read_all(connection)
        assert received.startswith(answer)
        assert bool(received) == bool(answer)
    still_serves(impatient)


def test_client_that_trickles_is_given_up(impatient: Collecting) -> None:
    with raw_connection(impatient.port) as connection:
        connection.settimeout(0.02)
        received = b""
        for byte in head("/x", *(f"X-{number}: y" for number in range(90))):
            try:
                connection.sendall(bytes([byte]))
                received = connection.recv(1000)
                break
            except TimeoutError:
                impatient.let_pass(LIMIT_SECONDS / 30)  # about a sixth between two looks at the clock
        assert received.startswith(b"HTTP/1.1 408 ")
    still_serves(impatient)


def test_connection_between_requests_is_closed_when_idle(impatient: Collecting) -> None:
    with raw_connection(impatient.port) as connection:
        connection.sendall(head("/x", LENGTH) + EVENT)
        answer = read_reply(connection)
        impatient.let_pass(LIMIT_SECONDS)
        assert read_all(connection) == b""
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1
    still_serves(impatient)


def test_client_that_takes_no_answers_is_given_up(impatient: Collecting) -> None:
    with socket.socket() as connection, ThreadPoolExecutor(1) as pool:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(("127.0.0.1", impatient.port))

        def ask_for_ever() -> None:
            while True:
                connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 10)

        asking = pool.submit(ask_for_ever)
        wait_until(lambda: impatient.figure("headroom_collector_pending_bytes") > 0)  # answers that nobody takes
        impatient.let_pass(LIMIT_SECONDS)
        failure = asking.exception()
        assert isinstance(failure, OSError)
        assert not isinstance(failure, TimeoutError)
    wait_until(lambda: impatient.figure("headroom_collector_connections") == 1)
    still_serves(impatient)


def test_big_answer_that_is_not_taken_counts_as_pending(tmp_path: Path) -> None:
    uuids = [{"uuid": f"{number:0500}"} for number in range(7000)]
    body = json.dumps(uuids).encode()
    with Collecting(settings(tmp_path)) as collector, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(("127.0.0.1", collector.port))
        one = head("/i/v1/analytics/events", f"Content-Length: {len(body)}") + body
        connection.sendall(one)
        wait_until(lambda: collector.figure("headroom_collector_events_total") == 7000)
        wait_until(lambda: collector.figure("headroom_collector_pending_bytes") > 3_000_000)
        assert read_reply(connection).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: collector.figure("headroom_collector_pending_bytes") == 0)


def test_expect_continue_is_answered_before_the_body(collector: Collecting) -> None:
    with raw_connection(collector.port) as connection:
        connection.sendall(head("/x", LENGTH, "Expect: 100-continue"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(EVENT)
        assert read_reply(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(head("/x", LENGTH) + EVENT)
        assert read_reply(connection).startswith(b"HTTP/1.1 200 ")
    assert len(collector.finished()) == 2


@pytest.mark.parametrize("line", ["Content-Length: 99999999", "Authorization: Bearer wrong"])
def test_expect_continue_of_a_refused_request_closes(collector: Collecting, line: str) -> None:
    with raw_connection(collector.port) as connection:
        connection.sendall(
            head("/x", line, "Content-Length: 9" if "9999" not in line else "X: y", "Expect: 100-continue")
        )
        answer = read_all(connection)
    assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 401 "))
    assert b"connection: close\r\n" in answer
    still_serves(collector)


def test_pipelined_requests_are_answered_in_order(collector: Collecting) -> None:
    with raw_connection(collector.port) as connection:
        array = b"[1,2,3]"
        last = head("/batch", "Content-Length: 2", "Connection: close") + b"[]"
        connection.sendall(
            head("/x", LENGTH)
            + EVENT
            + b"GET /healthz HTTP/1.1\r\n\r\n"
            + head("/x", "Content-Length: 7")
            + array
            + last
        )
        answers = read_all(connection)
    bodies = [b'{"accepted":1,"quarantined":0}', b'{"status":"ok"}', b'{"accepted":3,"quarantined":0}', b'{"status":1}']
    positions = [answers.index(body) for body in bodies]
    assert positions == sorted(positions)
    assert answers.count(b"HTTP/1.1 200 OK") == 4


def test_endless_pipeline_is_cut_off(collector: Collecting) -> None:
    with raw_connection(collector.port) as connection:
        connection.sendall((head("/x", LENGTH) + EVENT) * 200)
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 ") <= protocol.MAX_PIPELINED + 1
    still_serves(collector)


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        head("/x", *(f"X-{number}: y" for number in range(protocol.MAX_HEADERS + 1))),
        head("/x", "Content-Length: 2", "Content-Length: 3"),
        head("/x", "Content-Length: 2", "Transfer-Encoding: chunked"),
        head("/x", "Content-Length: -2"),
        head("/x", "Transfer-Encoding: chunked") + b"zz\r\n",
    ],
)
def test_malformed_request_is_refused_in_json(collector: Collecting, text: bytes) -> None:
    with raw_connection(collector.port) as connection:
        connection.sendall(text)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]
    still_serves(collector)


def test_endless_head_is_refused(collector: Collecting) -> None:
    with raw_connection(collector.port) as connection:
        received = b""
        connection.sendall(b"POST /x HTTP/1.1\r\nX-Long: ")
        try:
            while True:
                connection.sendall(b"x" * 10_000)
        except OSError:
            received = read_all(connection)
    assert received in (b"", received)
    assert collector.figure('headroom_collector_refused_total{reason="protocol"}') == 1
    still_serves(collector)


@pytest.mark.parametrize(
    ("version", "line"), [("1.0", "X: y"), ("1.0", "Connection: keep-alive"), ("1.1", "Connection: close")]
)
def test_last_request_of_a_connection_closes_it(collector: Collecting, version: str, line: str) -> None:
    with raw_connection(collector.port) as connection:
        connection.sendall(head("/x", LENGTH, line).replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + EVENT)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in answer


def test_offer_of_another_protocol_is_ignored(collector: Collecting) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAA")
    with raw_connection(collector.port) as connection:
        for _ in range(2):
            connection.sendall(head("/x", LENGTH, *offer))
            connection.sendall(EVENT)
            assert read_reply(connection).endswith(b'{"accepted":1,"quarantined":0}')
        connection.sendall(b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    with raw_connection(collector.port) as connection:
        connection.sendall(head("/x", LENGTH, *offer) + EVENT + head("/x", LENGTH) + EVENT)
        assert read_reply(connection).endswith(b'{"accepted":1,"quarantined":0}')
    with raw_connection(collector.port) as connection:
        connection.sendall(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 405 ")
    assert len(collector.finished()) == 4


def test_whole_url_in_the_request_line_is_a_path(collector: Collecting) -> None:
    with raw_connection(collector.port) as connection:
        connection.sendall(b"GET http://collector.example/healthz?x=1 HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert read_all(connection).endswith(b'{"status":"ok"}')
    assert request(collector.port, "/%68ealthz", method="GET").status == 200


def test_thousand_idle_connections_do_not_stop_others(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    program = Program(tmp_path)
    with program.running() as port, ExitStack() as stack:
        for number in range(1000):
            connection = stack.enter_context(raw_connection(port))
            connection.sendall((b"", b"POST /x HTTP/1.1\r\n", head("/x", LENGTH) + EVENT[:-1])[number % 3])
        assert post(port, EVENT).status == 200
        assert program.memory_bytes() < MEMORY_BYTES


def test_memory_stays_bounded_whatever_is_sent(tmp_path: Path) -> None:
    program = Program(tmp_path)
    bomb = zipped(bytes(300 * 2**20))
    full = 4 * 2**20
    with program.running() as port:
        for body in (
            bomb,
            b"[" + b"[]," * (full // 3 - 2) + b"[]]",
            b'[{"a":{}}' + b',{"a":{}}' * (full // 9 - 2) + b"]",
        ):
            assert post(port, body).status == 413
        assert post(port, b"[" * 100_000).json == {"accepted": 0, "quarantined": 1}
        assert post(port, b"\xff" * full).json == {"accepted": 0, "quarantined": 1}
        assert post(port, b"\xff\n" * 9_999).json == {"accepted": 0, "quarantined": 9_999}
        with ExitStack() as stack:
            refused = 0
            for _ in range(40):  # 160 MB in all
                connection = stack.enter_context(raw_connection(port))
                connection.sendall(head("/x", f"Content-Length: {full}"))
                try:
                    connection.sendall(b"x" * (full - 1))
                except OSError:
                    refused += 1
            assert post(port, EVENT).status in (200, 503)
            assert program.memory_bytes() < MEMORY_BYTES, refused
        wait_until(lambda: post(port, EVENT).status == 200)
        assert program.stop() == 0
    assert {"event": "api_call"} in events(program.folder)
    assert KEY not in program.log


def test_pipelines_that_nobody_reads_hold_no_memory(tmp_path: Path) -> None:
    program = Program(tmp_path)
    with program.running() as port, ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(raw_connection(port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with suppress(OSError):
                connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 10_000)
        assert post(port, EVENT).status == 200
        assert program.memory_bytes() < MEMORY_BYTES
