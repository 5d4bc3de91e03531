"""The exposures name the models that the published copy is really asked for."""

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration import settings
from orchestration.billing import meters, span_query, usage_query
from orchestration.warehouse import (
    account_page_queries,
    account_usage,
    digest_page_queries,
    limits,
    notice_query,
    page_queries,
    queries,
)
from orchestration.warehouse.dbt import DbtProject

CONSTANTS = (
    vars(queries)
    | vars(notice_query)
    | vars(account_usage)
    | vars(usage_query)
    | vars(span_query)
    | vars(meters)
    | vars(page_queries)
    | vars(account_page_queries)
    | vars(digest_page_queries)
    | {name: value for name, value in vars(limits).items() if name.startswith("GATE_")}
)

QUERIES = {
    "usage_digest": {
        *("CROSSINGS", "DIGEST_ACCOUNTS", "USED_BY", "TOP_VALUES", "DAILY_USAGE", "PERIOD_DAYS", "CALLS_METER"),
        "DATA_QUALITY",
        *("THRESHOLD_RULES", "PLAN_RULES", "TIER_RULES", "ROUTING_RULES", "METER_RULES"),
    },
    "notices": {
        *("ALERT_OUTCOMES", "CAP_HITS", "CRITICAL_HARD_LIMITS", "CROSSINGS", "DATA_QUALITY", "WEEKLY_CHANGES"),
        *("NOTICE_ACCOUNTS", "ROUTED_CROSSINGS", "ROUTE_FACTS", "THRESHOLD_RULES"),
    },
    "stripe_usage": {
        *("BILLABLE_DAYS", "BILLABLE_HOURS", "BILLABLE_UNITS", "FINALITY", "CUSTOMERS", "DATA_QUALITY", "KNOWN_METERS"),
        *("METER_USAGE", "UNMAPPED"),
    },
    "stripe_commands": {"BILLABLE_ACCOUNTS", "BILLED_PERIODS", "OWNERS", "PLANS", "PLAN_TIERS", "RUNNING_PERIODS"},
    "billing_statements": {
        *("ACCOUNTS_NAMED", "ACCOUNTS_NEAREST", "CUSTOMERS_OF", "DATA_QUALITY"),
        *("BILLED_ACCOUNTS", "BILLED_HOURS", "ENDPOINTS_OF_DAY", "INVOICED_PERIODS", "UNITS_WITHIN"),
    },
    "pages": {
        *("ACCOUNTS_COUNTED", "ACCOUNT_USAGE", "CHOICES", "CUSTOMER_THRESHOLDS", "PARITY", "REJECTED_BY_REASON"),
        *("RESOLVED", "TOP", "UNMAPPED_IDS", "USAGE_AFTER", "CHANGED", "WEEK", "DAILY_USAGE", "DATA_QUALITY"),
        *("MAIN_METER", "CALLS_METER", "TOP_METERS"),
        *("ACCOUNT_METERS", "ACCOUNT_OUTCOMES", "BILLED_SO_FAR", "CALLED_ENDPOINTS", "CUSTOMER_ACCOUNTS"),
        *("FAILED_CALLS", "HOURS_OF_DAY", "PERIOD_CROSSINGS", "PERIOD_DAYS_OF_METER", "QUOTA_CHANGES"),
        *("USED_PROPERTIES", "ACCOUNTS_NEAREST", "USAGE_BY_DAY", "READINGS_BY_DAY", "METERS", "METER_FACTS"),
        *("STANDING_NOW", "OUTCOMES_OF", "UNKNOWN_ACCOUNTS", "EXPORTED_METERS"),
    },
    "limits_snapshot": {
        *("GATE_ACCOUNTS", "GATE_DATA", "GATE_METERS", "GATE_PLANS", "GATE_SUBJECTS", "GATE_WEIGHTS"),
    },
    "published_copy": {
        "UTILIZATION",
        "ADVISED",
        "ACCOUNTS_NAMED",
        "ACCOUNTS_NEAREST",
        "METERS",
        "NEEDED_SINCE",
        "READINGS_BY_DAY",
        "USAGE_BY_DAY",
    },
}
"""Constants of the modules of queries by whom they serve. A new one belongs to one of them, or to a new exposure."""


@pytest.fixture
def manifest(data: Path) -> dict[str, Any]:
    config = settings.load()
    config.export()
    return DbtProject.of(config).manifest()


def test_exposures_depend_on_what_is_really_read(manifest: dict[str, Any]) -> None:
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    read = {name: set[str]().union(*map(tables_of, constants)) for name, constants in QUERIES.items()}
    copied = {node["name"] for node in models if node["fqn"][1] in ("intermediate", "marts")}
    read["published_copy"] |= copied  # whoever asks
    declared = {
        exposure["name"]: {manifest["nodes"][node]["name"] for node in exposure["depends_on"]["nodes"]}
        for exposure in manifest["exposures"].values()
    }
    assert declared == read


def tables_of(constant: str) -> set[str]:
    """The tables that a query reads, as DuckDB's parser sees it; what it names itself by `with` is none."""
    with duckdb.connect() as connection:
        [[tree]] = connection.execute("select json_serialize_sql(?)", [CONSTANTS[constant]]).fetchall()
    named = re.findall(r'"key":"(\w+)","value":\{"aliases"', tree)
    return set(re.findall(r'"table_name":"(\w+)"', tree)) - {*named}


def test_every_query_of_the_published_copy_serves_an_exposure() -> None:
    constants = {name for name, value in CONSTANTS.items() if name.isupper() and isinstance(value, str)}
    constants = {name for name in constants if not name.startswith("_")}  # parts of others
    assert constants == set().union(*QUERIES.values())


def test_page_of_dbt_begins_with_an_overview_of_ours(manifest: dict[str, Any]) -> None:
    assert "docs/meaning/definitions.md" in manifest["docs"]["doc.headroom.__overview__"]["block_contents"]
