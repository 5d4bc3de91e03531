"""Browsers on other sites: what a page may do, and what it sees."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.collector.cors import Origins
from tests.orchestration.collector.loopback import BEARER, KEY, Collecting, post, request, settings

PAGE, OTHER_PAGE = "https://app.example.com", "https://evil.example"
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture
def open_to_page(tmp_path: Path) -> Iterator[Collecting]:
    origins = f"{PAGE}/, https://www.example.com"
    with Collecting(settings(tmp_path, cors_origins=origins, max_body_bytes=1000)) as running:
        yield running


def test_browser_may_send_from_a_page_that_is_allowed(open_to_page: Collecting) -> None:
    asked = request(open_to_page.port, "/v1/analytics/x/", None, {"Origin": PAGE, **ASKED}, method="OPTIONS")
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert asked.headers["access-control-allow-methods"] == "POST"
    assert {"authorization", "content-type"} <= set(asked.headers["access-control-allow-headers"].split(", "))
    reply = post(open_to_page.port, {"event": "api_call"}, Origin=PAGE)
    assert reply.status == 200
    assert (reply.headers["access-control-allow-origin"], reply.headers["vary"]) == (PAGE, "origin")
    assert open_to_page.finished() == [{"event": "api_call"}]


@pytest.mark.parametrize(
    ("body", "key", "status"), [(b"{}", "wrong", 401), (b" " * 1001, KEY, 413), (b"x", KEY, 400)], ids=str
)
def test_page_sees_why_it_was_refused(open_to_page: Collecting, body: bytes, key: str, status: int) -> None:
    headers = {"Origin": PAGE, "Authorization": f"Bearer {key}"}
    reply = request(open_to_page.port, "/batch", body, headers)
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, PAGE)


def test_page_that_is_not_allowed_sees_nothing(open_to_page: Collecting) -> None:
    for method, headers in (("OPTIONS", ASKED), ("POST", BEARER)):
        reply = request(open_to_page.port, "/x", b"{}", {"Origin": OTHER_PAGE, **headers}, method=method)
        assert "access-control-allow-origin" not in reply.headers
        assert reply.headers["vary"] == "origin"
    assert "vary" not in post(open_to_page.port, b"{}").headers


def test_every_page_may_send_where_that_is_allowed(tmp_path: Path) -> None:
    with Collecting(settings(tmp_path, cors_origins="*")) as collector:
        reply = post(collector.port, b"{}", Origin=OTHER_PAGE)
        assert (reply.headers["access-control-allow-origin"], "vary" in reply.headers) == ("*", False)


def test_no_page_may_send_by_default(collector: Collecting) -> None:
    reply = request(collector.port, "/x", None, {"Origin": PAGE, **ASKED}, method="OPTIONS")
    assert reply.status == 405
    assert not [name for name in post(collector.port, b"{}", Origin=PAGE).headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", ["app.example.com", "https://app.example.com/path", "null", "https://*.example.com"])
def test_what_is_not_an_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValueError, match=r"write https://app\.example\.com"):
        Origins([origin])
