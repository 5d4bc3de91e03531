"""What was said about an account, on both databases: by digests and by routes, with answers that still hold."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.ledger import announcements, decided, dispositions, routed
from orchestration.ledger.announcements import Announced, Remark
from orchestration.ledger.dispositions import Said
from orchestration.ledger.ledger import Ledger, State
from tests.support.builders import NOW

PERIOD = datetime(2026, 11, 1, tzinfo=UTC)
DIGEST, ALERT = "local|digest|2026-11-20", "local|crossing|acme|95%|team"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


def crossing(account: str = "acme", threshold: str = "80%") -> dict[str, object]:
    key = {"env": "local", "account_id": account, "meter": "api-calls", "period_start": PERIOD, "quota": 100}
    return {**key, "threshold": threshold}


def announce(ledger: Ledger, key: str = DIGEST, at: datetime = NOW, outcome: str = "announced") -> None:
    moments = {"crossed_at": at, "detected_at": at, "outcome": outcome, "message_key": key}
    with ledger.transaction() as connection:
        decided.record(connection, key, {}, at)
        ledger.prepare(connection, f"{key}|slack", "slack", {}, at, [{}], message=key)
        ledger.record_crossings(connection, [{**crossing(), **moments}, {**crossing("globex"), **moments}])


def test_digest_and_alert_are_both_found_newest_first(ledger: Ledger) -> None:
    announce(ledger)
    later = NOW + timedelta(hours=1)
    with ledger.transaction() as connection:
        routed.since(connection, "local", "team", "{}", NOW)
        decided.record(connection, ALERT, {}, later)
        ledger.prepare(connection, f"{ALERT}|team", "email", {}, later, message=ALERT, route="team", is_draft=True)
        alert = {**crossing(threshold="95%"), "route": "team", "outcome": "announced", "decided_at": later}
        routed.record(connection, [{**alert, "message_key": ALERT}])
    alert_found, digest = announcements.of_account(ledger, "local", "acme", 10)
    assert (alert_found.key, alert_found.kind, alert_found.crossings) == (
        ALERT,
        "crossing",
        [Announced("api-calls", "95%", False)],
    )
    assert [(way.route, way.channel, way.state) for way in alert_found.ways] == [("team", "email", State.DRAFT)]
    assert (digest.key, digest.crossings) == (DIGEST, [Announced("api-calls", "80%", False)])
    assert [(way.route, way.count) for way in digest.ways] == [("slack", 1)]  # replies are no deliveries of their own
    assert announcements.of_account(ledger, "local", "acme", 1) == [alert_found]


def test_what_was_not_announced_is_not_found(ledger: Ledger) -> None:
    announce(ledger, outcome="superseded")
    assert announcements.of_account(ledger, "local", "acme", 10) == []
    assert announcements.of_account(ledger, "production", "acme", 10) == []


def test_withdrawn_crossing_says_so(ledger: Ledger) -> None:
    announce(ledger)
    with ledger.transaction() as connection:
        ledger.withdraw_crossings(connection, [crossing()], "local|digest|2026-11-21")
    [found] = announcements.of_account(ledger, "local", "acme", 10)
    assert found.crossings == [Announced("api-calls", "80%", True)]


def test_answers_of_the_account_that_still_hold_are_there(ledger: Ledger) -> None:
    announce(ledger)
    delivery = ledger.delivery(f"{DIGEST}|slack")
    assert delivery
    won = Said("C/1", "acme", "api-calls", "won", "U1", NOW)
    other = Said("C/2", "globex", "api-calls", "contacted", "U1", NOW)
    dispositions.keep(ledger, "local", delivery, [won, other], NOW)
    [found] = announcements.of_account(ledger, "local", "acme", 10)
    assert [(each.account_id, each.disposition) for each in found.answers] == [("acme", "won")]
    dispositions.keep(ledger, "local", delivery, [other], NOW)
    assert [each.account_id for each in announcements.answers_to(ledger, DIGEST)] == ["globex"]


def test_digests_are_listed_with_their_accounts_and_neighbours(ledger: Ledger) -> None:
    before = "local|digest|2026-11-19"
    with ledger.transaction() as connection:
        decided.record(connection, before, {}, NOW - timedelta(days=1))
    announce(ledger)
    newest, oldest = announcements.digests(ledger, "local", 10)
    assert (newest.on, newest.accounts, len(newest.ways)) == ("2026-11-20", 2, 1)
    assert (oldest.on, oldest.accounts, oldest.ways) == ("2026-11-19", 0, [])
    assert announcements.neighbours(ledger, "local", "2026-11-20") == ("2026-11-19", "")
    assert announcements.neighbours(ledger, "local", "2026-11-19") == ("", "2026-11-20")


def test_weekly_digest_has_what_it_says_of_the_account(ledger: Ledger) -> None:
    lines = [{"account_id": "acme", "text": "−60 %"}, {"account_id": "acme 2", "text": "gone"}]
    weekly = {"sections": [{"heading": "Dropping (2)", "lines": lines}]}
    with ledger.transaction() as connection:
        decided.record(connection, "local|weekly|2026-W47", weekly, NOW + timedelta(days=2))
        decided.record(connection, "local|weekly|2026-W46", {"sections": []}, NOW)
        decided.record(connection, "other|weekly|2026-W47", weekly, NOW)
        decided.record(connection, "local|monthly|2026-10", weekly, NOW + timedelta(days=1))
    announce(ledger)
    found = announcements.of_account(ledger, "local", "acme", 10)
    assert [each.key.split("|")[1] for each in found] == ["weekly", "monthly", "digest"]
    assert found[0].remarks == [Remark("Dropping (2)", "−60 %")]
    assert [each.key for each in announcements.of_account(ledger, "local", 'ac"me', 10)] == []
    assert announcements.of_account(ledger, "local", "acme", 1) == found[:1]
