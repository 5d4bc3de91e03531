"""Meters that are added by data alone, from landed events to the digest, the rows of a page and Stripe: in a checkout
whose meters.csv and plans.csv a team has edited, against counts by hand.
"""

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.e2e.program import NOW, STRIPE_KEY, Program
from tests.fakes.slack import FakeSlack
from tests.fakes.stripe import FakeStripe
from tests.support.builders import land, make_event, make_quota

METERS = """\
meter,is_main,event_names,aggregation,value,filter,group_by,unit,unit_singular,decimals,quota_property,quota_policy,\
is_forecast,is_billed,stripe_meter,weights,counts_from
api-calls,true,api_call|api_request,count,,,endpoint,calls,call,0,,carry,true,true,,endpoint_weights,
egress,false,download,sum,out.gb,,region,GB,GB,3,egress_quota,carry,true,true,egress_gb,,
people,false,login,unique,user,,,people,person,0,people_quota,carry,,true,people,,
peak,false,ping,max,open,,,connections,connection,0,peak_quota,carry,,true,peak,,
uploads,false,api_call,count,,method=POST|PUT,,uploads,upload,0,uploads_quota,carry,true,true,uploads,,
"""
PLANS = """\
plan,meter,included_units,base_price,pricing,unit_price,package_units,package_price,limit_kind,rate_limit_per_second,\
next_plan,currency
pro,api-calls,100,49.00,flat,0.5,,,soft,,,USD
pro,egress,10,49.00,flat,0.125,,,soft,,,USD
pro,people,5,49.00,flat,1.5,,,soft,,,USD
pro,peak,10,49.00,flat,2,,,soft,,,USD
pro,uploads,4,49.00,flat,2,,,soft,,,USD
"""
QUOTAS = {"api_quota_monthly": 100, "egress_quota": 10, "people_quota": 5, "peak_quota": 10, "uploads_quota": 4}
STRIPE_METERS = {"egress": "egress_gb", "people": "people", "peak": "peak", "uploads": "uploads"}
ACCOUNTS = "account_id,name,owner,plan,mrr,stripe_customer_id\nacme,Acme Corp,dana@example.com,pro,49.00,cus_acme\n"
USED = {"api-calls": 5, "egress": 8125, "people": 4, "peak": 9, "uploads": 4}
"""In steps: 8.125 GB are 8,125 of 0.001 GB. Uploads are the calls with POST or PUT."""


