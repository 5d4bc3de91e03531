"""A meter's day is counted from the lake as the models count it: against counts made by hand and in Python."""

import json
import random
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake.account_files import SUBJECTS
from orchestration.usage.meters import Meter
from orchestration.warehouse.meter_counts import DayCount, History, meter_counts
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, make_event, make_meter

DAY = date(2026, 11, 19)
SUM = make_meter(meter="gb", event_names="upload", aggregation="sum", value="size.gb", decimals="3", unit="GB")
UNIQUE = make_meter(meter="users", event_names="upload|login", aggregation="unique", value="user")
MAX = make_meter(meter="peak", event_names="upload", aggregation="max", value="size.gb", decimals="3")
LATEST = make_meter(meter="level", event_names="upload", aggregation="latest", value="size.gb", decimals="3")
LARGE = make_meter(meter="large", event_names="upload|login", filter="kind=large|it's;user=u1|u2", group_by="kind|user")
CALLS = make_meter(
    meter="api-calls", is_main="true", event_names="api_call", weights="endpoint_weights", group_by="endpoint"
)
METERS = [CALLS, SUM, UNIQUE, MAX, LATEST, LARGE]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.meters = METERS
    weights = "endpoint,effective_from,weight\n/v1/search,2026-11-01,2\n/v1/search,2026-11-19,5\n/free,2026-01-01,0\n"
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "endpoint_weights.csv").write_text(weights)
    return world


def upload(
    number: int, gb: object, account: str = "acme", at: str = "12:00:00", **properties: object
) -> dict[str, Any]:
    inside = {"account_id": account, "size": {"gb": gb}, **properties}
    return make_event(uuid=f"{number:03}", at=f"{DAY}T{at}Z", event="upload", properties=inside)


def count(world: World, meter: Meter, day: date = DAY, now: datetime = NOW) -> DayCount:
    with meter_counts(world.lake.root, world.root, now) as counts:
        return counts.count(meter, day)


def history(world: World, meter: Meter) -> History:
    with meter_counts(world.lake.root, world.root, NOW) as counts:
        return counts.history(meter)


def figures(counted: DayCount) -> dict[str, int]:
    return {each.account_id: each.steps for each in counted.largest}


def reasons(counted: DayCount) -> dict[str, tuple[int, str | None]]:
    return {each.reason: (each.events, each.example) for each in counted.refused}


def test_sum_is_exact_and_refused_values_have_their_reason(world: World) -> None:
    values = [0.1, 0.2, "12.5", 10**12, None, [1], -1, 0.1234, 10**30, "NaN", "1e3"]
    world.land(*(upload(number, value) for number, value in enumerate(values)))
    world.ingest()
    found = count(world, SUM)

    assert (found.events, found.accounts, found.steps) == (5, 1, 10**15 + 1_012_800)
    assert reasons(found) == {
        "not a number": (2, "NaN"),
        "negative": (1, "-1"),
        "no value": (1, None),
        "too large": (1, str(10**30)),
        "too many places": (1, "0.1234"),
    }
    assert [example.value for example in found.examples] == ["0.1", "0.2", "12.5"]


def test_count_is_of_the_events_that_each_condition_takes(world: World) -> None:
    world.land(
        upload(1, 1, kind="large", user="u1"),
        upload(2, 1, kind="it's", user="u2"),
        upload(3, 1, kind="large", user="u3"),
        upload(4, 1, kind="small", user="u1"),
        upload(5, 1, user="u1"),
        upload(6, 1, kind="large", user="u1", sample_weight=10),
    )
    world.ingest()
    found = count(world, LARGE)

    assert (found.events, found.steps, found.refused) == (3, 12, ())
    assert found.values == {"kind": 2, "user": 2}
    assert found.rows == 6
    assert found.examples[0].value is None


def test_calls_count_for_the_weight_of_their_endpoint_on_their_day(world: World) -> None:
    inside = {"account_id": "acme", "endpoint": "/free"}
    world.land(make_event(uuid="1"), make_event(uuid="2", properties=inside), make_event(uuid="3", sample_weight=4))
    world.land(make_event(uuid="4", at="2026-11-18T12:00:00Z"), name="b.ndjson")
    world.ingest()

    assert count(world, CALLS).steps == 5 + 0 + 4 * 5
    assert count(world, CALLS, date(2026, 11, 18)).steps == 2
    assert count(world, CALLS).values == {"endpoint": 2}


def test_latest_is_the_last_of_the_day_and_then_the_last_that_came(world: World) -> None:
    world.land(upload(1, 5, at="13:00:00"), upload(2, 9, at="12:00:00"))
    world.ingest()
    world.land(upload(0, 7, at="13:00:00"), name="b.ndjson")
    world.ingest(now=NOW + timedelta(hours=1))

    assert count(world, LATEST).steps == 7_000
    assert count(world, MAX).steps == 9_000


