"""The figures of a chart: complete days, sums, the projection's band; and the same in words."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from orchestration.messages.charts import alternative, chart
from tests.support.builders import NOVEMBER, make_standing

MORNING = datetime(2026, 11, 4, 8, tzinfo=UTC)
DAYS = [date(2026, 11, 1), date(2026, 11, 3)]
FORECAST = {"projected_eom": 1_200, "projected_low": 1_000, "projected_high": 1_400}


def drawn(as_of: datetime = MORNING, **fields: Any) -> dict[str, Any] | None:
    return chart(make_standing(**{"quota": 1_000, **FORECAST, **fields}), DAYS, [10, 5], as_of)


def test_chart_adds_up_complete_days_and_days_without_usage_too() -> None:
    assert drawn(account_name="Acme") == {
        "name": "Acme",
        "unit": "calls",
        "from": "2026-11-01",
        "days": 30,
        "used": [10, 10, 15],
        "quota": 1_000,
        "is_forecast": True,
        "projected": 1_200,
        "low": 1_000,
        "high": 1_400,
    }


def test_day_that_still_runs_is_not_drawn() -> None:
    last = drawn(datetime(2026, 11, 3, 23, 59, tzinfo=UTC))
    assert last
    assert last["used"] == [10, 10]


@pytest.mark.parametrize(
    "fields",
    [
        {"as_of": datetime(2026, 11, 1, 23, tzinfo=UTC)},  # no day of it is over
        {"period_end": datetime(9999, 12, 31, tzinfo=UTC)},  # a quota for a lifetime
        {"quota": None},
    ],
)
def test_there_is_no_chart_where_there_is_nothing_to_draw(fields: dict[str, Any]) -> None:
    assert drawn(**fields) is None


def test_period_that_begins_within_a_day_has_that_day() -> None:
    start = NOVEMBER.replace(hour=14, minute=20)
    found = drawn(period_start=start, period_end=start.replace(month=12))
    assert found
    assert (found["from"], found["used"], found["days"]) == ("2026-11-01", [10, 10, 15], 30)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (FORECAST, "Projected at the end of the period: 1,200, between 1,000 and 1,400."),
        ({"projected_low": None, "projected_high": None}, "Projected at the end of the period: 1,200."),
        ({"projected_low": 1_200, "projected_high": 1_200}, "Projected at the end of the period: 1,200."),
        ({"projected_eom": None, "forecast_method": "none"}, "There is no forecast."),
        ({"projected_eom": None}, "It is too early for a forecast."),
    ],
)
def test_words_of_the_chart_say_what_it_shows(fields: dict[str, Any], said: str) -> None:
    found = drawn(**fields)
    assert found
    assert alternative(found) == f"15 of 1,000 used after 3 of 30 days. {said}"


def test_words_of_the_chart_have_the_decimals_of_the_meter() -> None:
    found = drawn(meter="transfer", aggregation="sum", unit="0.001 GB", **FORECAST)
    assert found
    assert alternative(found) == (
        "0.015 of 1 used after 3 of 30 days. Projected at the end of the period: 1.2, between 1 and 1.4."
    )
