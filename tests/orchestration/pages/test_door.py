"""Who gets in: keys, cookies, the login proxy, wrong keys; and that views are recorded before they are answered."""

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import psycopg2
import pytest
import sqlalchemy as sa
from pydantic import ValidationError
from starlette.testclient import TestClient

from orchestration import settings
from orchestration.ledger import page_keys, page_views
from orchestration.ledger.ledger import Ledger
from orchestration.pages import (
    account,
    app,
    changes,
    customer,
    digests,
    machines,
    quality,
    rendering,
    top,
    utilization,
)
from orchestration.pages.asking import Asked, Page
from orchestration.pages.wrong_keys import ADDRESSES, FREE, MOST_SECONDS, WrongKeys
from tests.fakes.postgres import Postgres

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
DAY = timedelta(days=1)
PROXY, STRANGER = ("10.0.0.7", 4711), ("203.0.113.9", 4711)
INTERNAL = ("/", "/accounts/acme", "/accounts/a%2Fb", "/accounts/?id=..", "/top", "/changes", "/digests", "/quality")


class World:
    """The application over an empty published copy; pages say only their names."""

    def __init__(self, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.patch, self.stack, self.now = patch, stack, NOW
        self.ledger = Ledger(settings.load().ledger_url)

    def key(
        self, account_id: str | None = None, name: str = "CS team", days: int = 90
    ) -> tuple[page_keys.PageKey, str]:
        return page_keys.grant(self.ledger, name, account_id, self.now, self.now + days * DAY)

    def gate(self) -> tuple[page_keys.PageKey, str]:
        return page_keys.grant(self.ledger, "api gate", None, self.now, self.now + 90 * DAY, is_gate=True)

    def client(self, peer: tuple[str, int] = STRANGER, host: str = "pages.test", **variables: str) -> Any:
        for name, value in variables.items():
            self.patch.setenv(f"HEADROOM_PAGES_{name}", value)
        built = app.build(settings.load(), lambda: self.now)
        scheme = "https" if variables.get("URL", "").startswith("https") else "http"
        made = TestClient(built, base_url=f"{scheme}://{host}", client=peer, follow_redirects=False)
        return self.stack.enter_context(made)

    def views(self) -> list[tuple[str, str, str]]:
        return [(view.visitor, view.account_id, view.page) for view in page_views.newest(self.ledger, 100)]


@pytest.fixture
def world(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with closing(duckdb.connect(str(data / "published.duckdb"))):
        pass

    def shown(page: Page, asked: Asked, name: str) -> str:
        return f"{name} of {page.account_id} for {asked.visitor.name}"

    monkeypatch.setattr(rendering, "render", shown)
    monkeypatch.setattr(utilization, "page", lambda asked: Page("utilization", "", {}))
    monkeypatch.setattr(account, "page", lambda asked, account_id: Page("account", account_id, {}, account_id))
    monkeypatch.setattr(customer, "page", lambda asked, account_id: Page("customer", account_id, {}, account_id))
    for module in (top, changes, quality):
        monkeypatch.setattr(module, "page", lambda asked: Page("top", "", {}))
    monkeypatch.setattr(digests, "listing", lambda asked: Page("digests", "", {}))
    monkeypatch.setattr(machines, "usage", lambda asked: {"account": asked.visitor.account_id})
    monkeypatch.setattr(machines, "account_usage", lambda asked, account_id: {"account": account_id})
    monkeypatch.setattr(machines, "cache_control", lambda asked: "private, no-cache")
    with ExitStack() as stack:
        yield World(monkeypatch, stack)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_link_becomes_a_cookie_and_is_in_no_address(world: World) -> None:
    _, secret = world.key()
    client = world.client(URL="https://pages.test")

    answer = client.get(f"/k/{secret}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    said = answer.headers["set-cookie"]
    assert said.startswith(f"headroom_key={secret}; Path=/; Expires=Thu, 18 Feb 2027 08:00:00 GMT")
    assert said.endswith("HttpOnly; SameSite=Lax; Secure")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "private, no-store"
    assert client.head(f"/k/{secret}").status_code == 303  # a chat program that looks at the link takes nothing away


def test_embedded_customer_keeps_a_partitioned_cookie(world: World) -> None:
    _, secret = world.key("acme")
    client = world.client(URL="https://x.test/usage", FRAME_ANCESTORS="https://app.example.com")

    answer = client.get(f"/u/{secret}")
    assert answer.headers["location"] == "/usage/u/"
    assert answer.headers["set-cookie"].endswith("HttpOnly; SameSite=None; Secure; Partitioned")
    assert "frame-ancestors https://app.example.com" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]


@pytest.mark.parametrize("prefix", ["", "/usage"], ids=["stripped", "kept"])
def test_pages_below_a_path_open_whether_the_proxy_strips_it(world: World, prefix: str) -> None:
    _, secret = world.key()
    client = world.client(URL="http://pages.test/usage")

    assert client.get(f"{prefix}/k/{secret}").headers["location"] == "/usage/"
    assert client.get(f"{prefix}/accounts/a%2Fb", headers=bearer(secret)).text == "account of a/b for CS team"


@pytest.mark.parametrize("path", [*INTERNAL, "/v1/accounts/other/usage", "/v1/accounts/ACME/usage"])
def test_customer_sees_nothing_of_the_company_or_of_others(world: World, path: str) -> None:
    _, secret = world.key("acme")
    client = world.client()

    for headers in (bearer(secret), {"cookie": f"headroom_key={secret}"}):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 404
        assert "other" not in answer.text
    assert world.views() == []


def test_customer_sees_their_own_account_alone(world: World) -> None:
    key, secret = world.key("acme", "Acme")
    client = world.client()

    for path in ("/u/", "/u/?id=other&account_id=other"):
        assert client.get(path, headers={"cookie": f"headroom_usage={secret}"}).text == "customer of acme for Acme"
    assert client.get("/v1/usage", headers=bearer(secret)).json() == {"account": "acme"}
    assert client.get("/v1/accounts/acme/usage", headers=bearer(secret)).json() == {"account": "acme"}
    assert set(world.views()) == {(f"key:{key.id}", "acme", "customer"), (f"key:{key.id}", "acme", "machine")}


@pytest.mark.parametrize("path", [*INTERNAL, "/u/", "/v1/usage", "/v1/accounts/acme/usage"])
def test_gate_sees_no_page(world: World, path: str) -> None:
    _, secret = world.gate()
    client = world.client()

    cookies = {"cookie": f"headroom_key={secret}; headroom_usage={secret}"}
    for headers in (bearer(secret), cookies):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 404
        assert "acme" not in answer.text
    for link in (f"/k/{secret}", f"/u/{secret}"):
        assert client.get(link).status_code == 404
    assert world.views() == []


def test_limits_are_for_the_key_of_a_gate_alone(world: World, data: Path) -> None:
    (data / "limits.json").write_text("{}")
    (key, gate), (_, colleague), (_, customer) = world.gate(), world.key(), world.key("acme")
    client = world.client(PROXY, TRUST_HEADER="X-Forwarded-User", TRUST_FROM="10.0.0.0/24")

    for secret in (colleague, customer):
        assert client.get("/v1/limits", headers=bearer(secret)).status_code == 404
    for secret in (gate, colleague, customer):
        cookies = {"cookie": f"headroom_key={secret}; headroom_usage={secret}", "x-forwarded-user": "dana"}
        assert client.get("/v1/limits", headers=cookies).status_code == 401
    assert world.views() == []

    assert client.get("/v1/limits", headers={**bearer(gate), "accept-encoding": "identity"}).json() == {}
    assert world.views() == [(f"key:{key.id}", "", "limits")]
    page_keys.revoke(world.ledger, key.id, world.now)
    assert client.get("/v1/limits", headers=bearer(gate)).status_code == 401


LOOK_ALIKES = (
    "ACME",
    "acme ",
    "acm\u0435",
    "\uff41cme",
    "acme\u200b",
    "acme/",
    "acme%2F..%2Fother",
    "../accounts/other",
    "acme\0",
)
"""Ids that a person, a normalizing database or a proxy might take for acme, or for the way to another."""


@pytest.mark.parametrize("account_id", LOOK_ALIKES, ids=ascii)
def test_id_that_looks_like_the_own_one_opens_nothing(world: World, account_id: str) -> None:
    _, secret = world.key("acme")
    client = world.client()

    for path in (f"/v1/accounts/{quote(account_id, safe='')}/usage", f"/accounts/{quote(account_id, safe='')}"):
        assert client.get(path, headers=bearer(secret)).status_code == 404
    asked = client.get("/u/", params={"id": account_id, "account_id": account_id}, headers=bearer(secret))
    assert asked.text.startswith("customer of acme for")


def test_each_page_takes_its_own_cookie_of_two(world: World) -> None:
    [(_, inside), (_, acme), (_, beta)] = [world.key(account) for account in (None, "acme", "beta")]
    client = world.client()
    both = {"cookie": f"headroom_key={inside}; headroom_usage={acme}"}

    assert client.get("/u/", headers=both).text.startswith("customer of acme")
    assert client.get("/accounts/beta", headers=both).text.startswith("account of beta")
    swapped = {"cookie": f"headroom_key={acme}; headroom_usage={inside}"}
    assert [client.get(path, headers=swapped).status_code for path in ("/u/", "/", "/accounts/beta")] == [404] * 3
    # what a program says of itself counts more than what its browser kept
    assert client.get("/v1/usage", headers={**both, **bearer(beta)}).json() == {"account": "beta"}


def test_key_with_any_other_letter_opens_nothing(world: World) -> None:
    _, secret = world.key("acme")
    wrong = [secret[:-1], f"{secret}A", secret.swapcase(), secret[1:] + secret[0], f"{secret} {secret}", f"{secret}\t,"]
    wrong += [secret[:at] + ("A" if secret[at] != "A" else "B") + secret[at + 1 :] for at in (0, 20, len(secret) - 1)]
    for each in wrong:
        client = world.client()  # whose door has not heard of the others
        assert client.get("/v1/usage", headers=bearer(each)).status_code == 401
        assert client.get(f"/u/{quote(each, safe='')}").status_code == 401


@pytest.mark.parametrize(
    "spoofed",
    [
        {"x-original-url": "/accounts/other"}, {"x-rewrite-url": "/accounts/other"}, {"x-forwarded-user": "boss"},
        {"x-forwarded-prefix": "/accounts"}, {"x-forwarded-host": "evil.test"}, {"x-http-method-override": "POST"},
        {"x-forwarded-for": "10.0.0.7", "x-user": "boss@example.com"},
    ],
    ids=lambda spoofed: next(iter(spoofed)),
)  # fmt: skip
def test_headers_of_a_visitor_change_nothing(world: World, spoofed: dict[str, str]) -> None:
    _, secret = world.key("acme")
    client = world.client(TRUST_HEADER="X-User", TRUST_FROM="10.0.0.7")

    assert client.get("/", headers={**bearer(secret), **spoofed}).status_code == 404
    answer = client.get("/u/", headers={**bearer(secret), **spoofed})
    assert answer.text.startswith("customer of acme")
    assert "evil" not in str(answer.headers)


def test_unknown_expired_and_revoked_keys_are_answered_alike(world: World) -> None:
    revoked, one = world.key()
    _, other = world.key(days=1)
    client = world.client()
    assert client.get("/", headers=bearer(one)).status_code == 200
    page_keys.revoke(world.ledger, revoked.id, world.now)
    world.now += DAY

    answers = [client.get("/", headers=bearer(secret)) for secret in (one, other, one[:-1], "é".encode().hex())]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


def test_wrong_keys_wait_and_a_good_one_opens_meanwhile(world: World) -> None:
    _, secret = world.key()
    client = world.client()

    for _ in range(FREE):
        assert client.get("/k/wrong").status_code == 401
    answer = client.get("/u/wrong")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert client.get("/", headers=bearer(secret)).status_code == 200


def test_wait_grows_to_a_bound_and_addresses_are_bounded() -> None:
    wrong, now, waits = WrongKeys(), NOW, []
    for _ in range(30):
        waits.append(wrong.note("a", now))
        now += timedelta(seconds=waits[-1])
    assert waits[FREE - 1 : FREE + 3] == [0, 2, 4, 8]
    assert waits[-1] == MOST_SECONDS
    for number in range(ADDRESSES):
        wrong.note(str(number), now)
    assert wrong.note("a", now) == 0


@pytest.mark.parametrize("url", ["/", "/accounts/acme", "/v1/accounts/acme/usage"])
def test_login_proxy_names_its_user_from_its_address_alone(world: World, url: str) -> None:
    variables = {"TRUST_HEADER": "X-Forwarded-User", "TRUST_FROM": "10.0.0.0/24"}
    client = world.client(PROXY, **variables)
    assert client.get(url, headers={"x-forwarded-user": "dana"}).status_code == 200
    assert client.get(url, headers=[("x-forwarded-user", "dana"), ("x-forwarded-user", "alex")]).status_code == 401
    assert "X-Forwarded-User" in client.get(url).headers["vary"]

    stranger = world.client(STRANGER, **variables)
    for more in ({}, {"x-forwarded-for": "10.0.0.7"}, {"host": "10.0.0.7"}, {"x-original-url": "/healthz"}):
        assert stranger.get(url, headers={"x-forwarded-user": "dana", **more}).status_code == 401


def test_wrong_keys_count_for_the_visitor_that_the_proxy_names(world: World) -> None:
    client = world.client(PROXY, TRUST_FROM="10.0.0.7")
    for number in range(FREE + 1):  # the first hop is the visitor's own word
        client.get("/k/wrong", headers={"x-forwarded-for": f"198.51.100.{number}, 192.0.2.1, 10.0.0.7"})

    assert client.get("/k/wrong", headers={"x-forwarded-for": "192.0.2.1:4711"}).status_code == 429
    assert client.get("/k/wrong", headers={"x-forwarded-for": "192.0.2.2"}).status_code == 401


def test_answer_of_one_visitor_is_never_that_of_another(world: World) -> None:
    client = world.client()
    [(_, acme), (_, beta)] = [world.key(account) for account in ("acme", "beta")]
    first = client.get("/v1/usage", headers=bearer(acme))

    known = {"if-none-match": first.headers["etag"]}
    assert client.get("/v1/usage", headers={**bearer(acme), **known}).status_code == 304
    assert client.get("/v1/usage", headers={**bearer(beta), **known}).json() == {"account": "beta"}
    assert client.get("/v1/usage", headers=known).status_code == 401
    assert "private" in first.headers["cache-control"]
    assert {"Cookie", "Authorization"} <= set(first.headers["vary"].split(", "))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 405), ("OPTIONS", "/accounts/acme", 405), ("TRACE", "/u/", 405), ("DELETE", "/v1/usage", 405),
        ("GET", "//accounts/acme", 404), ("GET", "/u/../accounts/acme", 401), ("GET", "/u/%2e%2e/accounts/acme", 404),
        ("GET", "/top/", 404), ("GET", f"/?q={'x' * 9000}", 414),
    ],
)  # fmt: skip
def test_odd_questions_get_no_figures(world: World, method: str, path: str, status: int) -> None:
    answer = world.client(host="evil.test").request(method, path)

    assert answer.status_code == status
    assert "evil" not in str(answer.headers)
    if status == 405:
        assert "GET" in answer.headers["allow"]


