"""What a connection held is free when it ends, however it ends: without the garbage collector, which looks rarely."""

import gc
import socket
import struct
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestration.collector import server, spool
from orchestration.collector.protocol import Connection
from tests.orchestration.collector.loopback import (
    Collecting,
    Program,
    head,
    post,
    raw_connection,
    read_all,
    read_reply,
    request,
    settings,
)
from tests.support.waiting import wait_until

MIB = 2**20
EVENT = b'{"event":"api_call"}'
LENGTH = f"Content-Length: {len(EVENT)}"
LIMIT_SECONDS = 1000.0
RESET = struct.pack("ii", 1, 0)


class Watched(Connection):
    """A connection that is remembered as long as somebody else remembers it."""

    seen: list[weakref.ref[Connection]] = []  # noqa: RUF012 - emptied by each test

    def __init__(self, *of: object) -> None:
        super().__init__(*of)  # type: ignore[arg-type]
        self.seen.append(weakref.ref(self))


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collecting]:
    monkeypatch.setattr(server, "Connection", Watched)
    monkeypatch.setattr(spool, "RECOVER_SECONDS", LIMIT_SECONDS)  # the thread that writes has nothing else to do
    Watched.seen.clear()
    limits = {"max_body_bytes": 4 * MIB, "request_seconds": LIMIT_SECONDS, "idle_seconds": LIMIT_SECONDS}
    with Collecting(settings(tmp_path, **limits)) as running:
        gc.disable()
        yield running
        gc.enable()


def reset(connection: socket.socket, _: Collecting) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def close(_: socket.socket, __: Collecting) -> None:
    """Leave politely, in the middle."""


def be_late(connection: socket.socket, collector: Collecting) -> None:
    wait_until(lambda: request(collector.port, "/healthz", method="GET").status == 200)
    collector.let_pass(LIMIT_SECONDS)
    read_all(connection)


def read_answer(connection: socket.socket, _: Collecting) -> None:
    read_reply(connection)


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (head("/x", "Content-Length: 1000000") + bytes(999_999), reset),
        (head("/x", "Content-Length: 1000000") + bytes(999_999), close),
        (head("/x", "Content-Length: 1000000") + bytes(999_999), be_late),
        (head("/x", "Transfer-Encoding: chunked") + b"f4240\r\n" + bytes(999_999), close),
        (head("/x", "Transfer-Encoding: chunked") + b"5\r\n01234\r\nzz\r\n", read_answer),
        (head("/x", "Content-Length: 1000000", "Authorization: Bearer wrong") + bytes(999_999), close),
        (head("/x", "Content-Length: 5000000") + bytes(999_999), read_answer),
        (head("/x", LENGTH) + EVENT, read_answer),
        (head("/x", LENGTH) + EVENT, reset),
        (head("/x", LENGTH, "Connection: close") + EVENT, read_answer),
        (head("/x", LENGTH, "Connection: Upgrade", "Upgrade: h2c") + EVENT, read_answer),
        (head("/x", *(f"X-{number}: y" for number in range(101))), read_answer),
        (head("/x", LENGTH)[:-3], be_late),
        (b"GET /readyz HTTP/1.1\r\n\r\n", read_answer),
        (b"", be_late),
    ],
)
def test_connection_is_free_when_it_ends(
    watched: Collecting, sent: bytes, end: Callable[[socket.socket, Collecting], None]
) -> None:
    with raw_connection(watched.port) as connection:
        connection.sendall(sent)
        wait_until(lambda: request(watched.port, "/healthz", method="GET").status == 200)
        end(connection, watched)
    wait_until(lambda: [seen for seen in Watched.seen if seen() is not None] == [])
    assert watched.figure("headroom_collector_pending_bytes") == 0


def test_memory_of_uploads_that_are_cut_off_comes_back(tmp_path: Path) -> None:
    program = Program(tmp_path)
    with program.running() as port:
        assert post(port, b" " * 4 * MIB + EVENT).status == 200
        before = program.memory_bytes("VmRSS")
        for _ in range(60):  # 240 MB in all
            with raw_connection(port) as connection:
                connection.sendall(head("/x", f"Content-Length: {4 * MIB}", key=False) + bytes(4 * MIB - 1))
        wait_until(lambda: b"headroom_collector_connections 1.0" in request(port, "/metrics", method="GET").body)
        assert program.memory_bytes("VmRSS") < before + 100 * MIB
