"""A row of meters.csv: what it means, in which words, and the figures that it shows."""

import csv
from datetime import date

import pytest
import yaml

from orchestration.settings import PROJECT_ROOT
from orchestration.usage import meters
from orchestration.usage.meters import Condition, Meter, calls_meter, describe, event_names, main_meter, meters_of
from tests.support.builders import make_meter

SEEDS = PROJECT_ROOT / "dbt_project" / "seeds"


@pytest.fixture(scope="module")
def product() -> list[Meter]:
    """The meters that Headroom comes with."""
    with (SEEDS / "meters.csv").open() as stream:
        return meters_of(csv.DictReader(stream))


def test_columns_are_those_of_the_project() -> None:
    project = yaml.safe_load((PROJECT_ROOT / "dbt_project" / "dbt_project.yml").read_text())
    assert project["seeds"]["headroom"]["meters"]["+column_types"] == meters.COLUMNS
    assert (SEEDS / "meters.csv").read_text().splitlines()[0].split(",") == list(meters.COLUMNS)


def test_main_meter_comes_first_and_the_others_by_name(product: list[Meter]) -> None:
    assert [meter.name for meter in product] == ["api-calls", "seats", "storage", "tokens"]
    assert main_meter(product[::-1]) == calls_meter(product[::-1]) == product[0]


def test_shop_of_tokens_has_a_main_meter_and_none_of_calls() -> None:
    tokens = make_meter(meter="tokens", is_main="true", event_names="llm_request", aggregation="sum", value="n")
    some_calls = make_meter(meter="large", event_names="api_call", filter="size=large")
    assert main_meter([some_calls, tokens]) == tokens
    assert calls_meter([some_calls, tokens]) is None
    with pytest.raises(ValueError, match="is_main"):
        main_meter([some_calls])


def test_events_are_calls_and_what_any_meter_counts_each_once(product: list[Meter]) -> None:
    two = make_meter(event_names="a|llm_request")
    assert event_names([*product, two]) == ("api_call", "api_request", "api_call_refused", "llm_request", "a")
    assert event_names([]) == ("api_call", "api_request", "api_call_refused")


def test_row_of_text_and_row_of_the_table_are_one_meter() -> None:
    text = {"meter": "gb", "is_main": "true", "decimals": "3", "is_billed": "FALSE", "counts_from": "2026-11-20"}
    typed = {"meter": "gb", "is_main": True, "decimals": 3, "is_billed": False, "counts_from": date(2026, 11, 20)}
    assert meters_of([text]) == meters_of([{**typed, "stripe_meter": None}])


@pytest.mark.parametrize(("aggregation", "is_forecast"), [("count", True), ("sum", True), ("max", False)])
def test_forecast_is_of_what_adds_up_where_the_cell_is_empty(aggregation: str, is_forecast: bool) -> None:
    assert make_meter(aggregation=aggregation).is_forecast is is_forecast
    assert make_meter(aggregation=aggregation, is_forecast="false").is_forecast is False


def test_filter_is_conditions_with_any_of_their_values() -> None:
    meter = make_meter(filter="model=large|huge;user.region=eu=1;x=it's", value="n", group_by="endpoint|tier")
    assert meter.conditions == (
        Condition("model", ("large", "huge")),
        Condition("user.region", ("eu=1",)),
        Condition("x", ("it's",)),
    )
    assert meter.paths == ("n", "model", "user.region", "x", "tier")


@pytest.mark.parametrize(
    ("steps", "decimals", "said"),
    [
        (3412, "3", "3.412 GB"),
        (3400, "3", "3.4 GB"),
        (1000, "3", "1 gigabyte"),
        (0, "3", "0 GB"),
        (10**15, "0", "1,000,000,000,000,000 GB"),
        (1, "6", "0.000001 GB"),
        (10, "0", "10 GB"),
        (10**30 + 1, "3", "1,000,000,000,000,000,000,000,000,000.001 GB"),
    ],
)
def test_amount_is_exact_in_whole_units(steps: int, decimals: str, said: str) -> None:
    assert make_meter(decimals=decimals, unit="GB", unit_singular="gigabyte").amount(steps) == said


def test_meter_says_in_one_sentence_what_it_counts(product: list[Meter]) -> None:
    said = {meter.name: describe(meter) for meter in product}
    assert said["tokens"] == (
        "tokens: the sum of total_tokens of llm_request events, in tokens; quota from token_quota_monthly; not billed."
    )
    assert said["seats"] == "seats: the latest used of quota_set or usage.limit_reached events, in seats; not billed."
    assert said["api-calls"].endswith("events, weighted by endpoint, in calls; main meter; billed.")
    users = make_meter(aggregation="unique", value="user", filter="a=b", is_billed="true", stripe_meter="mau")
    assert describe(users) == (
        "page-views: the different values of user of page_view events with a=b, in page views; billed as mau."
    )
    peak = make_meter(aggregation="max", value="gb", decimals="3", unit="GB")
    assert describe(peak) == "page-views: the largest gb of page_view events, in GB with 3 places; not billed."
