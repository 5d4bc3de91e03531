"""Each mistake in meters.csv is a sentence that names the meter, and what to write."""

import csv

import pytest

from orchestration.settings import PROJECT_ROOT
from orchestration.usage.meter_problems import problems
from orchestration.usage.meters import meters_of
from tests.support.builders import make_meter

MAIN = make_meter(meter="api-calls", is_main="true", event_names="api_call", is_billed="true")
SUM = {"aggregation": "sum", "value": "n"}
GAUGE = {"aggregation": "latest", "event_names": ""}


def test_meters_of_the_project_have_no_problem() -> None:
    with (PROJECT_ROOT / "dbt_project" / "seeds" / "meters.csv").open() as stream:
        assert problems(meters_of(csv.DictReader(stream))) == []


@pytest.mark.parametrize(
    "cells",
    [
        {},
        SUM | {"decimals": "6", "value": "usage.total_tokens", "filter": "a.b=c|d;e=f", "group_by": "model|a.b"},
        SUM | {"is_forecast": "false", "weights": "endpoint_weights", "quota_property": "quotas.n"},
        {"aggregation": "unique", "value": "user_id", "is_forecast": "false"},
        {"aggregation": "max", "value": "gb", "decimals": "3", "quota_policy": "prorate"},
        {"aggregation": "latest", "value": "gb", "is_billed": "true", "stripe_meter": "gb"},
        GAUGE | {"decimals": ""},
        {"event_names": "page view|'; drop table|größe", "counts_from": "2026-11-20"},
    ],
)
def test_meter_without_a_mistake_has_no_problem(cells: dict[str, str]) -> None:
    assert problems([MAIN, make_meter(**cells)]) == []


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"meter": "Page_Views"}, "Page_Views: write its name in small letters, with - between words."),
        ({"meter": ""}, "A meter without a name: write its name"),
        ({"meter": "page--views"}, "write its name"),
        ({"meter": "größe"}, "write its name"),
        ({"aggregation": "avg"}, "aggregation is 'avg'. Write one of count, sum, unique, max, latest."),
        ({"aggregation": ""}, "aggregation is ''."),
        ({"event_names": ""}, "event_names is empty. Only a latest meter may have none."),
        ({"event_names": "a||b"}, "event_names is 'a||b', with an empty name or a blank around one. Write a|b."),
        ({"event_names": "a | b"}, "event_names is 'a | b', with an empty name or a blank"),
        (
            {"event_names": "api_call|api_call_refused"},
            "event_names has api_call_refused, which Headroom reads for itself. Remove it.",
        ),
        ({"event_names": "a|quota_set"}, "event_names has quota_set, which Headroom reads for itself. Remove it."),
        ({"event_names": "usage.limit_reached"}, "event_names has usage.limit_reached"),
        ({"event_names": "events_dropped"}, "event_names has events_dropped"),
        ({"value": "n"}, "value is 'n', but count reads none. Leave it empty."),
        ({"aggregation": "sum"}, "value is empty. Name the property that sum reads."),
        ({"aggregation": "unique"}, "value is empty. Name the property that unique reads."),
        ({"aggregation": "max"}, "value is empty. Name the property that max reads."),
        ({"aggregation": "latest"}, "value is empty. Name the property that latest reads."),
        (SUM | {"value": "total-tokens"}, "value has 'total-tokens', which is not a property such as usage.total"),
        (SUM | {"value": "a..b"}, "value has 'a..b'"),
        (SUM | {"value": "a') or 1=1 --"}, "value has "),
        (SUM | {"value": "1a"}, "value has '1a'"),
        (SUM | {"value": "größe"}, "value has 'größe'"),
        ({"group_by": "model|a b"}, "group_by has 'a b', which is not a property"),
        ({"filter": "model"}, "filter 'model' has 'model', which is not property=value. Write it as model=large|huge;"),
        ({"filter": "a=b;"}, "filter 'a=b;' has '', which is not property=value."),
        ({"filter": "a='b'||c"}, "has \"a='b'||c\", with an empty value or a blank around one."),
        ({"filter": "a= b"}, "has 'a= b', with an empty value or a blank"),
        ({"filter": "a b=c"}, "has 'a b=c', which is not property=value."),
        (SUM | {"decimals": "7"}, "decimals is 7. Write a number from 0 to 6."),
        (SUM | {"decimals": "-1"}, "decimals is '-1'. Write a whole number, such as 0."),
        (SUM | {"decimals": "1.5"}, "decimals is '1.5'. Write a whole number"),
        ({"decimals": "2"}, "decimals is 2, but count has whole figures. Write 0."),
        ({"aggregation": "unique", "value": "u", "decimals": "1"}, "decimals is 1, but unique has whole figures."),
        ({"quota_policy": ""}, "quota_policy is ''. Write one of carry, prorate, reset."),
        ({"quota_policy": "reset"}, "quota_policy is reset. Only a main meter that counts or sums can reset."),
        ({"quota_property": "my quota"}, "quota_property is 'my quota', which is not a property such as token_quota."),
        ({"quota_property": "limit"}, "quota_property limit sets the main meter's quota. Name another property."),
        (GAUGE | {"is_forecast": "true"}, "is_forecast is set, but latest does not add up. Leave it empty."),
        (GAUGE | {"group_by": "region"}, "group_by is set, but latest does not add up."),
        (GAUGE | {"weights": "endpoint_weights"}, "weights is set, but latest does not add up."),
        ({"weights": "model_weights"}, "weights is 'model_weights'. Write endpoint_weights, or nothing."),
        ({"unit": ""}, "unit is empty. Name what it counts, for people."),
        ({"unit_singular": ""}, "unit_singular is empty."),
        ({"is_billed": "true"}, "is_billed is true. Name its meter at Stripe in stripe_meter."),
        ({"stripe_meter": "views"}, "stripe_meter is set, but is_billed is not true. Set both or neither."),
        ({"is_billed": "yes"}, "is_billed is 'yes'. Write true or false."),
        ({"counts_from": "20.11.2026"}, "counts_from is '20.11.2026'. Write a day, such as 2026-11-20."),
    ],
)
def test_mistake_is_a_sentence(cells: dict[str, str], said: str) -> None:
    [problem] = problems([MAIN, make_meter(**cells)])
    assert said in problem
    assert problem.startswith(cells.get("meter", "page-views") or "A meter")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"stripe_meter": "calls"}, "api-calls: stripe_meter is set, but HEADROOM_STRIPE_METER names the main one."),
        (GAUGE, "api-calls: aggregation is latest. The main meter must count or sum."),
    ],
)
def test_main_meter_has_rules_of_its_own(cells: dict[str, str], said: str) -> None:
    main = {"meter": "api-calls", "is_main": "true", "event_names": "api_call", "is_billed": "true"}
    assert problems([make_meter(**{**main, **cells})])[0].startswith(said)
    assert problems([make_meter(**main, quota_policy="reset", quota_property="api_quota_monthly")]) == []


def test_one_meter_is_main() -> None:
    assert problems([make_meter()]) == ["No row is main. Set is_main to true in exactly one row."]
    second = make_meter(is_main="true")
    assert problems([MAIN, second]) == ["api-calls, page-views are main. Set is_main to true in exactly one row."]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"quota_property": "q"}, "quota_property is 'q' in 2 rows. Name it in one."),
        ({"stripe_meter": "s", "is_billed": "true"}, "stripe_meter is 's' in 2 rows. Name it in one."),
    ],
)
def test_quota_and_meter_at_stripe_are_of_one_meter(cells: dict[str, str], said: str) -> None:
    assert problems([MAIN, make_meter(meter="a", **cells), make_meter(meter="b", **cells)]) == [said]


def test_name_is_of_one_meter() -> None:
    assert problems([MAIN, make_meter(), make_meter()]) == ["meter is 'page-views' in 2 rows. Name it in one."]
