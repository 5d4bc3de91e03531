"""Meters of each kind, added by data alone: what the models say of them is what a plain count of the events says,
whatever the builds in between were.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.dbt_project import lakes
from tests.dbt_project.builder import COUNTED, Builder, project_with
from tests.dbt_project.lakes import Call

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
MONTH = datetime(2026, 11, 1, tzinfo=UTC)
METERS = """\
meter,is_main,event_names,aggregation,value,filter,group_by,unit,unit_singular,decimals,quota_property,quota_policy,\
is_forecast,is_billed,stripe_meter,weights,counts_from
api-calls,true,api_call|api_request,count,,,endpoint,calls,call,0,,carry,true,true,,endpoint_weights,
egress,false,api_call|download,sum,out.gb,,region,GB,GB,3,egress_quota,carry,true,true,egress_gb,,
people,false,login,unique,user,,,people,person,0,people_quota,carry,,true,people,,
peak,false,ping,max,open,,,connections,connection,0,peak_quota,carry,,true,peak,,
uploads,false,api_call,count,,method=POST|PUT;region=eu,,uploads,upload,0,uploads_quota,carry,false,true,uploads,,
disk,false,disk_read,latest,gb,,,GB,GB,1,disk_quota,carry,,true,disk,,
seats,false,,latest,,,,seats,seat,0,,carry,,false,,,
"""
PLANS = """\
plan,meter,included_units,base_price,pricing,unit_price,package_units,package_price,limit_kind,rate_limit_per_second,\
next_plan,currency
pro,api-calls,100,49.00,flat,0.5,,,soft,,,USD
pro,egress,2,49.00,flat,0.123456789,,,soft,,,USD
pro,people,3,49.00,flat,1.5,,,soft,,,USD
pro,peak,5,49.00,none,,,,hard,,,USD
pro,uploads,4,49.00,flat,2,,,soft,,,USD
pro,disk,1,49.00,flat,0.25,,,soft,,,USD
"""
QUOTAS = {"egress": Decimal(2), "people": 3, "peak": 5, "uploads": 4, "disk": Decimal("1.5")}
SCALE = {"egress": 1000, "disk": 10}
ACCOUNTS = ("acme", "globex", "Ä'")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_with(tmp_path_factory.mktemp("project"), meters=METERS, plans=PLANS, plan_tiers=PLAN_TIERS)


PLAN_TIERS = "plan,meter,tier_number,up_to_units,unit_price,flat_price\n"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    lakes.create(tmp_path / "lake")
    return tmp_path / "lake"


@dataclass(frozen=True)
class Reading:
    """What a meter reads of an event: steps, or a key."""

    at: datetime
    order: tuple[Any, ...]
    value: Any


def read(meter: str, call: Call) -> Any:
    """By hand what meters.csv says; None where the event does not count."""
    said = json.loads(call.properties or "{}")
    name = call.event_name
    if meter == "api-calls":
        return 1 if name in ("api_call", "api_request") else None
    if meter == "uploads":
        is_meant = said.get("method") in ("POST", "PUT") and said.get("region") == "eu"
        return 1 if name == "api_call" and is_meant else None
    if meter == "people":
        return said.get("user") if name == "login" else None
    names, path = {
        "egress": (("api_call", "download"), ("out", "gb")),
        "peak": (("ping",), ("open",)),
        "disk": (("disk_read",), ("gb",)),
    }[meter]
    value: Any = said if name in names else {}
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    try:
        steps = Decimal(str(value)) * SCALE.get(meter, 1)
    except ArithmeticError:
        return None
    return int(steps) if steps == steps.to_integral_value() and 0 <= steps <= 10**15 else None


def readings(meter: str, calls: Iterable[Call], account: str, until: datetime) -> list[Reading]:
    found = [
        Reading(call.event_at, (call.event_at, call.event_id), value)
        for call in calls
        if call.account_id == account and call.event_at <= until and (value := read(meter, call)) is not None
    ]
    return sorted(found, key=lambda each: each.order)


def standing(meter: str, calls: Iterable[Call], account: str, until: datetime) -> list[tuple[datetime, int]]:
    """How the figure of the period stood after each event of it; of a gauge also before."""
    known, total, seen, steps = readings(meter, calls, account, until), 0, set[Any](), list[tuple[datetime, int]]()
    for each in known:
        if each.at < MONTH and meter != "disk":
            continue
        if meter == "people":
            seen.add(each.value)
            total = len(seen)
        elif meter == "peak":
            total = max(total, each.value)
        elif meter == "disk":
            total = each.value
        else:
            total += each.value
        steps.append((each.at, total))
    return steps


def make_events(rng: random.Random, now: datetime, number: int, count: int) -> list[Call]:
    events = []
    for index in range(count):
        ago = rng.choice([0, 0, 0, 1, 3, 10, 21, 45])
        at = now - timedelta(days=ago, minutes=rng.randrange(-10, 600), microseconds=rng.randrange(10**6))
        name = rng.choice(["api_call", "api_call", "download", "login", "ping", "disk_read"])
        said: dict[str, Any] = {"region": rng.choice(["eu", "us", None])}
        if name in ("api_call", "download"):
            said["method"] = rng.choice(["GET", "POST", "PUT"])
            said["out"] = rng.choice([{"gb": 0.125}, {"gb": "0.5"}, {"gb": 0.0001}, {"gb": -1}, {"gb": []}, 7, {}])
        elif name == "login":
            said["user"] = rng.choice(["u1", "u2", "it's", 4])
        elif name == "ping":
            said["open"] = rng.choice([1, 2, 4, 6, "x"])
        else:
            said["gb"] = rng.choice([0.5, 1, "1.50", 2, None])
        account = rng.choice(ACCOUNTS)
        events.append(Call(account, at, f"{number}.{index}", event_name=name, properties=json.dumps(said)))
    return events


def add_quotas(lake: Path) -> None:
    said = {f"{meter}_quota": str(quota) for meter, quota in QUOTAS.items()}
    for account in ACCOUNTS:
        lakes.add_quota(lake, account, MONTH - timedelta(days=60), 40, json.dumps({**said, "quota": 40, "plan": "pro"}))


@pytest.mark.parametrize("seed", range(2))
def test_meters_of_each_kind_are_what_a_plain_count_of_their_events_is(
    lake: Path, tmp_path: Path, project: Path, seed: int
) -> None:
    """Built by increments, with late events and builds that are not remembered; then at once, which is the same."""
    rng, builder, now, events = random.Random(seed), Builder(tmp_path, project), NOW, list[Call]()
    add_quotas(lake)
    for number in range(6):
        added = make_events(rng, now, number, rng.choice([1, 20, 60]))
        lakes.add(lake, added)
        events += added
        if rng.random() < 0.3:
            builder.build(now, "+stg_meter_values", "hourly_usage")
        statuses = builder.build(now, *COUNTED, "+utilization_mtd", "billable_meters_hourly", "refused_values")
        assert set(statuses.values()) <= {"success", "pass"}
        now += timedelta(minutes=rng.choice([1, 60, 300]))
    now = now - timedelta(minutes=1)
    nodes = (*COUNTED, "+utilization_mtd", "billable_meters_hourly", "refused_values")
    builder.build(now, *nodes)
    assert_counted(builder, events, now)
    tables = ("hourly_usage", "daily_usage_by_property", "event_values", "gauge_readings", "threshold_crossings")
    tables += ("utilization_mtd", "billable_meters_hourly", "refused_values", "overage", "cap_forecasts")
    grown = {table: set(builder.query(f"from {table}")) for table in tables}
    assert all(grown.values())
    builder.build(now, *nodes, full_refresh=True)
    assert {table: set(builder.query(f"from {table}")) for table in tables} == grown


def assert_counted(builder: Builder, events: list[Call], now: datetime) -> None:
    until = now + timedelta(minutes=5)
    for account in ACCOUNTS:
        for meter, quota in {"api-calls": 40, **QUOTAS}.items():
            steps = standing(meter, events, account, until)
            limit = int(quota * SCALE.get(meter, 1))
            used = steps[-1][1] if steps else None if meter == "disk" else 0
            query = f"""select used_mtd, quota, unit from utilization_mtd
                where account_id = '{account.replace("'", "''")}' and meter = '{meter}'"""
            unit = {"egress": "0.001 GB", "disk": "0.1 GB", "api-calls": "calls", "peak": "connections"}.get(
                meter, meter
            )
            assert builder.query(query) == [(used, limit, unit)], (account, meter)
            within = [(at, figure) for at, figure in steps if at >= MONTH]
            reached = next((at for at, figure in within if figure * 100 >= limit * 80), None)
            query = f"""select reached_at from threshold_crossings where period_start = timestamp '{MONTH:%F}'
                and account_id = '{account.replace("'", "''")}' and meter = '{meter}' and threshold = '80%'"""
            if meter != "disk" or not any(figure * 100 >= limit * 80 for at, figure in steps if at < MONTH):
                expected = [] if reached is None else [(reached.replace(tzinfo=None),)]
                assert builder.query(query) == expected, (account, meter)
            assert_billed(builder, account, meter, within)


