"""`headroom pages`: links are granted, listed and revoked, in sentences."""

import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestration import settings
from orchestration.cli import pages
from orchestration.cli.console import console
from orchestration.cli.main import app
from orchestration.ledger import engines, page_keys, page_views, restored
from orchestration.ledger.ledger import Ledger
from orchestration.warehouse import queries

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)


@pytest.fixture
def ledger(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setattr(pages, "_clock", lambda: NOW)
    with closing(Ledger(settings.load().ledger_url)) as opened:
        yield opened


def ask(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["pages", *arguments])


def test_granted_link_opens_until_it_is_revoked(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_PAGES_URL", "https://pages.test/usage/")
    link, said = ask("grant", "CS team").stdout.splitlines()

    root, _, secret = link.rpartition("/")
    assert root == "https://pages.test/usage/k"
    key = page_keys.find(ledger, secret)
    assert key
    assert (key.name, key.expires_at) == ("CS team", NOW + timedelta(days=90))
    assert f"until 2027-02-18 08:00 UTC. Keep the link, which is shown once. `headroom pages revoke {key.id}`" in said

    assert "opens nothing from now on" in ask("revoke", "CS team").stdout
    found = page_keys.find(ledger, secret)
    assert found
    assert not found.is_valid(NOW)
    assert "there is no valid key 'CS team'" in ask("revoke", "CS team").stderr
    assert "there is no valid key 'x'" in ask("revoke", "x").stderr


def test_gate_is_granted_a_key_and_no_link(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_PAGES_URL", "https://pages.test/usage/")
    secret, said = ask("grant", "api gate", "--audience", "gate").stdout.splitlines()

    key = page_keys.find(ledger, secret)
    assert key
    assert (key.name, key.audience, key.account_id) == ("api gate", "gate", None)
    assert "Keep the key, which opens https://pages.test/usage/v1/limits and is shown once." in said
    assert "limits" in ask("list").stdout


@pytest.mark.parametrize(
    ("expires", "until"),
    [("12h", NOW + timedelta(hours=12)), ("2027-01-31", datetime(2027, 1, 31, 23, tzinfo=UTC))],
)
def test_link_expires_after_hours_or_after_a_day_of_the_zone(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, expires: str, until: datetime
) -> None:
    monkeypatch.setenv("HEADROOM_TIMEZONE", "Europe/Berlin")
    assert ask("grant", "CS team", "--expires", expires).exit_code == 0
    assert [key.expires_at for key in page_keys.listed(ledger)] == [until]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say who gets the link"),
        (["\n "], "say who gets the link"),
        (["CS", "--expires", "soon"], "'soon' is not a time"),
        (["CS", "--expires", "0d"], "is past"),
        (["CS", "--expires", "999999d"], "more than ten years away"),
        (["CS", "--expires", "2026-11-19"], "is past"),
        (["CS", "--audience", "customer"], "name it with --account"),
        (["--account", "acme", "--audience", "internal"], "leave out --audience internal"),
        (["--account", "acme", "--audience", "gate"], "leave out --audience gate"),
        (["--account", "acme"], "does not exist yet: `headroom run`"),
    ],
)
def test_link_is_refused_in_a_sentence(ledger: Ledger, arguments: list[str], said: str) -> None:
    result = ask("grant", *arguments)

    assert result.exit_code == 1
    assert said in result.stderr
    assert page_keys.listed(ledger) == []


def test_customer_link_is_for_an_account_that_exists(
    ledger: Ledger, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    duckdb.connect(str(data / "published.duckdb")).close()

    def named(_: object, name: str) -> dict[str, str]:
        if name != "Acme Corp":
            raise queries.UnknownAccountError(f"there is no account {name!r}; the nearest: acme (Acme Corp)")
        return {"account_id": "acme", "account_name": "Acme Corp"}

    monkeypatch.setattr(queries, "account_named", named)
    assert "the nearest: acme (Acme Corp)" in ask("grant", "--account", "acmee").stderr
    assert "/u/" in ask("grant", "--account", "Acme Corp").stdout
    [key] = page_keys.listed(ledger)
    assert (key.name, key.audience, key.account_id) == ("Acme Corp", "customer", "acme")


@pytest.mark.parametrize("columns", [80, 100])
def test_keys_and_views_are_listed_within_the_terminal(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(console, "_width", columns)
    assert "Nobody has a link yet" in ask("list").stdout
    assert "Nobody has opened a page yet" in ask("list", "--views").stdout
    key, _ = page_keys.grant(ledger, "CS " * 30, None, NOW, NOW + timedelta(days=1))
    page_keys.grant(ledger, "Acme", "x" * 1024, NOW - timedelta(days=2), NOW - timedelta(days=1))
    page_views.record(ledger, [page_views.View(f"key:{key.id}", "<b>[red]acme", "account", NOW)])
    page_views.record(ledger, [page_views.View("login:dana", "", "utilization", NOW)])

    listed, views = ask("list").stdout, ask("list", "--views").stdout
    assert "valid" in listed
    assert "expired" in listed
    assert "<b>[red]acme" in views
    assert "dana" in views
    assert max(map(len, (listed + views).splitlines())) <= columns


def test_copy_of_a_ledger_says_that_revoked_keys_are_valid_again(ledger: Ledger, data: Path) -> None:
    key, _ = page_keys.grant(ledger, "CS team", None, NOW, NOW + timedelta(days=1))
    restored.copy(settings.load().ledger_url, data / "copy.sqlite", NOW)
    page_keys.revoke(ledger, key.id, NOW)
    ledger.close()
    (data / "copy.sqlite").replace(data / "ledger.sqlite")
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (data / name).unlink(missing_ok=True)

    result = ask("list")
    assert "a copy of 2026-11-20 08:00 UTC. Keys that were revoked after it are valid again" in result.stderr
    assert "valid" in result.stdout


def test_port_that_is_taken_is_said(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("HEADROOM_PAGES_PORT", str(port))
        result = ask()

    assert result.exit_code == 1
    assert f"the pages cannot listen on 127.0.0.1, port {port} (Address already in use)" in result.stderr


def test_pages_do_not_start_on_a_ledger_that_is_only_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "may_only_read", lambda _: True)  # for root each mode is as good as any
    result = ask()

    assert result.exit_code == 1
    assert "this user may only read the ledger. Let it write to" in " ".join(result.stderr.split())


def test_name_of_two_keys_is_answered_with_their_ids(ledger: Ledger) -> None:
    one, _ = page_keys.grant(ledger, "CS team", None, NOW, NOW + timedelta(days=1))
    other, _ = page_keys.grant(ledger, "CS team", None, NOW - timedelta(days=1), NOW + timedelta(days=1))

    assert f"2 keys have the name 'CS team'; give an id: {one.id}, {other.id}" in ask("revoke", "CS team").stderr
    assert ask("revoke", other.id).exit_code == 0
    assert ask("revoke", "CS team").exit_code == 0
    assert all(key.revoked_at for key in page_keys.listed(ledger))
