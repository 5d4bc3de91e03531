"""From a billed hour down to the events: by the real lake, whose landed files are read as a run reads them."""

import csv
import io
import re
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestration.billing.event_trail import EventTrail
from orchestration.billing.meters import reported
from orchestration.billing.statements import explain
from orchestration.cli.main import app
from orchestration.lake.lake import Lake
from orchestration.lake.sources import Folder
from tests.dbt_project import lakes
from tests.fakes.stripe import FakeStripe
from tests.support.billing_world import HOUR, NOW, SEVEN
from tests.support.builders import land, make_event, make_meter
from tests.support.duckdb_file import opened
from tests.support.statement_world import StatementWorld

runner = CliRunner()


class EventWorld(StatementWorld):
    """With a lake, and an id that subjects.csv maps to a1."""

    def publish(self) -> None:
        super().publish()
        with opened(self.config.published) as connection:
            connection.execute(
                """create table stg_subjects as
                select 'key-1' as subject, 'a1' as account_id, timestamp '1970-01-01' as valid_from,
                    timestamp '9999-01-01' as valid_until"""
            )

    def land(self, name: str, *events: dict[str, Any] | str) -> None:
        land(self.folder / "landing", name, *events)

    def ingest(self) -> None:
        lake = Lake(self.config.lake)
        with lake.writing():
            lake.ingest(Folder(self.folder / "landing"), {}, NOW, meters=[make_meter()])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventWorld]:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", "hour")
        for customer in ("cus_a", "cus_b"):
            stripe.add_customer(customer)
        yield EventWorld(tmp_path, stripe)


def call(account: str, minute: int, endpoint: str | None = None, **fields: Any) -> dict[str, Any]:
    properties = {"account_id": account, **({"endpoint": endpoint} if endpoint else {})}
    return make_event(account, f"2026-11-20T07:{minute:02}:00Z", properties=properties, **fields)


