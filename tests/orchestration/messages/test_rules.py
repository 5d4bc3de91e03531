"""A changed rule: which crossings are no news by it, and what the digest says."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration.messages import rules, rules_plan
from orchestration.messages.crossings import Outcome
from orchestration.messages.rules import was_announced
from tests.support.builders import meter_facts

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)
LAST_WEEK, TODAY = NOW - timedelta(days=7), NOW - timedelta(hours=1)


def make_threshold(pct: int | None = 80, **fields: Any) -> dict[str, Any]:
    row = {"meter": None, "plan": None, "threshold_pct": pct, "threshold_units": None, "severity": "warm"}
    return {**row, "is_in_digest": True, "pace_matters": False, **fields}


def make_rules(*thresholds: Mapping[str, Any]) -> dict[str, str]:
    return rules.of_rows("thresholds", thresholds)


def make_crossing(account: str = "acme", threshold: str = "80%", at: datetime = LAST_WEEK, **fields: Any) -> Any:
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    return {
        "account_id": account,
        **meter_facts(),
        "plan": "growth",
        "threshold": threshold,
        "crossed_at": at,
        "period_start": start,
        "period_end": end,
        "quota": 1000,
        "used": 960,
        "is_current_period": True,
        "hits_cap_on": None,
        "hits_cap_in_period": True,
        "limit_kind": "soft",
        "mrr": None,
        "pct_of_cap": 96,
        "pace_matters": False,
        **fields,
    }


def judged(before: Mapping[str, str], *crossings: Any, announced: Any = ()) -> tuple[list[str], dict[str, Outcome]]:
    """The accounts that are news, and the outcome by threshold."""
    news, verdicts = rules.judge(crossings, announced, date(2026, 11, 20), ZoneInfo("UTC"), YESTERDAY, before)
    return [row["account_id"] for row in news], {verdict.key[4]: verdict.outcome for verdict in verdicts}


def test_crossing_of_a_new_threshold_before_the_last_digest_is_no_news() -> None:
    old = make_crossing("old", at=LAST_WEEK)
    new = make_crossing("new", "95%", at=TODAY)

    assert judged(make_rules(make_threshold(95)), old, new) == (
        ["new"],
        {"80%": Outcome.RULE_CHANGED, "95%": Outcome.ANNOUNCED},
    )


def test_crossing_of_a_new_threshold_since_the_last_digest_is_news() -> None:
    assert judged(make_rules(make_threshold(95)), make_crossing(at=TODAY)) == (["acme"], {"80%": Outcome.ANNOUNCED})


def test_late_data_is_news_when_no_rule_changed() -> None:
    assert judged(make_rules(make_threshold(80)), make_crossing()) == (["acme"], {"80%": Outcome.ANNOUNCED})


def test_nothing_is_new_to_a_ledger_that_knows_no_rules() -> None:
    assert judged({}, make_crossing()) == (["acme"], {"80%": Outcome.ANNOUNCED})


def test_known_threshold_stays_news_below_a_new_one_that_is_higher() -> None:
    rows = make_crossing(), make_crossing(threshold="90%")

    news, outcomes = judged(make_rules(make_threshold(80)), *rows)

    assert news == []  # one account, one line: the higher one has its verdict
    assert outcomes == {"90%": Outcome.RULE_CHANGED, "80%": Outcome.SUPERSEDED}


def test_crossing_that_waits_for_its_pace_gets_no_verdict_by_a_new_rule() -> None:
    slow = make_crossing(pace_matters=True, hits_cap_in_period=False)

    assert judged(make_rules(make_threshold(95)), slow) == ([], {})


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([make_threshold()], True),
        ([make_threshold(severity="high")], True),  # only ranked otherwise
        ([make_threshold(is_in_digest=False)], False),
        ([make_threshold(pace_matters=True)], False),
        ([make_threshold(95)], False),
        ([make_threshold(plan="growth")], True),
        ([make_threshold(plan="scale")], False),
        ([make_threshold(meter="seats")], False),
        ([make_threshold(), make_threshold(90, plan="growth")], False),  # that row stood in its place
        ([make_threshold(), make_threshold(90, meter="api-calls")], False),
        ([make_threshold(meter="api-calls"), make_threshold(90, plan="growth")], False),
        ([make_threshold(None, threshold_units=800)], False),
    ],
)
def test_rules_of_before_decide_by_the_most_specific_row(before: list[dict[str, Any]], expected: bool) -> None:
    assert was_announced(make_crossing(), rules.thresholds(make_rules(*before))) is expected


def test_threshold_whose_pace_matters_as_before_was_announced() -> None:
    before = rules.thresholds(make_rules(make_threshold(pace_matters=True)))

    assert was_announced(make_crossing(pace_matters=True), before)


def make_meter(name: str = "tokens", **fields: Any) -> dict[str, Any]:
    return {"meter": name, "aggregation": "sum", "value": "total_tokens", "filter": None, "unit": "tokens", **fields}


@pytest.mark.parametrize(
    ("was", "is_now", "is_news"),
    [
        ([make_meter()], make_meter(), True),
        ([make_meter()], make_meter(unit="Tokens", stripe_meter="tokens"), True),  # called and billed otherwise
        ([make_meter()], make_meter(filter="model=large"), False),
        ([make_meter("api-calls")], make_meter(), False),
        ([], make_meter(), True),  # rules of a version that did not note meters
    ],
)
def test_crossing_of_a_meter_that_counts_otherwise_is_no_news(was: Any, is_now: Any, is_news: bool) -> None:
    before = {**make_rules(make_threshold()), **rules.of_rows("meters", was)}
    now = {**make_rules(make_threshold()), **rules.of_rows("meters", [is_now])}
    crossing, on = make_crossing(meter="tokens"), date(2026, 11, 20)
    news, verdicts = rules.judge([crossing], (), on, ZoneInfo("UTC"), YESTERDAY, before, now=now)
    assert bool(news) == is_news
    assert [verdict.outcome for verdict in verdicts] == [Outcome.ANNOUNCED if is_news else Outcome.RULE_CHANGED]
    today, _ = rules.judge([{**crossing, "crossed_at": TODAY}], (), on, ZoneInfo("UTC"), YESTERDAY, before, now=now)
    assert today, "what crosses since then is news"
    assert bool(rules.changes(before, now)) == bool(was and was != [is_now])


def test_line_says_what_changed_and_how_many_are_not_announced() -> None:
    before = make_rules(make_threshold(80), make_threshold(None, threshold_units=50_000, plan="scale"))
    after = make_rules(make_threshold(70), make_threshold(80, severity="high"))
    routing = rules.of_rows("routing", [{"rule": 10, "advice": "none"}, {"rule": 20, "advice": "watch"}])
    _, verdicts = rules.judge(
        [make_crossing("a", "70%"), make_crossing("b", "70%")],
        (),
        date(2026, 11, 20),
        ZoneInfo("UTC"),
        YESTERDAY,
        before,
    )

    assert rules.line(before, after | routing, verdicts) == (
        "Rules changed: 50,000 units on scale (gone), 70 % (new), 80 % (changed); 2 rows of routing.csv."
        " 2 accounts that had crossed before are not announced."
    )
    assert rules.line(before, before, []) == rules.line({}, after, []) == ""


# Before it is applied


def make_marts(*thresholds: Mapping[str, Any], crossings: Any = (), advised: Any = ()) -> rules_plan.Marts:
    return rules_plan.Marts(make_rules(*thresholds), crossings, advised)


def planned(now: rules_plan.Marts, then: rules_plan.Marts, known: Mapping[str, str]) -> rules_plan.Plan:
    return rules_plan.plan(now, then, [], known, YESTERDAY, date(2026, 11, 21), ZoneInfo("UTC"))


@pytest.mark.parametrize("is_noted", [True, False])
def test_plan_tells_new_crossings_from_those_of_before(is_noted: bool) -> None:
    seen = make_crossing("seen", "95%", at=TODAY, account_name="Seen")
    fresh = make_crossing("fresh", at=TODAY, account_name="Fresh")
    old = make_crossing("old", account_name="Old")
    now = make_marts(make_threshold(95), crossings=[seen])
    then = make_marts(make_threshold(80), crossings=[fresh, old])

    plan = planned(now, then, now.rules if is_noted else {})

    assert plan.changed == ["thresholds.csv: 80 % (new)", "thresholds.csv: 95 % (gone)"]
    assert plan.announced == ["Fresh: crossed 80 % on Fri 20 Nov 07:00 UTC"]
    assert plan.silenced == ["Seen: crossed 95 % on Fri 20 Nov 07:00 UTC"]
    assert plan.recorded == ["Old: crossed 80 % on Fri 13 Nov 08:00 UTC"]


def test_plan_shows_whose_severity_or_advice_would_be_another() -> None:
    row = {"account_id": "acme", "account_name": "Acme", **meter_facts(), "severity": "warm"}
    was, stays = {**row, "advice": "watch", "next_step": "Watch."}, {**row, "account_id": "b", "advice": "watch"}
    becomes = {**was, "severity": "high", "next_step": None}
    now = make_marts(advised=[was, {**stays, "next_step": "x"}])
    then = make_marts(advised=[becomes, {**stays, "next_step": "x"}])

    assert planned(now, then, {}).ranked == ["Acme: warm → high, Watch. → nothing"]
