"""A shop that sells tokens, storage and users, and no calls: what its people read, from events to words."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from orchestration import settings
from orchestration.channels.preview import digest_text
from orchestration.channels.slack.blocks import digest_payloads, message_text
from orchestration.cli.main import app
from orchestration.ledger import engines, migrate
from orchestration.messages import weekly
from orchestration.messages.digest import preview_digest
from orchestration.messages.message import Message
from orchestration.settings import Settings
from orchestration.warehouse import duckdb, published_copy, queries
from tests.dbt_project.builder import Builder, project_with
from tests.support.builders import land
from tests.support.pipeline import assert_built, ingest

NOW = datetime(2026, 11, 30, 8, 30, tzinfo=UTC)  # a Monday
METERS = """\
meter,is_main,event_names,aggregation,value,filter,group_by,unit,unit_singular,decimals,quota_property,quota_policy,\
is_forecast,is_billed,stripe_meter,weights,counts_from
tokens,true,llm_request,sum,usage.total,,model,tokens,token,0,,carry,true,true,,,
egress,false,download,sum,gb,,region,GB,GB,3,egress_quota,carry,false,false,,,
storage,false,disk_read,latest,gb,,,GB,GB,3,storage_quota,carry,,false,,,
users,false,login,unique,user,,,users,user,0,users_quota,carry,,false,,,
"""


PLANS = """\
plan,meter,included_units,base_price,pricing,unit_price,package_units,package_price,limit_kind,rate_limit_per_second,\
next_plan,currency
pro,tokens,500000,49.00,none,,,,hard,,,USD
"""
PLAN_TIERS = "plan,meter,tier_number,up_to_units,unit_price,flat_price\n"


def event(name: str, at: datetime, **properties: Any) -> dict[str, Any]:
    uuid = f"{name}-{at.isoformat()}-{sorted(properties.items())}"
    return {
        "event": name,
        "uuid": uuid,
        "timestamp": at.isoformat(),
        "properties": {"account_id": "acme"} | properties,
    }


def history() -> list[dict[str, Any]]:
    """Two months of acme's usage; in the last day it crosses 80 % of each quota, and 95 % of its tokens."""
    start, lines = datetime(2026, 10, 1, tzinfo=UTC), []
    quotas = {"quota": 500_000, "egress_quota": 6, "storage_quota": "2.5", "users_quota": 5}
    lines.append(event("quota_set", start, plan="pro", **quotas))
    for day in range(60):
        at = start + timedelta(days=day, hours=9)
        size = 8_000 if day < 31 else 16_000
        lines.append(event("llm_request", at, usage={"total": size}, model="large" if day % 4 else "small"))
        lines.append(event("download", at, gb="0.160", region="eu"))
    last = NOW - timedelta(hours=3)
    lines.append(event("llm_request", last, usage={"total": 30_000}, model="large"))
    lines.append(event("download", last, gb=0.345, region="us"))
    lines.append(event("disk_read", start, gb=1))
    lines.append(event("disk_read", last, gb="2.104"))
    lines += [event("login", NOW - timedelta(days=number, hours=4), user=f"u{number}") for number in range(4)]
    lines.append(event("login", last, user="u1"))
    lines.append(event("download", last, gb="much"))
    return lines


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("shop") / "data"
    project = project_with(tmp_path_factory.mktemp("project"), meters=METERS, plans=PLANS, plan_tiers=PLAN_TIERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(data))
        config = settings.load()
        land(config.landing, "events.ndjson", *history())
        ingest(data, config.landing, NOW, project)
        assert_built(Builder(data, project).results(NOW))
        duckdb.publish(config.warehouse, config.published)
        migrate.create(engines.create(config.ledger_url))
        return config.published


PACE = "112 % more than at this point of the last period (232,000)"


@pytest.fixture
def config(published: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEADROOM_DATA", str(published.parent))
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    return settings.load()


def test_digest_of_a_shop_without_calls_speaks_of_its_meters(config: Settings) -> None:
    shown = preview_digest(config, NOW.date(), "slack", digest_payloads, None, print)
    digest = shown.payload["digest"]

    assert {item["name"]: item["details"][:2] for item in digest["items"]} == {
        "acme": [
            "494,000 / 500,000 tokens (98.8 %) · crossed 95 % today 05:30 · will not run out this period",
            f"projected 494,000 · +9.2 points since yesterday 08:00 · {PACE}",
        ],
        "acme (egress)": [
            "4.985 / 6 GB (83.0 %) · crossed 80 % today 05:30 · no forecast for GB",
            "+8.4 points since yesterday 08:00 · 7 % more than at this point of the last period (4.64)",
        ],
        "acme (storage)": [
            "2.104 / 2.5 GB (84.1 %) · crossed 80 % today 05:30 · no forecast for GB",
            "plan pro",
        ],
        "acme (users)": ["4 / 5 users (80.0 %) · crossed 80 % today 04:30 · no forecast for users", "plan pro"],
    }
    said = digest_text(digest) + "".join(message_text(each["message"]) for each in shown.replies if "message" in each)
    assert "Watch: they are close to their GB quota" in said
    assert "too early" not in said
    assert "call" not in said
    assert "1 value of the last 30 days not counted (refused_values)" in digest["footer"]
    notes = {(item["name"], note["title"]): note["text"] for item in digest["items"] for note in item.get("notes", ())}
    assert notes["acme (egress)", "Top values of region of the last 7 days"] == "eu: 0.96 GB, 73 %\nus: 0.345 GB, 26 %"
    assert {item["name"]: bool(item["sparkline"]) for item in digest["items"]} == {
        "acme": True,
        "acme (egress)": True,
        "acme (storage)": False,
        "acme (users)": False,
    }


def test_weekly_message_of_a_shop_without_calls_is_of_usage(config: Settings) -> None:
    changes = published_copy.query(config.published, queries.WEEKLY_CHANGES)
    changed = [{**row, "change_word": "growing", "change_pct": Decimal(40)} for row in changes]
    message = weekly.weekly_message(changed, NOW, NOW, ZoneInfo("UTC"))

    assert isinstance(message, Message)
    [section] = message.sections
    assert [line.words() for line in section.lines] == [
        "acme · +40 %, 112 k tokens after 112 k · +40 %, 1.1 GB after 1.1 · no owner"
    ]


@pytest.mark.parametrize(
    ("meter", "days", "in_all", "quota"),
    [
        ("tokens", ["16,000", "16,000", "30,000"], "62,000 tokens so far", "Quota: 494,000 of 500,000 tokens, 98.8 %"),
        ("egress", ["0.16", "0.16", "0.345"], "0.665 GB so far", "Quota of egress: 4.985 of 6 GB, 83.0 %"),
        ("storage", ["1", "1", "2.104"], "2.104 GB now", "Quota of storage: 2.104 of 2.5 GB, 84.1 %"),
        ("users", ["2", "3", "4"], "4 users now", "Quota of users: 4 of 5 users, 80.0 %"),
    ],
)
@pytest.mark.usefixtures("config")
def test_usage_of_each_kind_of_meter_is_shown_in_its_unit(meter: str, days: list[str], in_all: str, quota: str) -> None:
    printed = CliRunner().invoke(app, ["usage", "acme", "--meter", meter, "--from", "2026-11-28"]).output

    assert [line.split()[4] for line in printed.splitlines() if "Nov 2026  " in line] == days
    assert in_all in printed
    assert quota in printed
    whole = CliRunner().invoke(app, ["usage", "acme"]).output
    assert quota in whole
    assert whole.index("Quota: ") < whole.index("Quota of egress") < whole.index("Quota of storage")