def explained(world: EventWorld, *arguments: str, status: int = 0) -> str:
    result = runner.invoke(app, ["stripe", "explain", "cus_a", "2026-11-20T07", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def used(world: EventWorld) -> None:
    """Three events of cus_a in the hour, from two files, and three that are not its: 7 units, as counted."""
    world.land("calls/one.ndjson", call("b", 1), "{broken", call("a1", 5, "/search", uuid="e-5"))
    world.land(
        "two.ndjson", call("key-1", 3, uuid=None), call("a2", 9, uuid="e-9"), make_event("a1", "2026-11-20T06:59:59Z")
    )
    world.land("views.ndjson", call("a1", 4, event="page_view", uuid="e-4"))  # of another meter
    world.ingest()
    world.usage = {("a1", "cus_a", SEVEN): 6, ("a2", "cus_a", SEVEN): 1, ("b", "cus_b", SEVEN): 1}
    world.run()


def test_events_of_an_hour_have_their_file_and_line(world: EventWorld) -> None:
    used(world)
    rows = list(csv.DictReader(io.StringIO(explained(world, "--events", "--csv"))))
    columns = ("event_at", "account_id", "subject", "endpoint", "units", "event_id", "landed_file", "line_number")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("2026-11-20T07:03:00.000000Z", "a1", "key-1", "", "1", "1", "two.ndjson", "1"),
        ("2026-11-20T07:05:00.000000Z", "a1", "a1", "/search", "5", "e-5", "calls/one.ndjson", "3"),
        ("2026-11-20T07:09:00.000000Z", "a2", "a2", "", "1", "e-9", "two.ndjson", "2"),
    ]
    assert {row["stripe_customer_id"] for row in rows} == {"cus_a"}
    text = re.sub(r" +", " ", explained(world, "--events"))
    assert "2026-11-20 07:05:00.000000 5 a1 /search e-5 calls/one.ndjson:3\n" in text
    assert "3 events, 7 units: as many as counted." in text


def test_events_that_came_after_the_count_are_told(world: EventWorld) -> None:
    used(world)
    world.usage["a1", "cus_a", SEVEN] = 5
    world.publish()
    text = explained(world, "--events")
    assert "3 events, 7 units, but 6 counted at 2026-11-20 08:05 UTC: +1 since then. The next run counts again." in text


STORED = {"event_names": "upload", "value": "size.gb", "filter": "region=eu|us", "decimals": "3", "aggregation": "sum"}
METER = {"meter": "tokens", "is_main": "false", "stripe_meter": "gb-at-stripe", "unit": "GB", "unit_singular": "GB"}


@pytest.fixture
def uploads(world: EventWorld) -> EventWorld:
    """Two uploads of an account that count, one elsewhere and one that has more places than the meter."""
    world.stripe.add_meter("gb-at-stripe", "hour")
    sizes = [("eu", 1.5), ("us", "0.412"), ("asia", 7), ("eu", 0.0001)]
    for number, (region, size) in enumerate(sizes):
        properties = {"account_id": "a1", "region": region, "size": {"gb": size}}
        event = make_event("a1", f"2026-11-20T07:0{number}:00Z", event="upload", properties=properties)
        world.land(f"{number}.ndjson", {**event, "uuid": f"u-{number}"})
    lake = Lake(world.config.lake)
    with lake.writing():
        lake.ingest(Folder(world.folder / "landing"), {}, NOW, meters=[make_meter(), make_meter(**STORED, **METER)])
    world.usage = {("a1", "cus_a", SEVEN): 1}
    world.metered["data"] = {("a1", "cus_a", SEVEN): 1_912}
    world.publish()
    with opened(world.config.published) as connection:
        connection.execute("update billable_meters_hourly set meter = 'tokens', stripe_meter = 'gb-at-stripe'")
        values = {**STORED, "stripe_meter": "gb-at-stripe", "unit": "GB", "is_billed": "true"}
        changes = ", ".join(f"{name} = '{value}'" for name, value in values.items())
        connection.execute(f"update meters set {changes} where meter = 'tokens'")
    return world


def test_events_of_a_summed_meter_have_their_value(uploads: EventWorld) -> None:
    result = runner.invoke(app, ["stripe", "--meter", "tokens", "explain", "cus_a", "2026-11-20T07", "--events"])
    text = re.sub(r" +", " ", result.output)
    assert result.exit_code == 0, text
    assert "07:00:00.000000 1.5 a1 (none named) u-0 0.ndjson:1\n" in text
    assert "07:01:00.000000 0.412 a1 (none named) u-1 1.ndjson:1\n" in text
    assert "2 events, 1.912 GB: as many as counted." in text


def test_events_of_a_reading_are_refused_in_a_sentence(uploads: EventWorld) -> None:
    with opened(uploads.config.published) as connection:
        connection.execute("update meters set aggregation = 'max' where meter = 'tokens'")
    result = runner.invoke(app, ["stripe", "--meter", "tokens", "explain", "cus_a", "2026-11-20T07", "--events"])
    assert result.exit_code == 1
    assert "--events is for meters that add up (count, sum), and tokens is a reading (max)" in result.output


@pytest.mark.parametrize(
    "arguments",
    [["plan"], ["apply"], ["explain", "cus_a", "2026-11-20T07"], ["statement", "a1"], ["statement", "a1", "--csv"],
     ["problems"], ["problems", "--csv"]],
)  # fmt: skip
def test_command_is_about_the_meter_that_was_chosen(uploads: EventWorld, arguments: list[str]) -> None:
    runner.invoke(app, ["stripe", "--meter", "tokens", "apply"])
    result = runner.invoke(app, ["stripe", "--meter", "tokens", *arguments])
    assert result.exit_code == 0, result.output
    assert ("1.912" in result.output) is (arguments[0] in ("plan", "explain", "statement"))
    assert "Calls" not in result.output


@pytest.mark.parametrize(("is_billed", "units"), [(False, "0"), (True, "50")])
def test_sampled_events_are_shown_with_what_they_bill(
    world: EventWorld, monkeypatch: pytest.MonkeyPatch, is_billed: bool, units: str
) -> None:
    world.land("one.ndjson", call("a1", 5, "/search", sample_weight=10))
    world.ingest()
    world.sampled = {("a1", "cus_a", SEVEN): 10}
    world.run()
    monkeypatch.setenv("HEADROOM_BILL_SAMPLED", str(is_billed))
    text = re.sub(r" +", " ", explained(world, "--events"))
    assert f"07:05:00.000000 {units} a1 /search" in text
    assert "(sampled: counts as 10 calls)" in text
    assert "as many as counted" in text


def test_landed_file_that_is_gone_is_still_named(world: EventWorld) -> None:
    used(world)
    (world.folder / "landing" / "two.ndjson").unlink()
    assert "two.ndjson:2" in explained(world, "--events")


def test_csv_without_events_is_refused_in_a_sentence(world: EventWorld) -> None:
    result = runner.invoke(app, ["stripe", "explain", "cus_a", "2026-11-20T07", "--csv"])
    assert (result.exit_code, "--csv needs --events" in re.sub(r"[\s│]+", " ", result.output)) == (2, True)


def test_hour_with_many_events_is_streamed(world: EventWorld) -> None:
    count = 200_000
    lakes.create(world.config.lake)
    lakes.add(
        world.config.lake,
        (lakes.Call("a1", SEVEN + number * timedelta(microseconds=9), f"e-{number}") for number in range(count)),
    )
    world.usage = {("a1", "cus_a", SEVEN): count}
    world.publish()
    [told] = explain(world.config, "cus_a", SEVEN, SEVEN + HOUR)
    trail = EventTrail(told, world.config, reported(world.config))
    tracemalloc.start()
    last = datetime.min.replace(tzinfo=NOW.tzinfo)
    for event in trail:
        assert event.event_at >= last
        last = event.event_at
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (trail.events, trail.units) == (count, count)
    assert peak < 40 * 2**20, "10,000 events at a time, never all of them"