def test_events_of_a_subject_count_for_its_account(world: World) -> None:
    subjects = world.root / "subjects.csv"
    subjects.write_text("subject,account_id,valid_from,valid_until\nkey,acme,2026-11-19T12:00:00Z,\n")
    world.land(upload(1, 1, "key"), upload(2, 2, "key", "11:59:59"), upload(3, 4))
    world.ingest()
    with world.lake.locked():
        world.lake.write_accounts(SUBJECTS, subjects, NOW)

    assert figures(count(world, SUM)) == {"acme": 5_000, "key": 2_000}


def test_nothing_counts_before_counts_from_nor_ahead_of_the_clock(world: World) -> None:
    late = make_meter(event_names="api_call", counts_from="2026-11-20")
    world.land(
        *(make_event(uuid=str(day), at=f"2026-11-{day}T12:00:00Z") for day in (18, 19, 21)),
        make_event(uuid="now", at="2026-11-20T08:04:00Z"),
        make_event(uuid="ahead", at="2026-11-20T08:06:00Z"),
    )
    world.ingest()

    assert count(world, late).events == 0
    assert count(world, late, date(2026, 11, 20)).events == 1
    assert count(world, CALLS, date(2026, 11, 21)).events == 0
    assert history(world, late) == History(events=1, days=1, first_day=date(2026, 11, 20), rows=2)
    assert history(world, CALLS) == History(events=3, days=3, first_day=date(2026, 11, 18), rows=4)
    with meter_counts(world.lake.root, world.root, NOW) as counts:
        assert counts.last_day() == date(2026, 11, 20)


def test_days_that_the_lake_does_not_keep_are_left_out(world: World) -> None:
    world.land(make_event(uuid="1", at="2026-11-18T12:00:00Z"), make_event(uuid="2"))
    world.ingest()
    with world.lake.writing():
        world.lake.keep_from(DAY)

    assert count(world, CALLS, date(2026, 11, 18)).events == 0
    assert history(world, CALLS).days == 1


def test_empty_lake_has_no_day(world: World) -> None:
    with world.lake.locked():
        pass
    with meter_counts(world.lake.root, world.root, NOW) as counts:
        assert counts.last_day() is None
        assert counts.history(SUM) == History(0, 0, None, 0)
        assert counts.count(SUM, DAY).steps == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_every_kind_agrees_with_a_count_in_python(world: World, seed: int) -> None:
    chance = random.Random(seed)
    events: list[dict[str, Any]] = []
    for number in range(400):
        gb = chance.choice([0, 1, "2.5", 0.125, 3.75, "0.0004", None, -1, "x", 10**13])
        second = chance.randrange(50)
        user = chance.choice(["u1", "u2", "ü", 7, True, None, [1], "", "x" * 300])
        event = upload(number, gb, chance.choice("abc"), f"12:00:{second:02}", user=user)
        events.append({**event, "event": chance.choice(["upload", "upload", "login"])})
    world.land(*events)
    world.ingest()

    steps, latest = defaultdict[str, list[int]](list), dict[str, tuple[str, str, int]]()
    users = defaultdict[str, set[str]](set)
    for event in events:
        inside = event["properties"]
        if (user := _text(inside["user"])) is not None:
            users[inside["account_id"]].add(user)
        value = _steps(inside["size"]["gb"])
        if event["event"] == "upload" and value is not None:
            steps[inside["account_id"]].append(value)
            reading = (event["timestamp"], event["uuid"], value)
            latest[inside["account_id"]] = max(reading, latest.get(inside["account_id"], reading))
    expected: Mapping[str, Mapping[str, int]] = {
        "gb": {account: sum(values) for account, values in steps.items()},
        "peak": {account: max(values) for account, values in steps.items()},
        "level": {account: value for account, (_, _, value) in latest.items()},
        "users": {account: len(found) for account, found in users.items()},
    }
    for meter in (SUM, MAX, LATEST, UNIQUE):
        found = count(world, meter)
        assert figures(found) == expected[meter.name], meter.name
        assert found.steps == sum(expected[meter.name].values())
        names = meter.event_names
        assert found.events + sum(each.events for each in found.refused) == sum(e["event"] in names for e in events)


def _steps(value: object) -> int | None:
    try:
        number = Decimal(str(value)).scaleb(3)
    except ArithmeticError:
        return None
    return int(number) if 0 <= number <= 10**15 and number == int(number) else None


def _text(value: object) -> str | None:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if 1 <= len(text) <= 256 and value is not None and not isinstance(value, list) else None


def test_many_days_are_one_history(world: World) -> None:
    start = datetime(2026, 10, 1, tzinfo=UTC)
    world.land(*(make_event(uuid=str(n), at=(start + timedelta(days=n)).isoformat()) for n in range(40)))
    world.ingest()

    assert history(world, CALLS) == History(events=40, days=40, first_day=date(2026, 10, 1), rows=40)