def test_no_view_is_shown_that_cannot_be_recorded(world: World, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LEDGER_SECONDS", 0)
    _, secret = world.key()
    client = world.client()
    with closing(sqlite3.connect(data / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("begin immediate")
        answer = client.get("/accounts/acme", headers=bearer(secret))
    assert (answer.status_code, "recorded" in answer.text, "acme" in answer.text) == (503, True, False)
    assert client.get("/accounts/acme", headers=bearer(secret)).status_code == 200


def test_no_view_is_shown_while_the_server_of_the_ledger_only_reads(
    world: World, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.ledger()
    monkeypatch.setenv("HEADROOM_LEDGER_URL", url)
    world.ledger = Ledger(settings.load().ledger_url)
    _, secret = world.key()
    client = world.client()
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        for is_on, status in (("on", 503), ("off", 200)):  # as a replica that becomes the primary one
            connection.cursor().execute(
                f"alter database {sa.make_url(url).database} set default_transaction_read_only = {is_on}"
            )
            assert client.get("/accounts/acme", headers=bearer(secret)).status_code == status


def test_view_is_recorded_when_the_process_dies_before_the_answer(world: World) -> None:
    key, secret = world.key()
    world.ledger.close()
    if not (child := os.fork()):
        world.patch.setattr(rendering, "render", lambda *_: os.kill(os.getpid(), 9))
        world.client().get("/accounts/acme", headers=bearer(secret))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert world.views() == [(f"key:{key.id}", "acme", "account")]


def test_old_views_are_forgotten_with_the_first_view_of_a_day(world: World) -> None:
    key, secret = world.key(days=1000)
    client = world.client()
    client.get("/accounts/acme", headers=bearer(secret))
    world.now += (page_views.KEPT_DAYS + 1) * DAY
    client.get("/accounts/beta", headers=bearer(secret))

    assert world.views() == [(f"key:{key.id}", "beta", "account")]


def test_fault_is_a_sentence_and_leaves_no_key_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("path /k/hidden failed")

    world.patch.setattr(page_keys, "find", fail)
    answer = world.client().get("/k/hidden")

    assert answer.status_code == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "RuntimeError" in caplog.text
    assert "hidden" not in caplog.text + answer.text


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TRUST_HEADER": "X-User"}, "needs HEADROOM_PAGES_TRUST_FROM"),
        ({"TRUST_FROM": "proxy"}, "not a proxy's address"),
        ({"TRUST_FROM": "0.0.0.0/0"}, "not a proxy's address"),
        ({"FRAME_ANCESTORS": "https://a.test; script-src *"}, "is not a site"),
    ],
)
def test_settings_of_the_door_are_checked(
    data: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"HEADROOM_PAGES_{name}", value)
    with pytest.raises(ValidationError, match=said):
        settings.load()


def test_views_at_once_are_all_recorded_before_their_answers(world: World, data: Path) -> None:
    client, (key, secret), count = world.client(), world.key(), 20
    with (
        closing(sqlite3.connect(data / "ledger.sqlite", isolation_level=None)) as other,
        ThreadPoolExecutor(count) as pool,
    ):
        other.execute("begin immediate")
        answers = [pool.submit(client.get, f"/accounts/a{at}", headers=bearer(secret)) for at in range(count)]
        with pytest.raises(TimeoutError):
            answers[0].result(timeout=0.1)
        other.execute("rollback")
        assert {answer.result().status_code for answer in answers} == {200}
    seen = page_views.newest(world.ledger, 100, visitor=f"key:{key.id}")
    assert sorted(view.account_id for view in seen) == sorted(f"a{at}" for at in range(count))
