"""hourly_usage, built by increments: whatever happened in between, it is what one count of the whole lake gives."""

import random
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.builders import land, make_event
from tests.dbt_project import lakes
from tests.dbt_project.builder import Builder
from tests.dbt_project.lakes import Call
from tests.pipeline import ingest

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
COUNT = """
    select
        account_id, cast(event_at at time zone 'UTC' as date) as usage_date,
        date_trunc('hour', event_at at time zone 'UTC') as hour_start, count(*) as events,
        sum(sample_weight)::bigint as calls, count(*) filter (sample_weight = 1) as billable_units,
        coalesce(sum(sample_weight) filter (sample_weight > 1), 0)::bigint as sampled_calls,
        sum(sample_weight * (sample_weight - 1))::decimal(38, 0) as sampling_variance,
        max(event_at at time zone 'UTC') as last_call_at
    from read_parquet('{lake}/batches/*/calls/*/*.parquet') where event_at <= timestamptz '{until}' group by all
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Builder]]:
    data = tmp_path_factory.mktemp("increments")
    builder = Builder(data)
    yield data, builder
    builder.end()


@pytest.fixture
def lake(place: tuple[Path, Builder]) -> Path:
    data, _ = place
    (data / "warehouse.duckdb").unlink(missing_ok=True)
    lakes.create(data / "lake")
    return data / "lake"


@pytest.fixture
def builder(place: tuple[Path, Builder]) -> Builder:
    return place[1]


def built(builder: Builder) -> set[tuple[Any, ...]]:
    rows = builder.query(
        """select account_id, usage_date, hour_start, events, calls, billable_units, sampled_calls,
                  sampling_variance, last_call_at from hourly_usage"""
    )
    assert len(rows) == len(set(rows))
    return set(rows)


def counted(lake: Path, now: datetime) -> set[tuple[Any, ...]]:
    """The oracle: one plain query over all files."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        return set(connection.execute(COUNT.format(lake=lake, until=now + timedelta(minutes=5))).fetchall())


def make_calls(count: int, at: datetime, account: str = "acme", name: str = "a") -> list[Call]:
    return [Call(account, at + timedelta(seconds=second), f"{name}{second}") for second in range(count)]


def tamper(builder: Builder, day: date) -> None:
    """Make the rows of a day unmistakable, to see later whether they were counted again."""
    builder.query(f"update hourly_usage set calls = calls + 1000 where usage_date = date '{day}'")


def is_tampered(builder: Builder, day: date) -> bool:
    return bool(builder.query(f"select 1 from hourly_usage where usage_date = date '{day}' and calls > 1000"))


def is_well(statuses: dict[str, str]) -> bool:
    assert statuses
    return all(status in ("success", "pass") for status in statuses.values())


class History:
    """Random batches and builds: late calls, calls ahead of the clock, clocks that are set back, builds that end
    before they are remembered, lakes that lose their last batch and get another one."""

    def __init__(self, lake: Path, builder: Builder, seed: int) -> None:
        self.lake, self.builder, self.random, self.now, self.events = lake, builder, random.Random(seed), NOW, 0

    def call(self) -> Call:
        ago = self.random.choice([0, 0, 0, 1, 1, 3, 30, 70]) * timedelta(days=1)
        ahead = self.random.choice([-3600, -60, 0, 299, 301, 900, 7200, 86400, 3 * 86400]) * timedelta(seconds=1)
        self.events += 1
        at = self.now - ago + ahead + timedelta(microseconds=self.random.randrange(10**9))
        weight = self.random.choice([1, 1, 1, 10, 100])
        return Call(self.random.choice(["acme", "globex", "Ä'"]), at, str(self.events), weight)

    def step(self) -> None:
        folders = sorted((self.lake / "batches").iterdir())
        if len(folders) > 2 and self.random.random() < 0.1:
            shutil.rmtree(folders[-1])
        for _ in range(self.random.choice([0, 1, 1, 1, 2])):
            lakes.add(self.lake, [self.call() for _ in range(self.random.choice([0, 1, 5, 40]))])
        minutes = self.random.choice([0, 0, 1, 6, 60, 60, 600, 1440, 4000, -7, -60, -1500])
        self.now += timedelta(minutes=minutes)
        if self.random.random() < 0.2:  # nothing is tested, so nothing is remembered
            assert is_well(self.builder.build(self.now, "stg_api_calls", "hourly_usage"))
        else:
            assert is_well(self.builder.build(self.now))


@pytest.mark.parametrize("seed", range(4))
def test_increments_give_what_one_count_gives_whatever_happens(lake: Path, builder: Builder, seed: int) -> None:
    history = History(lake, builder, seed)
    for _ in range(12):
        history.step()
        assert built(builder) == counted(lake, history.now)
    rows = built(builder)
    assert is_well(builder.build(history.now, full_refresh=True))
    assert built(builder) == rows


def test_only_days_with_new_calls_are_counted_again(lake: Path, builder: Builder) -> None:
    days = [NOW - timedelta(days=ago) for ago in (40, 30, 20, 0)]
    lakes.add(lake, [call for day in days for call in make_calls(3, day, name=str(day))])
    assert is_well(builder.build(NOW))
    for day in days:
        tamper(builder, day.date())
    lakes.add(lake, make_calls(2, days[1], name="late"))
    builder.build(NOW + timedelta(hours=1), "stg_api_calls", "hourly_usage")
    assert [is_tampered(builder, day.date()) for day in days] == [True, False, True, False]