def assert_billed(builder: Builder, account: str, meter: str, within: list[tuple[datetime, int]]) -> None:
    """The hours of the period add up to the figure: nobody has a customer here, and what is billed of whom is."""
    if meter in ("api-calls", "disk"):
        return
    query = f"""select coalesce(sum(billable_units), 0) from billable_meters_hourly
        where account_id = '{account.replace("'", "''")}' and meter = '{meter}'
            and hour_start >= timestamp '{MONTH:%F}'"""
    assert builder.query(query) == [(within[-1][1] if within else 0,)], (account, meter)


def test_what_is_over_a_quota_with_places_is_priced_by_the_unit(lake: Path, tmp_path: Path, project: Path) -> None:
    """2.5 GB of 2: half a GB at 0.123456789, which is six cents."""
    builder = Builder(tmp_path, project)
    add_quotas(lake)
    said = json.dumps({"out": {"gb": "1.25"}})
    lakes.add(
        lake, [Call("acme", NOW - timedelta(hours=n), str(n), event_name="download", properties=said) for n in (1, 2)]
    )
    builder.build(NOW, *COUNTED, "+utilization_mtd")
    query = (
        "select overage_units, overage_value, limit_kind from overage where account_id = 'acme' and meter = 'egress'"
    )
    assert builder.query(query) == [(500, Decimal("0.06"), "soft")]


