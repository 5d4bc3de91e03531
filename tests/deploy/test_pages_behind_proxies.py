"""The examples in deploy/ of proxies in front of the pages: real ones, in front of the server of `headroom pages`."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from orchestration import settings
from orchestration.cli import pages
from orchestration.ledger import page_keys, page_views
from orchestration.ledger.ledger import Ledger
from orchestration.pages.wrong_keys import FREE
from tests.deploy.proxies import Proxy, caddy, nginx
from tests.support.empty_copy import publish
from tests.support.waiting import PATIENCE_SECONDS, wait_until

PAGES = "127.0.0.1:8090"
URL = "https://usage.example.com"
LONG_ID = "é" * 512
"""1,024 bytes, and 3,072 in an address."""


class World:
    """The pages as they are served, on a port of their own."""

    def __init__(self, data: Path, patch: pytest.MonkeyPatch) -> None:
        self.data, self._patch = data, patch
        self.ledger = Ledger(settings.load().ledger_url)
        publish(data)

    @contextmanager
    def serving(self, url: str = URL, **variables: str) -> Iterator[int]:
        for name, value in {"PORT": "0", "URL": url, "TRUST_FROM": "127.0.0.1", **variables}.items():
            self._patch.setenv(f"HEADROOM_PAGES_{name}", value)
        config = settings.load()
        server = pages.server(config)
        with pages.bound(config) as listening:
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            try:
                wait_until(lambda: server.started)
                yield listening.getsockname()[1]
            finally:
                server.should_exit = True
                thread.join(PATIENCE_SECONDS)

    def secret(self, account_id: str | None = None) -> str:
        now = datetime.now(UTC)
        return page_keys.grant(self.ledger, account_id or "CS team", account_id, now, now + timedelta(days=1))[1]


@pytest.fixture
def world(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(data, monkeypatch)
    yield made
    made.ledger.close()


def opens_by_a_link(proxy: Proxy, world: World, root: str = "") -> None:
    """A link opens over TLS, from the visitor's own address; long ids come through; no key is in a log."""
    secret, customers = world.secret(), world.secret(LONG_ID)
    entered = proxy.ask("GET", f"{root}/k/{secret}")
    cookie = entered.headers["set-cookie"]
    assert (entered.status, entered.headers["location"]) == (303, f"{root}/")
    assert cookie.startswith(f"headroom_key={secret}; Path={root}/;")
    assert cookie.endswith("HttpOnly; SameSite=Lax; Secure")
    shown = proxy.ask("GET", f"{root}/digests", Cookie=cookie.partition(";")[0])
    assert (shown.status, b"Digests" in shown.body) == (200, True)
    assert f'href="{root}/static/pages.css"'.encode() in shown.body
    assert proxy.ask("GET", f"{root}/static/pages.css").status == 200
    assert "max-age" in shown.headers["strict-transport-security"]
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert proxy.ask("GET", f"{root}/u/{customers}").headers["location"] == f"{root}/u/"

    bearer = {"Authorization": f"Bearer {customers}"}
    usage = f"{root}/v1/accounts/{quote(LONG_ID, safe='')}"
    assert proxy.ask("GET", f"{usage}/usage", **bearer).status == 503  # it is theirs: this copy lacks the table
    assert proxy.ask("GET", f"{usage}x/usage", **bearer).status == 404
    assert proxy.ask("GET", f"{root}/?q={'x' * 8_100}").status == 401
    assert b"address is too long" in proxy.ask("GET", f"{root}/?q={'x' * 9_000}").body

    for number in range(FREE):  # what a visitor says of their address counts nothing
        said = f"198.51.100.{number}"
        assert proxy.ask("GET", f"{root}/k/wrong", None, "127.0.0.3", **{"X-Forwarded-For": said}).status == 401
    assert proxy.ask("GET", f"{root}/u/wrong", None, "127.0.0.3", **{"X-Forwarded-For": "198.51.100.9"}).status == 429
    assert proxy.ask("GET", f"{root}/k/wrong", None, "127.0.0.4").status == 401
    wait_until(lambda: "127.0.0.4" in proxy.logged())  # the last one
    assert f"{root}/u/..." in proxy.logged()
    for hidden in (secret, customers, "/wrong"):
        assert hidden not in proxy.logged()


def test_nginx_opens_pages_by_a_link(world: World, tmp_path: Path) -> None:
    with world.serving() as port, nginx("nginx-pages.conf", "usage", tmp_path, {PAGES: port}) as proxy:
        opens_by_a_link(proxy, world)


