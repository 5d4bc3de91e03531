"""What is ahead of one account: right for each kind of limit and price, silent about what is not known."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration.messages import outlook as words
from orchestration.messages.account_wording import DigestDay
from tests.support.builders import NOVEMBER, make_standing

FRIDAY = date(2026, 11, 20)
LIFETIME_END = datetime(9999, 12, 31, tzinfo=UTC)
MORNING = DigestDay(FRIDAY, ZoneInfo("Europe/Berlin"), since=datetime(2026, 11, 19, 7, tzinfo=UTC))
HARD = {"limit_kind": "hard", "cost_of_waiting": "will be blocked"}
SOFT = {"limit_kind": "soft", "cost_of_waiting": "overage starts"}
SLOWED = {"limit_kind": "throttle", "cost_of_waiting": "will be slowed down"}
WATCHED = {"limit_kind": "monitor", "cost_of_waiting": ""}
OVER = {"used_mtd": 1_100_000, "hits_cap_on": None}
PRICED = {
    "advice": "offer_upgrade",
    "situation": "upgrade_cheaper",
    "next_plan": "scale",
    "currency": "USD",
    "next_plan_delta": Decimal("-110.50"),
    "projected_overage_value": Decimal("1601.50"),
    "is_staying_cheaper": False,
}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (HARD, "runs out Fri 27 Nov, then calls are refused"),
        ({**HARD, "hits_cap_on": FRIDAY}, "runs out today, then calls are refused"),
        ({**HARD, **OVER}, "out of quota, calls are refused"),
        ({**HARD, **OVER, "situation": "limit_not_enforced"}, "over a hard limit, calls still get through"),
        ({**HARD, "meter": "seats", "unit": "seats", **OVER}, "out of quota, seats are refused"),
        (SOFT, "runs out Fri 27 Nov, then overage"),
        ({**SOFT, **OVER}, "over quota, overage has started"),
        (
            {**SOFT, **OVER, "overage_units": 100_000, "overage_value": Decimal("22.3"), "currency": "USD"},
            "over quota, overage $22.30 so far",
        ),
        ({**SLOWED}, "runs out Fri 27 Nov, then calls are slowed down"),
        ({**SLOWED, **OVER}, "out of quota, calls are slowed down"),
        (
            {**SLOWED, **OVER, "overage_units": 100_000, "overage_value": Decimal("22.3"), "currency": "USD"},
            "out of quota, calls are slowed down, overage $22.30 so far",
        ),
        ({**WATCHED}, "runs out Fri 27 Nov"),
        ({**WATCHED, **OVER}, "over quota"),
        ({**WATCHED, "cost_of_waiting": "overage starts"}, "runs out Fri 27 Nov, then overage"),
        ({"hits_cap_in_period": False}, "will not run out this period"),
        ({"hits_cap_on": None, "hits_cap_in_period": None}, "too early for a forecast"),
        ({"meter": "seats", "unit": "seats", "hits_cap_in_period": None}, "no forecast for seats"),
        ({"meter": "tokens", "hits_cap_in_period": None}, "too early for a forecast"),
        ({"meter": "tokens", "forecast_method": "none", "hits_cap_in_period": None}, "no forecast for tokens"),
        ({**HARD, "meter": "tokens"}, "runs out Fri 27 Nov, then tokens are refused"),
        ({"period_end": LIFETIME_END, "hits_cap_in_period": False}, "will not run out at this rate"),
        ({}, "runs out Fri 27 Nov"),
        (OVER, "over quota"),
        ({"used_mtd": 1_000_000, "hits_cap_on": None}, "quota used up"),
        ({**SOFT, "used_mtd": 1_000_000, "hits_cap_on": None}, "quota used up, overage starts"),
        ({"quota": 0, "used_mtd": 5}, "blocked, quota 0"),
    ],
)
def test_outlook_says_when_the_quota_runs_out_and_what_the_limit_does(fields: dict[str, Any], said: str) -> None:
    assert words.outlook(make_standing(**fields), MORNING) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "projected 1,200,000"),
        ({"projected_low": 1_105_000, "projected_high": 1_280_000}, "projected 1,200,000 (1,105,000 to 1,280,000)"),
        ({"projected_low": 1_200_000, "projected_high": 1_200_000}, "projected 1,200,000"),
        ({"projected_eom": None}, ""),
        ({"meter": "tokens"}, "projected 1,200,000 tokens"),
        (
            {"meter": "transfer", "aggregation": "sum", "unit": "0.001 GB", "projected_low": 1_105_250}
            | {"projected_high": 1_280_000},
            "projected 1,200 GB (1,105.25 to 1,280)",
        ),
        ({"meter": "seats"}, ""),
        ({"meter": "users", "aggregation": "unique"}, ""),
    ],
)
def test_projection_has_its_band(fields: dict[str, Any], said: str) -> None:
    assert words.projection(make_standing(**fields)) == said


def test_progress_is_cut_off_points_of_the_quota() -> None:
    assert words.progress(make_standing(), MORNING) == ["+3.1 points since yesterday 08:00"]
    assert words.progress(make_standing(meter="seats", used_since=None), MORNING) == []


def test_progress_leaves_out_what_is_nothing() -> None:
    """Seen: "+0.0 points" after a quota cut."""
    assert words.progress(make_standing(used_since=99), MORNING) == []
    assert words.progress(make_standing(used_since=0), MORNING) == []


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (700_000, "16 % more than at this point of the last period (700,000)"),
        (1_000_000, "18 % less than at this point of the last period (1,000,000)"),
        (812_345, "about as much as at this point of the last period (812,345)"),
    ],
)
def test_progress_compares_with_the_period_before(last: int, said: str) -> None:
    assert words.progress(make_standing(used_same_point_last_period=last), MORNING)[1] == said


@pytest.mark.parametrize("last", [None, 0])
def test_progress_compares_with_nothing_where_there_was_nothing(last: int | None) -> None:
    assert len(words.progress(make_standing(used_same_point_last_period=last), MORNING)) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "scale saves them $110.50 (projected overage $1,601.50)"),
        (
            {
                "advice": "do_not_pitch",
                "situation": "staying_cheaper",
                "is_staying_cheaper": True,
                "next_plan_delta": Decimal("398.36"),
            },
            "scale would cost them $398.36 more than the overage: do not pitch",
        ),
        (
            {
                "advice": "call_upgrade",
                "situation": "refused_now",
                "is_staying_cheaper": None,
                "is_refused": True,
                "is_refused_on_next_plan": False,
            },
            "scale would accept these calls",
        ),
        (
            {"meter": "tokens", "is_staying_cheaper": None, "is_refused": True, "is_refused_on_next_plan": False},
            "scale would accept these tokens",
        ),
        # what the advice does not let one say
        ({"advice": "help_first", "situation": "help_needed"}, ""),
        ({"advice": "watch", "situation": "will_not_run_out", "is_staying_cheaper": True}, ""),
        ({"is_trial": True}, ""),
        # what the catalogue does not know
        ({"next_plan_delta": Decimal(0)}, ""),
        ({"is_staying_cheaper": None, "next_plan_delta": None, "projected_overage_value": None}, ""),
        ({"next_plan": None}, ""),
    ],
)
def test_offer_says_what_the_next_plan_does_where_the_advice_lets_it(fields: dict[str, Any], said: str) -> None:
    assert words.offer(make_standing(**{**PRICED, **fields})) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"is_retry_storm": True}, "most of the growth is retries of failed calls"),
        ({"late_calls_24h": 1_204}, "1,204 calls arrived a day or more late since yesterday"),
        ({"late_calls_24h": 1}, "1 call arrived a day or more late since yesterday"),
        ({"late_calls_24h": 2, "meter": "tokens"}, "2 events arrived a day or more late since yesterday"),
        (
            {"meter": "storage", "unit": "0.001 GB", "previous_quota": 500}
            | {"quota_since": datetime(2026, 11, 17, 23, tzinfo=UTC)},
            "quota changed from 0.5 GB on 18 Nov",
        ),
        ({"ci95_pct": Decimal("2.11")}, "estimated from sampled calls"),
        (
            {"error_ratio_7d": Decimal("0.200001"), "reasons": "failed_calls,trial"},
            "20 % of the last 7 days' calls failed",
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
    assert words.caveats(make_standing(**fields), MORNING) == [said]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"error_ratio_7d": Decimal("0.9"), "reasons": "hard_limit,over_quota"},  # the limit's own refusals
        {"previous_quota": 500_000, "quota_since": NOVEMBER},  # with the period, not within it
        {"snoozed_until": FRIDAY},
    ],
)
def test_caveat_is_left_out_when_it_is_not(fields: dict[str, Any]) -> None:
    assert words.caveats(make_standing(**fields), MORNING) == []


def test_nothing_is_late_on_the_first_day() -> None:
    first = DigestDay(FRIDAY, MORNING.zone, MORNING.since, is_first=True)

    assert words.caveats(make_standing(late_calls_24h=5), first) == []