def test_meter_counts_from_its_day_on(lake: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A meter that is added later counts the lake's history, from the day that one chooses."""
    later = METERS + f"logins,false,login,count,,,,logins,login,0,,carry,true,false,,,{date(2026, 11, 10)}\n"
    builder = Builder(
        tmp_path, project_with(tmp_path_factory.mktemp("project"), meters=METERS, plans=PLANS, plan_tiers=PLAN_TIERS)
    )
    said = json.dumps({"user": "u1"})
    days = [date(2026, 11, day) for day in (9, 10, 11)]
    at = [datetime(day.year, day.month, day.day, 10, tzinfo=UTC) for day in days]
    lakes.add(lake, [Call("acme", moment, str(moment), event_name="login", properties=said) for moment in at])
    builder.build(NOW, *COUNTED, "+utilization_mtd")
    assert builder.query("select meter, used_mtd from utilization_mtd order by meter") == [
        ("api-calls", 0),
        ("people", 1),
    ]
    with_logins = project_with(tmp_path_factory.mktemp("project"), meters=later, plans=PLANS, plan_tiers=PLAN_TIERS)
    statuses = Builder(tmp_path, with_logins).build(NOW, *COUNTED, "+utilization_mtd")
    assert set(statuses.values()) <= {"success", "pass"}
    assert builder.query("select meter, used_mtd from utilization_mtd order by meter") == [
        ("api-calls", 0),
        ("logins", 2),
        ("people", 1),
    ]
    assert builder.query("select usage_date, units from daily_usage where units > 0 order by 1") == [
        (days[1], 1),
        (days[2], 1),
    ]
