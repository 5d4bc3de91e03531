"""What routes did with crossings, since when, and who wants no letters: on both kinds of ledgers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestration.ledger import routed
from orchestration.ledger.ledger import Ledger

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


def make_row(account: str = "acme", key: str | None = None, **fields: Any) -> dict[str, Any]:
    crossing = {"account_id": account, "meter": "api-calls", "period_start": NOVEMBER, "quota": 100, "threshold": "80%"}
    outcome = "announced" if key else "superseded"
    return {
        "env": "local",
        "route": "team",
        **crossing,
        "outcome": outcome,
        "decided_at": NOW,
        "message_key": key,
        **fields,
    }


def test_route_starts_again_with_new_terms_alone(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        looks = [
            routed.since(connection, "local", "team", terms, NOW + hours * HOUR)
            for hours, terms in enumerate(["a", "a", "b", "b", "a"])
        ]
        other = routed.since(connection, "production", "team", "a", NOW)
        known = [routed.known_since(connection, "local", "team", terms) for terms in ("a", "b")]

    assert looks == [NOW, NOW, NOW + 2 * HOUR, NOW + 2 * HOUR, NOW + 4 * HOUR]
    assert (other, known) == (NOW, [NOW + 4 * HOUR, None])


def test_outcomes_are_those_of_the_route_and_of_the_periods_asked_for(ledger: Ledger) -> None:
    before = {"period_start": NOVEMBER - timedelta(days=31)}
    rows = [make_row(), make_row(**before), make_row("b", route="other"), make_row("c", env="production")]
    with ledger.transaction() as connection:
        routed.record(connection, rows)
        routed.record(connection, [])
        found = routed.decided(connection, "local", "team", NOVEMBER)

    assert found == {("acme", "api-calls", NOVEMBER, 100, "80%")}


def test_messages_of_a_day_are_counted_by_account(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        for number in range(3):
            ledger.prepare(connection, f"local|crossing|{number}", "slack", {}, NOW)
        rows = [
            make_row(key="local|crossing|0"),
            make_row(key="local|crossing|1", threshold="95%"),
            make_row(key="local|crossing|2", threshold="50%", decided_at=NOW - 9 * HOUR),
            make_row(threshold="90%"),
        ]
        routed.record(connection, rows)
        found = routed.messages_since(connection, "local", "team", NOW - HOUR)

    assert found == {"acme": 2}


def test_address_is_unsubscribed_in_any_case_until_it_subscribes_again(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        assert routed.unsubscribe(connection, "Anna@Acme.example", "wrote", NOW)
        assert not routed.unsubscribe(connection, "anna@acme.example", "wrote again", NOW)
        assert routed.unsubscribed(connection) == {"anna@acme.example"}
        assert routed.resubscribe(connection, "ANNA@acme.example")
        assert not routed.resubscribe(connection, "anna@acme.example")
        assert routed.unsubscribed(connection) == set()