def test_build_that_was_not_tested_is_counted_again(lake: Path, builder: Builder) -> None:
    """As after a kill -9 between the model and the end, or after somebody materialized only the model."""
    late = NOW - timedelta(days=9)
    assert is_well(builder.build(NOW))
    lakes.add(lake, make_calls(3, late))
    for _ in range(2):
        builder.build(NOW + timedelta(hours=1), "stg_api_calls", "hourly_usage")
        tamper(builder, late.date())
    assert is_well(builder.build(NOW + timedelta(hours=2)))
    assert not is_tampered(builder, late.date())


def test_failed_test_has_everything_counted_again(lake: Path, builder: Builder) -> None:
    old = NOW - timedelta(days=9)
    folder = lakes.add(lake, make_calls(3, old))
    assert is_well(builder.build(NOW))
    copied = folder.with_name("000002")
    shutil.copytree(folder, copied)
    for hour in (1, 2):
        statuses = builder.build(NOW + timedelta(hours=hour))
        assert statuses["calls_are_distinct"] == "fail"
        assert statuses["hourly_usage"] == "skipped"
    shutil.rmtree(copied)
    tamper(builder, old.date())
    assert is_well(builder.build(NOW + timedelta(hours=3)))
    assert not is_tampered(builder, old.date())


def test_difference_in_an_old_day_is_found_and_repaired(lake: Path, builder: Builder) -> None:
    """An old day is looked at with each hour: one of two is found within three hours, 1970's empty day among them."""
    old = NOW - timedelta(days=9)
    lakes.add(lake, make_calls(3, old) + make_calls(3, NOW - timedelta(days=8), name="b"))
    assert is_well(builder.build(NOW))
    tamper(builder, old.date())
    statuses = [builder.build(NOW + timedelta(hours=hour))["daily_usage_adds_up_to_the_calls"] for hour in range(1, 4)]
    assert statuses.count("fail") == 1
    assert is_well(builder.build(NOW + timedelta(hours=4)))
    assert built(builder) == counted(lake, NOW + timedelta(hours=4))


@pytest.mark.parametrize("change", ["restored", "made anew", "new model"])
def test_everything_is_counted_again_where_nothing_can_be_relied_on(lake: Path, builder: Builder, change: str) -> None:
    old = NOW - timedelta(days=9)
    lakes.add(lake, make_calls(3, old))
    lakes.add(lake, make_calls(3, NOW, name="b"))
    assert is_well(builder.build(NOW))
    tamper(builder, old.date())
    if change == "restored":
        shutil.rmtree(lake / "batches/000002")
    elif change == "made anew":
        lakes.create(lake)
        for name in "cde":
            lakes.add(lake, make_calls(2, old, name=name))
    else:
        builder.query("update hourly_usage_progress set version = 'of the model before'")
    assert is_well(builder.build(NOW + timedelta(hours=1)))
    assert built(builder) == counted(lake, NOW + timedelta(hours=1))


def test_lake_that_comes_back_after_another_one_was_counted_is_counted_again(
    lake: Path, builder: Builder, tmp_path: Path
) -> None:
    """What is remembered of the first lake does not hold for a table that was counted from the second one."""
    lakes.add(lake, make_calls(3, NOW - timedelta(days=9)))
    assert is_well(builder.build(NOW))
    lake.rename(tmp_path / "first")
    lakes.create(lake)
    lakes.add(lake, make_calls(2, NOW - timedelta(days=7), name="b"))
    builder.build(NOW, "stg_api_calls", "hourly_usage")
    shutil.rmtree(lake)
    (tmp_path / "first").rename(lake)
    assert is_well(builder.build(NOW))
    assert built(builder) == counted(lake, NOW)


def test_late_and_early_lines_count_on_their_days_when_they_are_due(
    place: tuple[Path, Builder], lake: Path, tmp_path: Path
) -> None:
    """The same through the real lake: a call of three weeks ago lands today, and one of tomorrow waits for it."""
    data, builder = place
    tomorrow = NOW + timedelta(days=1)
    land(tmp_path, "1.ndjson", make_event(at="2026-11-19T12:00:00Z"), make_event(at=tomorrow.isoformat()))
    ingest(data, tmp_path, NOW)
    assert is_well(builder.build(NOW))
    land(tmp_path, "2.ndjson", make_event(at="2026-10-30T12:00:00Z"), make_event(at="2026-11-19T12:00:00Z"))
    ingest(data, tmp_path, NOW)
    assert is_well(builder.build(NOW + timedelta(hours=1)))
    days = "select usage_date, sum(calls)::bigint from hourly_usage group by usage_date order by usage_date"
    assert builder.query(days) == [(date(2026, 10, 30), 1), (date(2026, 11, 19), 1)]
    assert is_well(builder.build(tomorrow))
    assert builder.query(days) == [(date(2026, 10, 30), 1), (date(2026, 11, 19), 1), (date(2026, 11, 21), 1)]
