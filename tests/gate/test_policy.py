"""The table of kinds in policy.py, row by row."""

import pytest

from headroom_gate import policy
from headroom_gate.counters import LocalCounter
from headroom_gate.parsing import parse
from headroom_gate.policy import Answer, Decision, Outcome, Question
from headroom_gate.rates import Rate
from tests.gate.world import END, NOW, Clock, make_account, make_question, make_snapshot


@pytest.mark.parametrize(
    ("kind", "used", "outcome"),
    [
        ("hard", 9, Outcome.ALLOWED),
        ("hard", 10, Outcome.QUOTA),
        ("soft", 9, Outcome.ALLOWED),
        ("soft", 10, Outcome.ALLOWED),
        ("throttle", 9, Outcome.ALLOWED),
        ("throttle", 10, Outcome.ALLOWED),
    ],
)
def test_last_unit_of_the_quota_is_allowed_and_the_next_is_for_the_kind(kind: str, used: int, outcome: Outcome) -> None:
    answer = LocalCounter(Clock()).take(make_question(10, used, kind=kind))
    assert answer.outcome is outcome


def test_throttle_slows_down_past_the_quota_alone() -> None:
    counter, throttle = LocalCounter(), Rate(1, 60)
    below = [counter.take(make_question(10, 0, kind="throttle", throttle=throttle)).outcome for _ in range(10)]
    past = [counter.take(make_question(10, 0, kind="throttle", throttle=throttle)).outcome for _ in range(3)]

    assert below == [Outcome.ALLOWED] * 10
    assert past == [Outcome.ALLOWED, Outcome.RATE, Outcome.RATE]


def test_rate_holds_below_the_quota_too() -> None:
    counter = LocalCounter()
    outcomes = [counter.take(make_question(None, rate=Rate(2, 60))).outcome for _ in range(3)]
    assert outcomes == [Outcome.ALLOWED, Outcome.ALLOWED, Outcome.RATE]


def test_weighted_call_needs_room_for_all_of_its_units() -> None:
    counter = LocalCounter(Clock())
    costs = [counter.take(make_question(10, 4, cost)).outcome for cost in (7, 6, 1)]
    assert costs == [Outcome.QUOTA, Outcome.ALLOWED, Outcome.QUOTA]


def test_free_call_is_allowed_past_a_hard_quota() -> None:
    assert LocalCounter(Clock()).take(make_question(10, 50, cost=0)).outcome is Outcome.ALLOWED


def test_call_that_costs_more_than_the_whole_rate_takes_all_of_it() -> None:
    counter = LocalCounter()
    outcomes = [counter.take(make_question(None, cost=5, rate=Rate(2, 60))).outcome for _ in range(2)]
    assert outcomes == [Outcome.ALLOWED, Outcome.RATE]


def asked(kind: str | None = "hard", quota: int | None = 1000, plan: str = "team") -> Question | Decision:
    return policy.question(parse(make_snapshot(make_account("acme", kind, quota, 0, plan))), "acme", 1, NOW)


def test_monitor_is_never_counted_nor_refused() -> None:
    assert asked("monitor", quota=0, plan="rated") == Decision(True, "monitor")


def test_account_that_the_snapshot_does_not_know_is_allowed() -> None:
    assert policy.question(parse(make_snapshot()), "globex", 1, NOW) == Decision(True, "unknown")


def test_account_without_quota_and_rate_is_allowed() -> None:
    assert asked(quota=None) == Decision(True, "unlimited")


def test_account_without_quota_keeps_the_rate_of_its_plan() -> None:
    found = asked(quota=None, plan="rated")
    assert isinstance(found, Question)
    assert found.rate == Rate(2, 1)


def test_kind_that_the_gate_does_not_know_never_refuses_by_the_quota() -> None:
    found = asked("quantum", quota=0)
    assert isinstance(found, Question)
    assert not found.is_hard


def test_throttle_without_a_rate_of_its_own_is_the_rate_of_the_plan() -> None:
    found = asked("throttle", plan="rated")
    assert isinstance(found, Question)
    assert found.throttle == Rate(2, 1)


def test_refusal_by_the_quota_waits_for_the_end_of_the_period() -> None:
    decision = policy.settle(make_question(10), Answer(Outcome.QUOTA, 10, is_first=True), NOW)
    assert (decision.status, decision.retry_after_seconds, decision.is_first) == (429, END - NOW, True)


def test_refusal_by_the_rate_waits_for_its_window() -> None:
    decision = policy.settle(make_question(10, rate=Rate(5, 2)), Answer(Outcome.RATE, 3), NOW)
    assert (decision.status, decision.retry_after_seconds, decision.rate) == (429, 2, Rate(5, 2))


def test_call_past_a_soft_quota_is_over() -> None:
    assert policy.settle(make_question(10, kind="soft"), Answer(Outcome.ALLOWED, 11), NOW).reason == "over"
    assert policy.settle(make_question(10, kind="soft"), Answer(Outcome.ALLOWED, 10), NOW).reason == "ok"


def test_without_a_snapshot_only_a_closed_gate_refuses() -> None:
    assert policy.missing(is_closed=False).is_allowed
    assert policy.missing(is_closed=True).status == 503
