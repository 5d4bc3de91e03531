"""Answers to alerts in the ledger: each once, withdrawn when they are gone, on both databases."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from orchestration.ledger import dispositions
from orchestration.ledger.dispositions import Kept, Said
from orchestration.ledger.ledger import Delivery, Ledger, State
from tests.support.builders import NOW

KEY = "local|digest|2026-11-20"
LATER = NOW + timedelta(hours=1)
WON = Said("C/2 :white_check_mark:", "acme", "api-calls", "won", "U0DANA", NOW)
SNOOZED = Said("C/9", "globex", "api-calls", "snoozed", "U0OMAR", NOW)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


def sent(ledger: Ledger, key: str = KEY, at: datetime = NOW, state: State = State.SENT) -> Delivery:
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, "slack", {"message": {}}, at, [{"message": {}}])
    found = ledger.delivery(key)
    assert found
    ledger.finish(found, state, at, "C/1", None)
    delivery = ledger.delivery(key)
    assert delivery
    return delivery


def kept(ledger: Ledger) -> list[tuple[str, str, datetime, datetime | None]]:
    rows = dispositions.answers(ledger, "local")
    return [(row["account_id"], row["disposition"], row["said_at"], row["withdrawn_at"]) for row in rows]


def test_answer_that_is_read_again_is_one_row_with_its_first_time(ledger: Ledger) -> None:
    delivery = sent(ledger)

    assert dispositions.keep(ledger, "local", delivery, [WON, SNOOZED], NOW) == Kept(2, 0)
    again = [replace(each, said_at=LATER) for each in (WON, SNOOZED)]
    assert dispositions.keep(ledger, "local", delivery, again, LATER) == Kept(0, 0)

    assert kept(ledger) == [("acme", "won", NOW, None), ("globex", "snoozed", NOW, None)]


def test_answer_that_is_gone_is_withdrawn_until_it_is_back(ledger: Ledger) -> None:
    delivery = sent(ledger)
    dispositions.keep(ledger, "local", delivery, [WON, SNOOZED], NOW)

    assert dispositions.keep(ledger, "local", delivery, [SNOOZED], LATER) == Kept(0, 1)
    assert dispositions.keep(ledger, "local", delivery, [SNOOZED], LATER + timedelta(hours=1)) == Kept(0, 0)
    assert kept(ledger)[0] == ("acme", "won", NOW, LATER)

    back = replace(WON, said_at=LATER + timedelta(hours=2))
    assert dispositions.keep(ledger, "local", delivery, [back, SNOOZED], back.said_at) == Kept(1, 0)
    assert kept(ledger)[0] == ("acme", "won", back.said_at, None)


def test_edited_answer_says_what_it_says_now(ledger: Ledger) -> None:
    delivery = sent(ledger)
    dispositions.keep(ledger, "local", delivery, [SNOOZED], NOW)

    edited = replace(SNOOZED, disposition="won", said_at=LATER)
    assert dispositions.keep(ledger, "local", delivery, [edited], LATER) == Kept(1, 0)
    assert kept(ledger) == [("globex", "won", LATER, None)]


def test_answers_of_another_thread_are_not_withdrawn(ledger: Ledger) -> None:
    first, second = sent(ledger), sent(ledger, "local|digest|2026-11-21")
    dispositions.keep(ledger, "local", first, [WON], NOW)
    dispositions.keep(ledger, "local", second, [], NOW)

    assert kept(ledger) == [("acme", "won", NOW, None)]


def test_threads_are_sent_alerts_of_the_environment_since_then(ledger: Ledger) -> None:
    old = NOW - timedelta(days=31)
    for key, at, state in (
        (KEY, NOW, State.SENT),
        ("local|critical|now", NOW, State.SENT),
        ("local|weekly|2026-W47", NOW, State.SENT),
        ("production|digest|2026-11-20", NOW, State.SENT),
        ("local|digest|2026-10-20", old, State.SENT),
        ("local|digest|2026-11-19", NOW, State.FAILED),
    ):
        sent(ledger, key, at, state)

    found = dispositions.threads(ledger, "local", ("digest", "critical"), NOW - timedelta(days=30))
    assert [each.key for each in found] == ["local|critical|now", KEY]


def test_alerts_are_announced_crossings_that_were_not_withdrawn(ledger: Ledger) -> None:
    sent(ledger)
    crossing = {"env": "local", "meter": "api-calls", "period_start": NOW, "quota": 100, "threshold": "80%"}
    about = {"crossed_at": NOW, "detected_at": LATER, "outcome": "announced", "message_key": KEY}
    rows = [{**crossing, **about, "account_id": account} for account in ("acme", "corrected", "globex")]
    rows[2]["outcome"] = "superseded"
    with ledger.transaction() as connection:
        ledger.record_crossings(connection, rows)
        ledger.withdraw_crossings(connection, [rows[1]], KEY)

    [alert] = dispositions.alerts(ledger, "local")
    assert (alert["account_id"], alert["alerted_at"], alert["message_key"]) == ("acme", LATER, KEY)
    assert dispositions.alerts(ledger, "production") == []


def test_answer_needs_its_delivery(ledger: Ledger) -> None:
    delivery = replace(sent(ledger), key="local|digest|never")
    with pytest.raises(sa.exc.IntegrityError):
        dispositions.keep(ledger, "local", delivery, [WON], NOW)
