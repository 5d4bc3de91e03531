"""The snapshot of limits: what a gate reads of it, and what it refuses."""

import json
from typing import Any

import pytest

from headroom_gate.parsing import SnapshotError, parse
from headroom_gate.rates import Rate
from tests.gate.world import END, NOW, START, make_account, make_snapshot


def test_limit_is_the_row_of_the_account() -> None:
    snapshot = parse(make_snapshot(make_account(used=812)))

    limit = snapshot.limit_of("acme", NOW)

    assert limit
    assert (limit.quota, limit.used, limit.kind, limit.through) == (1000, 812, "hard", NOW - 60)
    assert snapshot.limit_of("globex", NOW) is None
    assert (snapshot.accounts, snapshot.meter, snapshot.unit) == (1, "api-calls", "calls")


def test_period_that_ended_starts_again_from_zero_without_a_new_snapshot() -> None:
    snapshot = parse(make_snapshot(make_account(used=1000)))

    before, after = snapshot.limit_of("acme", END - 1), snapshot.limit_of("acme", END)
    much_later = snapshot.limit_of("acme", END + 2 * (END - START) + 5)

    assert before
    assert before.used == 1000
    assert after
    assert (after.used, after.period_start, after.resets_at) == (0, END, END + (END - START))
    assert much_later
    assert much_later.period_start == END + 2 * (END - START)


def test_period_without_an_end_stays_as_it_is() -> None:
    snapshot = parse(make_snapshot([*make_account(used=7)[:7], None]))
    limit = snapshot.limit_of("acme", NOW + 10**9)
    assert limit
    assert (limit.used, limit.resets_at) == (7, None)


def test_subject_belongs_to_its_account_for_its_time() -> None:
    rows = [["key_1", "acme", START, NOW], ["key_1", "globex", NOW, None]]
    snapshot = parse(make_snapshot(subjects=rows))

    assert snapshot.account_of("key_1", START - 1) == "key_1"
    assert snapshot.account_of("key_1", START) == "acme"
    assert snapshot.account_of("key_1", NOW) == "globex"
    assert snapshot.account_of("acme", NOW) == "acme"


def test_subject_with_times_and_without_has_all_of_its_accounts() -> None:
    rows = [["key_1", "acme", 0, None], ["key_1", "globex", NOW, None], ["key_2", "acme", NOW, None]]
    snapshot = parse(make_snapshot(subjects=rows))
    assert [snapshot.account_of("key_1", at) for at in (START, NOW)] == ["acme", "acme"]
    assert [snapshot.account_of("key_2", at) for at in (START, NOW)] == ["key_2", "acme"]


def test_weight_holds_from_its_day_on() -> None:
    meter = json.loads(make_snapshot())["meters"]["api-calls"]
    meter["weights"] = [["/v1/search", "2096-12-11", "7"], ["/v1/search", "2096-12-10", "5"]]
    snapshot = parse(make_snapshot(meters={"api-calls": meter}))
    eleventh = START + 10 * 86_400

    costs = [snapshot.cost("/v1/search", at) for at in (eleventh - 86_401, eleventh - 1, eleventh)]

    assert costs == [1, 5, 7]
    assert snapshot.cost("/v1/other", NOW) == snapshot.cost(None, NOW) == 1


def test_data_of_the_future_is_taken_to_reach_to_the_publication() -> None:
    limit = parse(make_snapshot(published_at=NOW, through=NOW + 300)).limit_of("acme", NOW)
    assert limit
    assert limit.through == NOW


def test_snapshot_without_any_data_counts_from_the_start_of_the_period() -> None:
    limit = parse(make_snapshot(data_through=None)).limit_of("acme", NOW)
    assert limit
    assert limit.through == START - 1


def test_rates_are_those_of_the_plan() -> None:
    snapshot = parse(make_snapshot())
    assert snapshot.rates_of("rated") == (Rate(2, 1), None)
    assert snapshot.rates_of("slow") == (None, Rate(1, 1))
    assert snapshot.rates_of("team") == snapshot.rates_of(None) == (None, None)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"meters": {}}, "has no meter"),
        ({"accounts": [["acme"]]}, "cannot be read"),
        ({"accounts": [make_account(used=1.5)]}, "not whole"),  # type: ignore[arg-type]
        ({"accounts": [make_account(quota=True)]}, "not whole"),
        ({"data_through": "yesterday"}, "cannot be read"),
        ({"plans": {"team": {"rate_limit_per_second": "fast"}}}, "cannot be read"),
        ({"subjects": [["key_1"]]}, "cannot be read"),
    ],
)
def test_damaged_snapshot_is_refused_as_a_whole(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(SnapshotError, match=words):
        parse(make_snapshot(**changed))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"version": 1}', b'{"a": ' + b"[" * 10**5])
def test_text_that_is_not_a_snapshot_is_refused(raw: bytes) -> None:
    with pytest.raises(SnapshotError):
        parse(raw)


def test_other_meter_has_its_own_accounts() -> None:
    data = json.loads(make_snapshot(make_account(used=1), ["acme", "uploads", "team", "soft", 9, 3, START, END]))
    data["meters"]["uploads"] = {**data["meters"]["api-calls"], "is_main": False, "events": ["upload"]}

    snapshot = parse(json.dumps(data), meter="uploads")

    limit = snapshot.limit_of("acme", NOW)
    assert limit
    assert (limit.quota, limit.used, snapshot.events) == (9, 3, ("upload",))


def test_account_without_a_limit_kind_is_soft() -> None:
    limit = parse(make_snapshot(make_account(kind=None))).limit_of("acme", NOW)
    assert limit
    assert limit.kind == "soft"
