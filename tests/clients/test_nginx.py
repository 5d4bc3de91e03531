"""nginx in front of the collector: events count once, and a refusal reaches the client as what it is.

What the libraries of others do behind nginx is in `test_clients.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import counted, nginx
from tests.clients.producer import PYTHON
from tests.orchestration.collector import loopback
from tests.support.waiting import wait_until

pytestmark = pytest.mark.clients

DIRECTIVES = ["", "proxy_request_buffering off;", "proxy_http_version 1.1;"]
NAMES = ["defaults", "unbuffered", "HTTP 1.1"]
SMALL, LARGE, LARGEST = b'{"a":1}', b" " * 500_000, b" " * (20 << 20)


@pytest.fixture(scope="module", params=DIRECTIVES, ids=NAMES)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("proxied")
    collector = loopback.Program(folder / "data", {"HEADROOM_COLLECT_MAX_BODY_BYTES": "100000"})
    with collector.running(), nginx.in_front(collector.port, folder / "nginx", request.param) as proxy_port:
        yield proxy_port


@pytest.mark.parametrize("body", [SMALL, LARGE, LARGEST], ids=["small", "large", "largest"])
@pytest.mark.parametrize("path", ["/batch/", "/v1/batch", "/v1/analytics/my-api/", "/v1/logs", "/api/v1/events"])
def test_wrong_key_is_said_through_nginx(port: int, path: str, body: bytes) -> None:
    reply = loopback.request(port, path, body, {"Authorization": "Bearer wrong"})
    assert reply.status == 401, reply.body
    assert "key" in reply.json["error"]


@pytest.mark.parametrize(
    ("body", "chunks"), [(LARGE, False), (LARGEST, False), (LARGE, True)], ids=["large", "largest", "chunks"]
)
def test_too_large_body_is_said_through_nginx(port: int, body: bytes, chunks: bool) -> None:
    reply = loopback.request(port, "/batch/", body, loopback.BEARER, chunks=chunks)
    assert reply.status == 413, reply.body


@pytest.mark.parametrize("directives", DIRECTIVES, ids=NAMES)
def test_full_collector_is_said_through_nginx(directives: str, tmp_path: Path) -> None:
    limits = {"HEADROOM_COLLECT_MAX_BODY_BYTES": "1000000", "HEADROOM_COLLECT_MAX_PENDING_BYTES": "1000000"}
    collector = loopback.Program(tmp_path / "data", limits)
    with (
        collector.running(),
        nginx.in_front(collector.port, tmp_path / "nginx", directives) as port,
        loopback.raw_connection(collector.port) as slow,
    ):
        slow.sendall(loopback.head("/batch/", "Content-Length: 900000") + b" " * 899_999)
        wait_until(lambda: pending_bytes(collector.port) > 600_000)
        reply = loopback.request(port, "/batch/", LARGE, loopback.BEARER)

    assert reply.status == 503, reply.body
    assert int(reply.headers["retry-after"]) > 0


@pytest.mark.parametrize("directives", DIRECTIVES, ids=NAMES)
def test_snippet_halves_its_batch_through_nginx(directives: str, tmp_path: Path) -> None:
    collector = loopback.Program(tmp_path / "data", {"HEADROOM_COLLECT_MAX_BODY_BYTES": "100000"})
    calls = [{"account_id": f"account {number}", "text": "x" * 4000} for number in range(510)]
    with collector.running(), nginx.in_front(collector.port, tmp_path / "nginx", directives) as port:
        words = PYTHON.run(port, calls)
        collector.stop()

    assert (words["dropped"], counted.in_segments(collector)) == (0, 510)
    assert [each.account_id for each in counted.in_lake(collector.data)] == sorted(c["account_id"] for c in calls)


def pending_bytes(port: int) -> float:
    page = loopback.request(port, "/metrics", method="GET").body.decode()
    return float(page.split("\nheadroom_collector_pending_bytes ")[1].split()[0])
