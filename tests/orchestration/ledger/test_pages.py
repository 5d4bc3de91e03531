"""Keys and views of the pages, on both databases."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.ledger import page_keys, page_views
from orchestration.ledger.ledger import Ledger

NOW = datetime(2026, 11, 20, 8, 40, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with closing(Ledger(ledger_url, wait_seconds=5)) as opened:
        yield opened


def test_key_is_found_by_its_secret_until_it_ends(ledger: Ledger) -> None:
    key, secret = page_keys.grant(ledger, "Acme – عميل", "a/b", NOW, NOW + DAY)

    assert page_keys.find(ledger, secret) == key
    assert page_keys.find(ledger, secret[:-1]) is None
    assert [key.is_valid(NOW), key.is_valid(NOW + DAY)] == [True, False]
    revoked = page_keys.revoke(ledger, key.id, NOW)
    assert revoked
    assert not revoked.is_valid(NOW)
    assert page_keys.revoke(ledger, key.id, NOW + DAY) == revoked
    assert page_keys.revoke(ledger, "unknown", NOW) is None


def test_view_is_recorded_once_an_hour_and_forgotten(ledger: Ledger) -> None:
    for minutes in (0, 19, 20):
        page_views.record(ledger, [page_views.View("key:1", "x" * 1024, "account", NOW + timedelta(minutes=minutes))])

    views = page_views.newest(ledger, 10, account_id="x" * 1024)
    assert [view.first_at for view in views] == [NOW + timedelta(minutes=20), NOW]
    assert page_views.newest(ledger, 10, visitor="key:2") == []
    assert page_views.last_seen(ledger) == {"key:1": NOW + timedelta(minutes=20)}
    assert page_views.forget(ledger, NOW + 2 * DAY, 2) == 1
    assert len(page_views.newest(ledger, 10)) == 1