def test_caddy_opens_pages_by_a_link(world: World, tmp_path: Path) -> None:
    with (
        world.serving(TRUST_HEADER="X-Forwarded-User") as port,
        caddy("Caddyfile.pages", "usage", tmp_path, PAGES, port) as proxy,
    ):
        opens_by_a_link(proxy, world)
        for name in ("X-Forwarded-User", "X_Forwarded_User"):
            assert proxy.ask("GET", "/digests", None, "127.0.0.1", **{name: "mallory"}).status == 401


def test_nginx_opens_pages_below_a_path(world: World, tmp_path: Path) -> None:
    """As its comment says."""
    changed = {" ^/[ku]/ ": " ^/usage/[ku]/ ", "location / ": "location /usage/ "}
    with (
        world.serving(f"{URL}/usage") as port,
        nginx("nginx-pages.conf", "usage", tmp_path, {PAGES: port}, changed) as proxy,
    ):
        opens_by_a_link(proxy, world, "/usage")
        assert proxy.ask("GET", "/").status == 404  # nginx's own


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_no_key_is_in_the_log_while_the_pages_are_away(kind: str, tmp_path: Path) -> None:
    with (
        nginx("nginx-pages.conf", "usage", tmp_path, {PAGES: 9})
        if kind == "nginx"
        else caddy("Caddyfile.pages", "usage", tmp_path, PAGES, 9) as proxy
    ):
        for path in ("/k/hidden", "/u/hidden", "/top"):
            assert proxy.ask("GET", path).status == 502
        wait_until(lambda: "refused" in proxy.logged() and "/top" in proxy.logged())
        assert "hidden" not in proxy.logged()


class Login(BaseHTTPRequestHandler):
    """What OAuth2 Proxy answers to nginx: who has its cookie is Dana."""

    def do_GET(self) -> None:
        is_known = "session=good" in self.headers.get("Cookie", "")
        if self.path == "/oauth2/auth":
            self.send_response(202 if is_known else 401)
            if is_known:
                self.send_header("X-Auth-Request-Email", "dana@example.com")
            self.end_headers()
            return
        self.send_response(403)
        self.end_headers()
        self.wfile.write(f"log in for {self.headers['X-Auth-Request-Redirect']}".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def login() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def test_login_proxy_names_the_user_and_nobody_else_does(world: World, login: int, tmp_path: Path) -> None:
    secret, header = world.secret("acme"), {"X-Forwarded-User": "mallory"}
    with world.serving(TRUST_HEADER="X-Forwarded-User") as port:
        upstreams = {PAGES: port, "127.0.0.1:4180": login}
        with nginx("nginx-pages-login.conf", "usage", tmp_path, upstreams) as proxy:
            assert proxy.ask("GET", "/digests", Cookie="session=good", **header).status == 200
            assert [view.visitor for view in page_views.newest(world.ledger, 9)] == ["login:dana@example.com"]
            asked = proxy.ask("GET", "/digests?a=1&b=2", **header)
            assert (asked.status, asked.body) == (403, b"log in for /digests?a=1&b=2")
            for name in ("X-Forwarded-User", "X_Forwarded_User"):  # where nobody has to log in, nobody is named
                assert proxy.ask("GET", "/v1/usage", None, "127.0.0.1", **{name: "mallory"}).status == 401
                assert proxy.ask("GET", "/u/", None, "127.0.0.1", **{name: "mallory"}).status == 401
            assert proxy.ask("GET", f"/u/{secret}").headers["location"] == "/u/"
            assert proxy.ask("GET", f"/k/{secret}", Cookie="session=good").status == 404
            wait_until(lambda: "/k/..." in proxy.logged())
            assert secret not in proxy.logged()
        stranger = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS, source_address=("127.0.0.3", 0))
        stranger.request("GET", "/digests", headers={"X-Forwarded-User": "mallory", "X-Forwarded-For": "127.0.0.1"})
        assert stranger.getresponse().status == 401
        stranger.close()


def test_no_request_is_lost_by_a_swap_or_while_one_of_two_is_away(world: World, tmp_path: Path) -> None:
    cookie = f"headroom_key={world.secret()}"
    with world.serving() as port, ThreadPoolExecutor(2) as visitors:
        two = {f"server 127.0.0.1:{port};": f"server 127.0.0.1:9; server 127.0.0.1:{port};"}
        with nginx("nginx-pages.conf", "usage", tmp_path, {PAGES: port}, two) as proxy:
            answers = [visitors.submit(proxy.ask, "GET", "/digests", Cookie=cookie) for _ in range(20)]
            for _ in range(3):
                publish(world.data)
            assert {answer.result().status for answer in answers} == {200}
