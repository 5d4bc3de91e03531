"""What is said of one account: right for each kind of limit and price, silent about what is not known."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration.messages import account_wording as words
from orchestration.messages.account_wording import DigestDay
from tests.support.builders import NOVEMBER, make_standing

FRIDAY = date(2026, 11, 20)
BERLIN = ZoneInfo("Europe/Berlin")
DIGEST_DAY = DigestDay(FRIDAY, BERLIN, since=datetime(2026, 11, 19, 7, tzinfo=UTC))
PRICED = {
    "next_plan": "scale",
    "currency": "USD",
    "next_plan_delta_mrr": Decimal("1491.00"),
    "next_plan_delta": Decimal("-110.50"),
    "projected_overage_value": Decimal("1601.50"),
    "is_staying_cheaper": False,
}


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (datetime(2026, 11, 20, 6, tzinfo=UTC), "today 07:00"),
        (datetime(2026, 11, 18, 23, tzinfo=UTC), "yesterday 00:00"),  # of Berlin's day
        (datetime(2026, 11, 18, 22, 59, tzinfo=UTC), "Wed 18 Nov 23:59"),
    ],
)
def test_moment_is_said_as_of_the_digests_day(at: datetime, said: str) -> None:
    assert DIGEST_DAY.moment(at) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cost_of_waiting": "will be blocked"}, "hard limit: will be blocked"),
        ({"cost_of_waiting": "will be blocked", "used_mtd": 1_000_000}, "hard limit: calls are refused now"),
        ({"cost_of_waiting": "overage starts"}, "soft limit: overage starts"),
        (
            {
                "cost_of_waiting": "overage starts",
                "used_mtd": 1_100_000,
                "overage_units": 100_000,
                "overage_value": Decimal("22.3"),
                "currency": "USD",
            },
            "soft limit: overage so far 22.30 USD",
        ),
        ({"cost_of_waiting": "overage starts", "used_mtd": 1_000_000}, "soft limit: overage starts now"),
        ({"cost_of_waiting": "", "limit_kind": "hard"}, "hard limit"),
        ({}, ""),
    ],
)
def test_waiting_says_what_the_limit_does(fields: dict[str, Any], said: str) -> None:
    assert words.waiting(make_standing(**fields)) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "1,200,000"),
        ({"projected_low": 1_105_000, "projected_high": 1_280_000}, "1,200,000 (1,105,000 to 1,280,000)"),
        ({"projected_low": 1_200_000, "projected_high": 1_200_000}, "1,200,000"),
        ({"projected_eom": None}, "too early to say"),
    ],
)
def test_projection_has_its_band(fields: dict[str, Any], said: str) -> None:
    assert words.projected(make_standing(**fields)) == said


def test_progress_is_cut_off_points_of_the_quota() -> None:
    assert words.progress(make_standing(), DIGEST_DAY) == ["+3.1 points since yesterday 08:00"]
    assert words.progress(make_standing(meter="seats", used_since=None), DIGEST_DAY) == []


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (700_000, "16 % more than at the same point of the last period (700,000)"),
        (1_000_000, "18 % less than at the same point of the last period (1,000,000)"),
        (812_345, "about as much as at the same point of the last period (812,345)"),
    ],
)
def test_progress_compares_with_the_period_before(last: int, said: str) -> None:
    assert words.progress(make_standing(used_same_point_last_period=last), DIGEST_DAY)[1] == said


@pytest.mark.parametrize("last", [None, 0])
def test_progress_compares_with_nothing_where_there_was_nothing(last: int | None) -> None:
    assert len(words.progress(make_standing(used_same_point_last_period=last), DIGEST_DAY)) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "it saves them 110.50 USD (projected overage 1,601.50 USD)"),
        ({"next_plan_delta": Decimal(0)}, "it costs them the same (projected overage 1,601.50 USD)"),
        (
            {"is_staying_cheaper": True, "next_plan_delta": Decimal("398.36")},
            "staying is cheaper for them, by 398.36 USD (projected overage 1,601.50 USD)",
        ),
        (
            {"is_staying_cheaper": None, "is_refused": True, "is_refused_on_next_plan": False},
            "nothing would be refused there",
        ),
    ],
)
def test_offer_says_what_the_next_plan_does_for_the_customer(fields: dict[str, Any], said: str) -> None:
    offer = words.offer(make_standing(**{**PRICED, **fields}))

    assert offer == f"next plan scale: +1,491.00 USD MRR; {said}"


def test_offer_says_no_more_than_the_catalog_knows() -> None:
    unknown = {"is_staying_cheaper": None, "next_plan_delta": None, "projected_overage_value": None}

    assert words.offer(make_standing(**{**PRICED, **unknown})) == "next plan scale: +1,491.00 USD MRR"
    assert words.offer(make_standing(next_plan="scale")) == ""
    assert words.offer(make_standing()) == ""


def test_retry_storm_is_helped_and_not_sold_to() -> None:
    storm = make_standing(
        **PRICED,
        is_retry_storm=True,
        recommended_action="Call today",
        has_enough_calls_7d=True,
        error_ratio_7d=Decimal("0.6"),
    )

    assert words.action(storm) == "Help first, do not sell"
    assert words.offer(storm) == ""
    assert words.caveats(storm, DIGEST_DAY) == ["growth is mostly failed calls sent again: help first, do not sell"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"late_calls_24h": 1_204}, "1,204 calls came a day or more late, within the last 24 hours"),
        ({"ci95_pct": Decimal("2.11")}, "estimated from sampled calls, ± 2.2 %"),
        (
            {"error_ratio_7d": Decimal("0.200001"), "has_enough_calls_7d": True},
            "20.0 % of the last 7 days' calls failed",
        ),
        ({"is_trial": True}, "on trial"),
        (
            {"previous_quota": 500_000, "quota_since": datetime(2026, 11, 17, 23, tzinfo=UTC)},
            "quota changed from 500,000 on 18 Nov",
        ),
        ({"snoozed_until": date(2026, 12, 3)}, "snoozed until 03 Dec"),
    ],
)
def test_caveat_is_said_when_it_is_true(fields: dict[str, Any], said: str) -> None:
    assert words.caveats(make_standing(**fields), DIGEST_DAY) == [said]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"error_ratio_7d": Decimal("0.2"), "has_enough_calls_7d": True},
        {"error_ratio_7d": Decimal("0.9"), "has_enough_calls_7d": False},
        {"previous_quota": 500_000, "quota_since": NOVEMBER},  # with the period, not within it
        {"snoozed_until": FRIDAY},
    ],
)
def test_caveat_is_left_out_when_it_is_not(fields: dict[str, Any]) -> None:
    assert words.caveats(make_standing(**fields), DIGEST_DAY) == []


def test_nothing_is_late_on_the_first_day() -> None:
    first = DigestDay(FRIDAY, BERLIN, DIGEST_DAY.since, is_first=True)

    assert words.caveats(make_standing(late_calls_24h=5), first) == []


def test_endpoints_have_their_share_of_all_calls() -> None:
    rows = [
        {"account_id": "acme", "endpoint": "/v1/search", "calls": 599, "all_calls": 1_000},
        {"account_id": "acme", "endpoint": "", "calls": 300, "all_calls": 1_000},
    ]

    assert words.endpoints_note(rows).splitlines() == [
        "Top endpoints of the last 7 days:",
        "/v1/search: 599 calls, 59 %",
        "without an endpoint: 300 calls, 30 %",
    ]
    assert words.endpoints_note([]) == ""
