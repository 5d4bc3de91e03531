"""Header fields and bodies, as exact text: the examples of docs/gate/index.md."""

import json
import re
from typing import Any

import pytest

from headroom_gate import headers, policy
from headroom_gate.policy import Answer, Decision, Outcome
from headroom_gate.rates import Rate
from tests.gate.world import END, NOW, START, make_question

ITEM = re.compile(r'"[a-z]+"(;[a-z][a-z0-9_.*-]*=(0|[1-9][0-9]{0,14}))*')
"""An item of a list (RFC 9651): a string with parameters that are integers of 15 digits at most."""


def fields(outcome: Outcome = Outcome.ALLOWED, spent: int = 813, **question: Any) -> dict[str, str]:
    found = headers.fields(
        policy.settle(make_question(**{"quota": 1000, **question}), Answer(outcome, spent), NOW), NOW
    )
    assert len(dict(found)) == len(found)
    return dict(found)


def test_allowed_answer_says_what_is_left_and_until_when() -> None:
    assert fields(rate=Rate(20, 1)) == {
        "RateLimit-Policy": '"quota";q=1000;w=2678400, "rate";q=20;w=1',
        "RateLimit": '"quota";r=187;t=1814400',
        "X-RateLimit-Limit": "1000",
        "X-RateLimit-Remaining": "187",
        "X-RateLimit-Reset": str(END),
    }
    assert (END - START, END - NOW) == (2678400, 1814400)


def test_answer_past_a_soft_quota_says_how_far() -> None:
    found = fields(spent=1012, kind="soft")
    assert found["RateLimit"] == '"quota";r=0;t=1814400;headroom-overage=12'
    assert (found["X-RateLimit-Remaining"], found["X-RateLimit-Overage"]) == ("0", "12")


def test_refusal_by_the_quota_says_when_it_starts_again() -> None:
    found = fields(Outcome.QUOTA, spent=1000)
    assert (found["RateLimit"], found["Retry-After"]) == ('"quota";r=0;t=1814400', "1814400")


def test_refusal_by_the_rate_names_that_limit_alone() -> None:
    found = fields(Outcome.RATE, rate=Rate(5, 2))
    assert (found["RateLimit"], found["Retry-After"]) == ('"rate";r=0;t=2', "2")
    assert (found["X-RateLimit-Limit"], found["X-RateLimit-Remaining"]) == ("5", "0")
    assert found["X-RateLimit-Reset"] == str(NOW + 2)


def test_refusal_by_the_throttle_has_its_name() -> None:
    found = fields(Outcome.RATE, spent=1000, kind="throttle", rate=Rate(20, 1), throttle=Rate(1, 1))
    assert found["RateLimit-Policy"] == '"quota";q=1000;w=2678400, "rate";q=20;w=1, "throttle";q=1;w=1'
    assert found["RateLimit"] == '"throttle";r=0;t=1'


def test_period_without_an_end_has_no_times() -> None:
    question = make_question(1000)
    question = question._replace(limit=question.limit._replace(resets_at=None))
    found = dict(headers.fields(policy.settle(question, Answer(Outcome.ALLOWED, 813), NOW), NOW))
    assert found == {
        "RateLimit-Policy": '"quota";q=1000',
        "RateLimit": '"quota";r=187',
        "X-RateLimit-Limit": "1000",
        "X-RateLimit-Remaining": "187",
    }


def test_account_with_a_rate_alone_has_its_policy_alone() -> None:
    assert fields(quota=None, rate=Rate(20, 1)) == {"RateLimit-Policy": '"rate";q=20;w=1'}


@pytest.mark.parametrize("reason", ["monitor", "unknown", "stale", "missing", "unlimited", "error"])
def test_uncounted_call_has_no_fields(reason: str) -> None:
    assert headers.fields(Decision(True, reason), NOW) == []


@pytest.mark.parametrize("quota", [0, 1, 10**15])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_fields_are_lists_of_items_with_integers_of_15_digits(quota: int, outcome: Outcome) -> None:
    found = fields(outcome, spent=3, quota=quota, rate=Rate(2, 1), kind="soft")
    for name in ("RateLimit", "RateLimit-Policy"):
        assert all(ITEM.fullmatch(item) for item in found[name].split(", ")), found[name]


def test_body_of_a_refusal_is_a_problem_with_the_page_of_the_customer() -> None:
    decision = policy.settle(make_question(1000, cost=5), Answer(Outcome.QUOTA, 998), NOW)
    assert json.loads(headers.problem(decision, "calls", "https://headroom.example.com/u/")) == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "detail": "998 of 1,000 calls are used, and this call needs 5. "
        "The quota starts again at 2097-01-01 00:00:00 UTC.",
        "violated-policies": ["quota"],
        "usage": "https://headroom.example.com/u/",
    }


def test_body_of_a_refusal_by_the_rate_says_the_rate() -> None:
    decision = policy.settle(make_question(1000, rate=Rate(5, 2)), Answer(Outcome.RATE, 998), NOW)
    body = json.loads(headers.problem(decision, "calls", None))
    assert (body["detail"], body["violated-policies"]) == ("The plan allows 5 calls in 2 seconds.", ["rate"])
    assert "usage" not in body


def test_body_without_a_snapshot_asks_to_come_back() -> None:
    body = json.loads(headers.problem(policy.missing(is_closed=True), "", None))
    assert body["status"] == 503
    assert body["type"].endswith("#temporary-reduced-capacity")