def events() -> Iterator[dict[str, Any]]:
    """All on the evening before and this morning."""
    for number, method in enumerate(("GET", "POST", "PUT", "POST", "PUT")):
        said = {"account_id": "acme", "endpoint": "/v1/files", "status": 200, "method": method}
        yield make_event(at=f"2024-11-20T06:0{number}:00Z", uuid=f"call {number}", properties=said)
    for number, gb in enumerate((2.5, "3.125", 2.5, -1, "lots", 0.0001)):
        said = {"account_id": "acme", "out": {"gb": gb}, "region": "eu"}
        at = f"2024-11-20T0{5 + number % 3}:30:0{number}Z"
        yield make_event(at=at, uuid=f"download {number}", event="download", properties=said)
    for number, user in enumerate(("ann", "bo", "ann", "cy", 7)):
        said = {"account_id": "acme", "user": user}
        yield make_event(at=f"2024-11-20T0{3 + number}:10:00Z", uuid=f"login {number}", event="login", properties=said)
    for number, count in enumerate((3, 9, 7)):
        said = {"account_id": "acme", "open": count}
        yield make_event(at=f"2024-11-20T0{4 + number}:20:00Z", uuid=f"ping {number}", event="ping", properties=said)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, with two edited files."""
    root = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("target", "logs")
    for folder in ("orchestration", "dbt_project"):
        shutil.copytree(PROJECT_ROOT / folder, root / folder, ignore=ignored)
    for file in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(PROJECT_ROOT / file, root)
    (root / "dbt_project" / "seeds" / "meters.csv").write_text(METERS)
    (root / "dbt_project" / "seeds" / "plans.csv").write_text(PLANS)
    (root / "dbt_project" / "seeds" / "plan_tiers.csv").write_text(
        "plan,meter,tier_number,up_to_units,unit_price,flat_price\n"
    )
    return root


@pytest.fixture(scope="module")
def stripe() -> Iterator[FakeStripe]:
    with FakeStripe() as server:
        server.keys[STRIPE_KEY] = None
        server.clock = datetime.fromisoformat(NOW).timestamp
        for name in ("api-calls", *STRIPE_METERS.values()):
            server.add_meter(name, "hour")
        server.add_customer("cus_acme")
        yield server


@pytest.fixture(scope="module")
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        yield server


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, root: Path, stripe: FakeStripe, slack: FakeSlack) -> Program:
    """One run."""
    environment = {"STRIPE_API_KEY": STRIPE_KEY, "STRIPE_API_BASE": stripe.url}
    program = Program(tmp_path_factory.mktemp("run"), environment, root)
    program.with_slack(slack)
    program.data.mkdir(parents=True, exist_ok=True)
    (program.data / "accounts.csv").write_text(ACCOUNTS)
    said = {"account_id": "acme", "plan": "pro", **QUOTAS}
    land(program.landing, "quotas.ndjson", make_quota("acme", at="2024-11-01T00:00:00Z", properties=said))
    land(program.landing, "events.ndjson", *events())
    program.run("run")
    return program


def test_each_meter_is_counted_as_by_hand(program: Program) -> None:
    rows = program.rows("select * from utilization_mtd order by meter")
    assert {row["meter"]: row["used_mtd"] for row in rows} == USED
    assert {row["meter"]: row["unit"] for row in rows} == {
        "api-calls": "calls",
        "egress": "0.001 GB",
        "people": "people",
        "peak": "connections",
        "uploads": "uploads",
    }
    assert {row["meter"]: int(row["pct_of_cap"]) for row in rows} == {
        "api-calls": 5,
        "egress": 81,
        "people": 80,
        "peak": 90,
        "uploads": 100,
    }
    refused = program.rows("select event_id, problem from refused_values order by event_id")
    assert [(row["event_id"], row["problem"]) for row in refused] == [
        ("download 3", "negative"),
        ("download 4", "not a number"),
        ("download 5", "too many places"),
    ]
    regions = program.rows("select value, units from daily_usage_by_property where meter = 'egress'")
    assert [(row["value"], row["units"]) for row in regions] == [("eu", 8125)]


def test_crossing_is_the_event_that_reached_80_percent(program: Program) -> None:
    rows = program.rows("select meter, reached_at from threshold_crossings where threshold = '80%' order by meter")
    assert {row["meter"]: f"{row['reached_at']:%H:%M:%S}" for row in rows} == {
        "egress": "07:30:02",
        "people": "07:10:00",
        "peak": "05:20:00",
        "uploads": "06:04:00",
    }


def texts(value: Any) -> Iterator[str]:
    """All that a message says, in order."""
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"]
        yield from texts([part for part in value.values() if isinstance(part, dict | list)])
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def test_digest_says_each_meter_in_its_unit(program: Program, slack: FakeSlack) -> None:
    [message] = slack.messages
    said = "".join(texts(message["blocks"])).replace("\u00a0", " ")
    assert "Acme Corp (uploads) · 4 / 4 uploads (100 %), crossed 100 % today 06:04 · quota used up" in said
    assert "Acme Corp (peak) 90 % · Acme Corp (egress) 81 % · Acme Corp (people) 80 %" in said
    assert "3 values of the last 30 days not counted (refused_values)" in said


def test_stripe_has_each_meter_in_steps_once(program: Program, stripe: FakeStripe) -> None:
    for meter, name in {"api-calls": "api-calls", **STRIPE_METERS}.items():
        assert sum(stripe.totals("cus_acme", name).values()) == USED[meter], meter
    sent = len(stripe.events)
    program.run("run")
    assert len(stripe.events) == sent


def test_usage_of_a_meter_is_shown_in_its_unit(program: Program) -> None:
    shown = program.run("usage", "acme", "--meter", "egress").stdout
    assert "8.125 of 10 GB" in shown
    assert "2.5" in shown or "8.125" in shown
    assert "8,125" not in shown
    people = program.run("usage", "acme", "--meter", "people").stdout
    assert "4 of 5 people" in people


def test_check_says_what_each_row_counts(program: Program) -> None:
    shown = program.run("meters", "check").stdout
    for words in ("egress", "8.125 GB", "not a number", "people", "different"):
        assert words in shown, shown
    assert "8.125 GB" in program.run("meters", "preview", "egress", "--day", "2024-11-20").stdout
