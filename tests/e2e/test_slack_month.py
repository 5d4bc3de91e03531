"""The turn of a month in Berlin, by the real program: what was before the first run, what happens in the last evening,
and what lands of the old month when the new one has begun."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.program import Program
from tests.fakes.slack import FakeSlack
from tests.support.builders import land, make_event, make_quota

ACCOUNTS = ("older", "acme", "later")
VERDICTS = """
    select account_id, outcome from announced_crossings where threshold = '100%' order by account_id, crossed_at
"""
"""A quota of 4 is used up by the fourth call, which reaches all thresholds at once."""


@pytest.fixture(scope="module")
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        yield server


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, slack: FakeSlack) -> Program:
    program = Program(
        tmp_path_factory.mktemp("month"), {"HEADROOM_TIMEZONE": "Europe/Berlin", "HEADROOM_STALE_AFTER_HOURS": "10000"}
    )
    program.with_slack(slack)
    land(program.landing, "quotas.ndjson", *(make_quota(name, 4, "2024-10-01T00:00:00Z") for name in ACCOUNTS))
    call(program, "older", *(f"2024-10-12T10:00:0{n}Z" for n in range(4)))
    return program


def call(program: Program, account: str, *times: str) -> None:
    land(program.landing, f"{account} {times[-1]}.ndjson", *(make_event(account, time) for time in times))


def digest(program: Program, slack: FakeSlack, day: str) -> dict[str, Any]:
    """What 8am of the day brings: one message, whose text and news are these."""
    before = len(slack.messages)
    program.run("run", HEADROOM_NOW=f"{day}T07:00:00Z")
    [message] = slack.messages[before:]
    key = f"local|digest|{day}|slack"
    assert message["metadata"]["event_payload"]["key"] == key
    [(payload,)] = program.ledger("select payload from deliveries where key = ?", key)
    return {item["account_id"]: item for item in json.loads(str(payload))["digest"]["items"]}


# The tests of this module are the days of one installation.


def test_first_digest_has_the_last_evenings_crossing_and_no_older_one(program: Program, slack: FakeSlack) -> None:
    call(program, "acme", *(f"2024-10-31T21:0{n}:00Z" for n in range(4)))  # from 22:00 on in Berlin
    call(program, "acme", *(f"2024-11-01T05:00:0{n}Z" for n in range(3)))

    news = digest(program, slack, "2024-11-01")

    assert list(news) == ["acme"]
    assert (news["acme"]["used"], news["acme"]["hits_cap"]) == ("4", "period ended")
    assert news["acme"]["crossed_at"] == "31 Oct 22:03"
    assert program.ledger(VERDICTS) == [("acme", "announced"), ("older", "backfill")]


def test_new_month_starts_at_zero_and_a_late_file_counts_as_ended(program: Program, slack: FakeSlack) -> None:
    call(program, "acme", "2024-11-01T20:00:00Z")
    call(program, "later", *(f"2024-10-12T10:00:0{n}Z" for n in range(4)))

    news = digest(program, slack, "2024-11-02")

    assert set(news) == {"acme", "later"}
    assert (news["acme"]["used"], news["acme"]["crossed_at"]) == ("4", "01 Nov 21:00")
    assert news["acme"]["hits_cap"] != "period ended"
    assert (news["later"]["hits_cap"], news["later"]["crossed_at"]) == ("period ended", "12 Oct 12:00")
    both = [("acme", "announced"), ("acme", "announced")]
    assert program.ledger(VERDICTS) == [*both, ("later", "announced"), ("older", "backfill")]
    assert set(slack.counts().values()) == {1}
