"""What people read of the dbt project: nothing in it is without a description, and no figure without a unit."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from orchestration import settings
from orchestration.lake.account_files import ACCOUNT_COLUMNS, CUSTOMER_COLUMNS, SUBJECT_COLUMNS
from orchestration.lake.alerts import ALERT_COLUMNS, DISPOSITION_COLUMNS
from orchestration.lake.batch import CALL_COLUMNS, OTHER_COLUMNS, QUARANTINE_COLUMNS
from orchestration.lake.meter_reports import METER_REPORT_COLUMNS
from orchestration.lake.prepaid_credit import PREPAID_CREDIT_COLUMNS
from orchestration.lake.subscription_periods import SUBSCRIPTION_PERIOD_COLUMNS
from orchestration.warehouse.dbt import DbtProject

UNITS = re.compile(
    r"(?i)\b(accounts?|calls?|currency|days?|events?|forecasts?|hours?|integer|lines?|monday|order|quota|rank|ratio|share|"
    r"steps?|times|units?|version)\b|pct|percent|%|1 for"
)
LAKE = {
    "raw_events": [*CALL_COLUMNS, "event_date"],
    "kept_from": ["kept_from"],
    "raw_other_events": [*OTHER_COLUMNS],
    "rejected_lines": [*QUARANTINE_COLUMNS],
    "raw_accounts": [*ACCOUNT_COLUMNS],
    "raw_subjects": [*SUBJECT_COLUMNS],
    "raw_customers": [*CUSTOMER_COLUMNS],
    "raw_meter_reports": [*METER_REPORT_COLUMNS, "hour_date"],
    "raw_alerts": [*ALERT_COLUMNS],
    "raw_dispositions": [*DISPOSITION_COLUMNS],
    "raw_prepaid_credit": [*PREPAID_CREDIT_COLUMNS],
    "raw_subscription_periods": [*SUBSCRIPTION_PERIOD_COLUMNS],
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(tmp_path_factory.mktemp("data")))
        config = settings.load()
        config.export()
        yield DbtProject.of(config).manifest()


def relations(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    nodes = [node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "seed")]
    return [*nodes, *manifest["sources"].values()]


def test_every_model_seed_and_source_is_described_with_every_column(manifest: dict[str, Any]) -> None:
    for relation in relations(manifest):
        assert relation["description"], relation["name"]
        assert relation["columns"], relation["name"]
        for column in relation["columns"].values():
            assert column["description"], f"{relation['name']}.{column['name']}"


def test_every_time_says_its_zone_and_every_figure_its_unit(manifest: dict[str, Any]) -> None:
    for relation in relations(manifest):
        for column in relation["columns"].values():
            name, kind = f"{relation['name']}.{column['name']}", column["data_type"] or ""
            if kind == "timestamp":
                assert "UTC" in column["description"], name
            if kind in ("bigint", "integer", "double") or kind.startswith("decimal"):
                assert UNITS.search(f"{column['name'].replace('_', ' ')} {column['description']}"), name


def test_columns_of_the_lake_are_the_ones_that_are_written(manifest: dict[str, Any]) -> None:
    assert {source["name"]: [*source["columns"]] for source in manifest["sources"].values()} == LAKE


def test_every_macro_is_described_with_its_arguments(manifest: dict[str, Any]) -> None:
    for macro in manifest["macros"].values():
        name = macro["name"]
        if macro["package_name"] != "headroom" or "__" in name:  # what an engine needs is described once
            continue
        signatures = re.findall(rf"macro {name}\((.*?)\)", macro["macro_sql"])
        [signature] = [""] if name.startswith("materialization_") else signatures
        assert macro["description"], name
        assert [argument["name"] for argument in macro["arguments"]] == re.findall(
            r"(\w+)\s*(?:=[^,]*)?(?:,|$)", signature
        ), name
        assert all(argument["description"] for argument in macro["arguments"]), name


def test_every_data_test_and_exposure_is_described(manifest: dict[str, Any]) -> None:
    tests = [node for node in manifest["nodes"].values() if node["original_file_path"].startswith("data-tests")]
    assert tests
    for node in [*tests, *manifest["exposures"].values(), *manifest["unit_tests"].values()]:
        assert node["description"], node["name"]
