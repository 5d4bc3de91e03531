"""`/v1/limits`: the snapshot as it was written, packed where asked for, and news at once for a gate that waits."""

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from orchestration import settings
from orchestration.ledger import page_keys
from orchestration.ledger.ledger import Ledger
from orchestration.pages import app
from orchestration.pages import limits as endpoint
from orchestration.warehouse import limits

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
PLAIN = {"accept-encoding": "identity"}


class Gate:
    """An application over a snapshot that the test writes."""

    def __init__(self, data: Path, ledger: Ledger) -> None:
        self._path, self.ledger = data / "limits.json", ledger
        self.key, secret = page_keys.grant(ledger, "gate", None, NOW, NOW + timedelta(days=1), is_gate=True)
        self.application = app.build(settings.load(), lambda: NOW)
        self.headers = {"authorization": f"Bearer {secret}"}

    def publish(self, text: str) -> None:
        for path, content in (
            (self._path, text.encode()),
            (limits.compressed(self._path), gzip.compress(text.encode())),
        ):
            staged = path.with_name("staged")
            staged.write_bytes(content)
            staged.replace(path)

    def client(self) -> TestClient:
        return TestClient(self.application, base_url="http://pages.test", headers=self.headers)

    def asked(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.application)
        return httpx.AsyncClient(transport=transport, base_url="http://pages.test", headers=self.headers)


@pytest.fixture
def gate(data: Path) -> Iterator[Gate]:
    with closing(Ledger(settings.load().ledger_url)) as ledger:
        yield Gate(data, ledger)


@pytest.mark.parametrize(
    ("encoding", "is_packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("identity", False), ("gzip;q=0", False), ("gzip;q=0.0, br", False)],
)
def test_snapshot_that_the_gate_has_is_not_sent_again(gate: Gate, encoding: str, is_packed: bool) -> None:
    client, headers = gate.client(), {"accept-encoding": encoding}
    gate.publish('{"version": 1}')
    first = client.get("/v1/limits", headers=headers)
    assert (first.status_code, first.json()) == (200, {"version": 1})
    assert ("content-encoding" in first.headers) == is_packed
    assert {"Authorization", "Accept-Encoding"} <= set(first.headers["vary"].split(", "))

    known = {**headers, "if-none-match": first.headers["etag"]}
    again = client.get("/v1/limits", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    gate.publish('{"version": 2}')
    assert client.get("/v1/limits", headers=known).json() == {"version": 2}
    assert client.head("/v1/limits", headers=headers).status_code == 200


async def waiting(gate: Gate, count: int) -> tuple[httpx.AsyncClient, list[asyncio.Task[httpx.Response]]]:
    """A client, and that many requests of it that wait for a newer snapshot."""
    client = gate.asked()
    known = {**PLAIN, "if-none-match": (await client.get("/v1/limits", headers=PLAIN)).headers["etag"]}
    asked = [asyncio.create_task(client.get("/v1/limits?wait=60", headers=known)) for _ in range(count)]
    assert not (await asyncio.wait(asked, timeout=0.2))[0]
    return client, asked


def test_gates_that_wait_get_the_next_snapshot_and_hold_no_thread(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LOOK_SECONDS", 0.05)
    gate.publish('{"version": 1}')

    async def wait_and_publish() -> list[httpx.Response]:
        client, asked = await waiting(gate, 60)  # Starlette has 40 threads
        assert (await client.get("/healthz")).status_code == 200
        gate.publish('{"version": 2}')
        return await asyncio.gather(*asked)

    answers = asyncio.run(wait_and_publish())
    assert [answer.json() for answer in answers] == [{"version": 2}] * 60


def test_key_that_is_revoked_while_it_waits_gets_nothing(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LOOK_SECONDS", 0.05)
    gate.publish('{"version": 1}')

    async def wait_and_revoke() -> httpx.Response:
        _, [asked] = await waiting(gate, 1)
        page_keys.revoke(gate.ledger, gate.key.id, NOW)
        gate.publish('{"version": 2}')
        return await asked

    answer = asyncio.run(wait_and_revoke())
    assert (answer.status_code, "version" in answer.text) == (401, False)


def test_gate_that_waits_is_answered_when_the_server_ends(gate: Gate) -> None:
    gate.publish("{}")
    client = gate.client()
    known = {"if-none-match": client.get("/v1/limits").headers["etag"]}
    gate.application.state.is_ending = lambda: True
    assert client.get("/v1/limits?wait=60", headers=known).status_code == 304
    gate.application.state.is_ending = lambda: False
    assert client.get("/v1/limits?wait=1", headers=known).status_code == 304


@pytest.mark.parametrize("wait", ["61", "-1", "x", "", "1e1", "\u0663", "100000"])
def test_wait_is_bounded(gate: Gate, wait: str) -> None:
    gate.publish("{}")
    answer = gate.client().get("/v1/limits", params={"wait": wait})
    assert answer.status_code == 400
    assert answer.json() == {"error": "wait is a number of seconds, 60 at most."}


def test_snapshot_that_is_missing_is_said(gate: Gate) -> None:
    answer = gate.client().get("/v1/limits?wait=60")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert answer.json() == {"error": "There are no figures yet. The first run counts them."}
