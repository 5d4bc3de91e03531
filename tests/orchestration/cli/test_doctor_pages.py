"""Doctor says what keeps people from the pages, or will in two weeks, and what would show a key to others."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from orchestration.cli import doctor_pages
from orchestration.ledger import page_keys
from orchestration.ledger.ledger import Ledger
from orchestration.settings import load
from orchestration.usage.findings import Finding

DAY = timedelta(days=1)
CS = '"CS team"'


@pytest.fixture
def ledger(data: Path) -> Iterator[Ledger]:
    with closing(Ledger(load().ledger_url)) as opened:
        yield opened


def found() -> list[Finding]:
    return list(doctor_pages.examine(load(), is_ledger_usable=True))


def grant(ledger: Ledger, name: str, account_id: str | None, days: int) -> page_keys.PageKey:
    now = datetime.now(UTC)
    return page_keys.grant(ledger, name, account_id, now, now + days * DAY)[0]


def test_pages_that_nobody_set_up_are_not_mentioned(ledger: Ledger) -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"URL": "http://usage.example.com"}, "keys travel readable over http: put a proxy with TLS in front"),
        ({"URL": "http://1.1.1.1:8090"}, "keys travel readable over http"),
        ({"URL": "http://127.0.0.1:8090", "FRAME_ANCESTORS": "https://a.test"}, "browsers keep no cookie in an"),
        ({"URL": "https://a.test/usage/k/abc"}, "it is the address of a link"),
        ({"URL": "https://a.test//usage"}, "the path '//usage' opens nothing"),
    ],
)
def test_address_that_shows_keys_or_opens_nothing_is_named(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    grant(ledger, "CS team", None, 90)
    for name, value in variables.items():
        monkeypatch.setenv(f"HEADROOM_PAGES_{name}", value)
    finding, last = found()
    assert finding.subject == "HEADROOM_PAGES_URL"
    assert finding.problem.startswith(said)
    assert not finding.is_needed
    assert last == Finding("pages: 1 valid key")


@pytest.mark.parametrize(
    "url", ["https://a.test/usage/", "http://127.0.0.1:8090", "http://[::1]:8090", "http://crm.lan"]
)
def test_address_with_tls_or_inside_is_well(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    grant(ledger, "CS team", None, 90)
    monkeypatch.setenv("HEADROOM_PAGES_URL", url)
    assert found() == [Finding("pages: 1 valid key")]


def test_address_without_a_key_is_named_unless_people_log_in(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_PAGES_URL", "https://a.test")
    page_keys.revoke(ledger, grant(ledger, "CS team", None, 90).id, datetime.now(UTC))
    [finding] = found()
    assert finding.problem == (
        f"messages link there, and nobody can open it: `headroom pages grant {CS}` prints a link"
    )
    monkeypatch.setenv("HEADROOM_PAGES_TRUST_HEADER", "X-User")
    monkeypatch.setenv("HEADROOM_PAGES_TRUST_FROM", "10.0.0.7")
    assert found() == []


def test_keys_that_end_soon_are_named_unless_there_is_a_later_one(ledger: Ledger) -> None:
    soon = grant(ledger, "CS team", None, 3)
    customer = grant(ledger, "Acme", "a'b", 2)
    grant(ledger, "Sales", None, 3)
    grant(ledger, "Sales", None, 90)
    first, second, last = found()
    assert first.subject == f"page key {customer.id} of Acme"
    assert first.problem == (
        f"ends on {customer.expires_at:%Y-%m-%d %H:%M} UTC. Send a new link:"
        """ `headroom pages grant --account 'a'"'"'b'`"""
    )
    assert second.problem.endswith("`headroom pages grant 'CS team'`")
    assert second.subject == f"page key {soon.id} of CS team"
    assert last == Finding("pages: 4 valid keys")
    for number in range(doctor_pages.LISTED):
        grant(ledger, f"Team {number}", None, 1)
    assert "2 more keys end within 14 days" in found()[doctor_pages.LISTED].problem


def test_customers_key_whose_account_is_gone_is_named(ledger: Ledger, data: Path) -> None:
    grant(ledger, "Acme", "acme", 90)
    gone = grant(ledger, "Beta", "beta", 90)
    assert len(found()) == 1  # no copy yet: its own finding says so
    with closing(duckdb.connect(str(data / "published.duckdb"))) as connection:
        connection.execute("create table utilization_mtd as select 'acme' as account_id")
    finding, _ = found()
    assert finding.subject == f"page key {gone.id} of Beta"
    assert finding.problem == (
        f"its account 'beta' has no figures. End it with `headroom pages revoke {gone.id}`, and grant a link for the"
        " account's present id"
    )
