"""The recounted models, built by increments: whatever happened in between, each is what one count of the whole lake
gives.
"""

import random
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration.demo import THRESHOLDS
from tests.dbt_project import lakes
from tests.dbt_project.builder import COUNTED, Builder
from tests.dbt_project.lakes import Call
from tests.support.builders import land, make_event
from tests.support.pipeline import ingest

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
CALLS = """(
    select *, event_at at time zone 'UTC' as utc_at from read_parquet('{lake}/batches/*/calls/*/*.parquet')
    where event_at <= timestamptz '{until}' and event_name = 'api_call'
)"""
ANSWERS = """(
    select * replace (case when event_name = 'api_call_refused' then 429 else status end as status),
        event_at at time zone 'UTC' as utc_at
    from read_parquet('{lake}/batches/*/calls/*/*.parquet')
    where event_at <= timestamptz '{until}' and event_name in ('api_call', 'api_call_refused')
)"""
TOKENS = """(
    select *, event_at at time zone 'UTC' as utc_at, properties ->> 'total_tokens' as sent,
        case when sent not in ('lots', '-1') then sent::double::bigint end as tokens
    from read_parquet('{lake}/batches/*/calls/*/*.parquet')
    where event_at <= timestamptz '{until}' and event_name = 'llm_request'
)"""
HASH = "(('0x' || md5(account_id)[1:8])::bigint - 2147483648)::integer"
COUNTS = {
    "hourly_usage": """
        select
            account_id, 'api-calls' as meter, cast(utc_at as date) as usage_date,
            date_trunc('hour', utc_at) as hour_start,
            count(*) as events, sum(sample_weight)::bigint as calls, sum(sample_weight)::bigint as units,
            count(*) filter (sample_weight = 1) as billable_units,
            coalesce(sum(sample_weight) filter (sample_weight > 1), 0)::bigint as sampled_calls,
            coalesce(sum(sample_weight) filter (sample_weight > 1), 0)::bigint as sampled_units,
            sum(sample_weight * (sample_weight - 1))::decimal(38, 0) as sampling_variance,
            coalesce(sum(sample_weight) filter (ingested_at >= event_at + interval 24 hours), 0)::bigint as late_calls,
            (max(ingested_at) filter (ingested_at >= event_at + interval 24 hours)) at time zone 'UTC' as last_late_at,
            0 as next_day_calls, 0 as next_day_units,
            max(utc_at) as last_call_at, max(ingested_at at time zone 'UTC') as last_arrived_at, {hash} as account_hash
        from {calls} group by all
        union all
        select
            account_id, 'tokens', cast(utc_at as date), date_trunc('hour', utc_at), count(*), null,
            sum(tokens * sample_weight)::bigint, coalesce(sum(tokens) filter (sample_weight = 1), 0)::bigint,
            coalesce(sum(sample_weight) filter (sample_weight > 1), 0)::bigint,
            coalesce(sum(tokens * sample_weight) filter (sample_weight > 1), 0)::bigint,
            sum(sample_weight * (sample_weight - 1) * tokens * tokens)::decimal(38, 0),
            coalesce(sum(sample_weight) filter (ingested_at >= event_at + interval 24 hours), 0)::bigint,
            (max(ingested_at) filter (ingested_at >= event_at + interval 24 hours)) at time zone 'UTC',
            0, 0, max(utc_at), max(ingested_at at time zone 'UTC'), {hash}
        from {tokens} where tokens is not null group by all
    """,
    "hourly_usage_by_endpoint": """
        select
            account_id, cast(utc_at as date) as usage_date, date_trunc('hour', utc_at) as hour_start,
            ifnull(endpoint, '') as endpoint,
            coalesce(sum(sample_weight) filter (event_name = 'api_call'), 0)::bigint as calls,
            coalesce(sum(sample_weight) filter (status // 100 in (1, 2, 3, 4, 5)), 0)::bigint as calls_with_status,
            coalesce(sum(sample_weight) filter (status = 429), 0)::bigint as throttled_calls,
            coalesce(sum(sample_weight) filter (status // 100 = 4 and status != 429), 0)::bigint as client_error_calls,
            coalesce(sum(sample_weight) filter (status // 100 = 5), 0)::bigint as server_error_calls,
            coalesce(sum(sample_weight) filter (event_name = 'api_call_refused'), 0)::bigint as refused_calls,
            {hash} as account_hash
        from {answers} group by all
    """,
    "hourly_usage_by_property": """
        select
            account_id, 'tokens' as meter, cast(utc_at as date) as usage_date,
            date_trunc('hour', utc_at) as hour_start, 'model' as property,
            ifnull(properties ->> 'model', '') as value, count(*) as events,
            sum(tokens * sample_weight)::bigint as units
        from {tokens} where tokens is not null group by all
    """,
    "event_values": """
        select
            account_id, 'tokens' as meter, 'sum' as aggregation, cast(utc_at as date) as usage_date,
            date_trunc('hour', utc_at) as hour_start, utc_at as event_at, ingested_at at time zone 'UTC' as ingested_at,
            source, event_id, null as used, sent as sent_value,
            case when sent is null then 'no value' when sent = 'lots' then 'not a number' else 'negative' end as problem
        from {tokens} where tokens is null
    """,
}
"""The oracle for each recounted model: one plain query over all files."""
STAGED = ("+stg_api_calls", "+stg_refused_calls", "+stg_meter_values")
CALLED = ("hourly_usage", "hourly_usage_by_endpoint")
"""Those of them that have every call."""


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    lakes.create(tmp_path / "lake")
    return tmp_path / "lake"


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def built(builder: Builder, table: str = "hourly_usage") -> set[tuple[Any, ...]]:
    rows = builder.query(f"from {table}")
    assert len(rows) == len(set(rows))
    return set(rows)


def counted(lake: Path, now: datetime, table: str = "hourly_usage") -> set[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        until = now + timedelta(minutes=5)
        calls, answers, tokens = (events.format(lake=lake, until=until) for events in (CALLS, ANSWERS, TOKENS))
        asked = COUNTS[table].format(calls=calls, answers=answers, tokens=tokens, hash=HASH)
        return set(connection.execute(asked).fetchall())


def assert_counted(builder: Builder, lake: Path, now: datetime, *tables: str) -> None:
    for table in tables or COUNTS:
        assert built(builder, table) == counted(lake, now, table), table


def make_calls(count: int, at: datetime, account: str = "acme", name: str = "a") -> list[Call]:
    return [Call(account, at + timedelta(seconds=second), f"{name}{second}") for second in range(count)]


def tamper(builder: Builder, day: date) -> None:
    """Make the rows of a day unmistakable, to see later whether they were counted again."""
    for table in CALLED:
        builder.query(f"update {table} set calls = calls + 1000 where usage_date = date '{day}'")


def is_tampered(builder: Builder, day: date) -> bool:
    seen = {
        bool(builder.query(f"select 1 from {table} where usage_date = date '{day}' and calls > 1000"))
        for table in CALLED
    }
    assert len(seen) == 1, "one plan for all models"
    return seen.pop()


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
        endpoint = self.random.choice([None, "", "/v1/search", "/v1/items"])
        status = self.random.choice([None, 0, 14, 99, 200, 304, 404, 429, 500, 599, 600])
        account = self.random.choice(["acme", "globex", "Ä'"])
        if self.random.random() < 0.3:
            tokens = self.random.choice(["0", "7", '"12.0"', "1e3", "null", '"lots"', "-1"])
            model = self.random.choice(["", ', "model": "large"', ', "model": "it\'s"'])
            said = f'{{"total_tokens": {tokens}{model}}}'
            return Call(account, at, str(self.events), weight, event_name="llm_request", properties=said)
        name = self.random.choice(["api_call", "api_call", "api_call", "api_call_refused"])
        return Call(account, at, str(self.events), weight, endpoint, status, name)

    def step(self) -> tuple[str, ...]:
        """The models that are as of now after it."""
        folders = sorted((self.lake / "batches").iterdir())
        if len(folders) > 2 and self.random.random() < 0.1:
            shutil.rmtree(folders[-1])
        for _ in range(self.random.choice([0, 1, 1, 1, 2])):
            lakes.add(self.lake, [self.call() for _ in range(self.random.choice([0, 1, 5, 40]))])
        minutes = self.random.choice([0, 0, 1, 6, 60, 60, 600, 1440, 4000, -7, -60, -1500])
        self.now += timedelta(minutes=minutes)
        if self.random.random() < 0.3:  # nothing is tested, so nothing is remembered
            models = self.random.choice([tuple(COUNTS), *((table,) for table in COUNTS)])
            assert is_well(self.builder.build(self.now, *STAGED, *models))
            return models
        crossings = self.random.choice([[], ["+threshold_crossings"]])  # what it remembers may be older than the counts
        assert is_well(self.builder.build(self.now, *COUNTED, *crossings))
        return tuple(COUNTS)


@pytest.mark.parametrize("seed", range(2))
def test_increments_give_what_one_count_gives_whatever_happens(lake: Path, builder: Builder, seed: int) -> None:
    history = History(lake, builder, seed)
    for account, quota, days_ago in (("acme", 100, 90), ("acme", 60, 12), ("globex", 30, 90), ("Ä'", 1000, 90)):
        lakes.add_quota(lake, account, NOW - timedelta(days=days_ago), quota)
    for _ in range(12):
        models = history.step()
        assert_counted(builder, lake, history.now, *models)
    tables = (*COUNTS, "threshold_crossings")
    assert is_well(builder.build(history.now, *COUNTED, "+threshold_crossings"))
    rows = {table: built(builder, table) for table in tables}
    assert rows["threshold_crossings"]
    assert is_well(builder.build(history.now, *COUNTED, "+threshold_crossings", full_refresh=True))
    assert {table: built(builder, table) for table in tables} == rows


def test_only_days_with_new_calls_are_counted_again(lake: Path, builder: Builder) -> None:
    days = [NOW - timedelta(days=ago) for ago in (40, 30, 20, 0)]
    lakes.add(lake, [call for day in days for call in make_calls(3, day, name=str(day))])
    assert is_well(builder.build(NOW))
    for day in days:
        tamper(builder, day.date())
    lakes.add(lake, make_calls(2, days[1], name="late"))
    builder.build(NOW + timedelta(hours=1), *STAGED, *COUNTS)
    assert [is_tampered(builder, day.date()) for day in days] == [True, False, True, False]


def test_only_hours_with_new_calls_are_counted_again(lake: Path, builder: Builder) -> None:
    """Also of the day that runs, and where many in a row are touched at once. Many that are apart are their day."""
    hours = [NOW.replace(hour=hour) - timedelta(days=ago) for ago in (9, 5, 0) for hour in range(8)]
    apart = [NOW.replace(hour=hour) - timedelta(days=3) for hour in range(14)]
    lakes.add(lake, [call for hour in hours + apart for call in make_calls(3, hour, name=str(hour))])
    assert is_well(builder.build(NOW))
    for table in CALLED:
        builder.query(f"update {table} set calls = calls + 1000")
    late = [hours[3], *hours[8:15], hours[17], hours[23]]
    touched = [*late, *apart[::2]]
    lakes.add(lake, [call for hour in touched for call in make_calls(1, hour, name=f"late {hour}")])
    builder.build(NOW, *STAGED, *COUNTS)
    for table in CALLED:
        again = {row[0] for row in builder.query(f"select hour_start from {table} where calls < 1000")}
        assert again == {hour.replace(tzinfo=None) for hour in late + apart}, table


def test_moment_of_a_crossing_is_looked_for_again_where_calls_came(lake: Path, builder: Builder) -> None:
    early, late = NOW - timedelta(days=9), NOW - timedelta(days=2)
    lakes.add_quota(lake, "acme", NOW - timedelta(days=40), 4)
    lakes.add(lake, [*make_calls(2, early), *make_calls(2, late, name="b")])
    nodes = (*COUNTED, "+threshold_crossings")
    moments = "select threshold, reached_at from threshold_crossings order by threshold_pct"
    assert is_well(builder.build(NOW, *nodes))
    found = builder.query(moments)
    assert [threshold for threshold, _ in found] == [f"{pct}%" for pct in THRESHOLDS if pct <= 100]
    wrong = datetime(2026, 11, 1)  # noqa: DTZ001
    builder.query(f"update crossing_moments set reached_at = timestamp '{wrong}'")
    after = late + timedelta(minutes=5)
    lakes.add(lake, make_calls(1, after, name="c"))
    assert is_well(builder.build(NOW + timedelta(hours=1), *nodes))
    assert builder.query(moments) == [
        ("50%", wrong),
        *found[1:],
        *((f"{pct}%", after.replace(tzinfo=None)) for pct in THRESHOLDS if 100 < pct <= 125),
    ]


def test_build_that_was_not_tested_is_counted_again(lake: Path, builder: Builder) -> None:
    """As after a kill -9 between the model and the end, or after somebody materialized only the model."""
    late = NOW - timedelta(days=9)
    assert is_well(builder.build(NOW))
    lakes.add(lake, make_calls(3, late))
    for _ in range(2):
        builder.build(NOW + timedelta(hours=1), *STAGED, *COUNTS)
        tamper(builder, late.date())
    assert is_well(builder.build(NOW + timedelta(hours=2)))
    assert not is_tampered(builder, late.date())


@pytest.mark.parametrize("only", CALLED)
def test_build_of_one_model_is_not_remembered_for_the_other(lake: Path, builder: Builder, only: str) -> None:
    """With all of its own tests passed."""
    tests = {
        "hourly_usage": ("daily_usage", "calls_are_distinct", "daily_usage_adds_up_to_the_calls"),
        "hourly_usage_by_endpoint": ("calls_are_distinct",),
    }
    assert is_well(builder.build(NOW))
    lakes.add(lake, make_calls(3, NOW - timedelta(days=9)))
    assert is_well(builder.build(NOW + timedelta(hours=1), *STAGED, only, *tests[only]))
    assert is_well(builder.build(NOW + timedelta(hours=2)))
    assert_counted(builder, lake, NOW + timedelta(hours=2))


@pytest.mark.parametrize("only", CALLED)
def test_build_that_ended_between_two_models_is_made_good_by_the_next(lake: Path, builder: Builder, only: str) -> None:
    """Even where the lake loses the batch that only one of them has seen, and another one comes in its place."""
    assert is_well(builder.build(NOW))
    folder = lakes.add(lake, make_calls(3, NOW - timedelta(days=9)))
    builder.build(NOW + timedelta(hours=1), *STAGED, only)
    shutil.rmtree(folder)
    lakes.add(lake, make_calls(2, NOW - timedelta(days=5), name="b"))
    assert is_well(builder.build(NOW + timedelta(hours=2)))
    assert_counted(builder, lake, NOW + timedelta(hours=2))


def test_full_count_that_ended_between_two_models_is_made_again(lake: Path, builder: Builder) -> None:
    lakes.add(lake, make_calls(3, NOW - timedelta(days=9)))
    assert is_well(builder.build(NOW))
    tamper(builder, (NOW - timedelta(days=9)).date())
    builder.build(NOW, *STAGED, "hourly_usage", full_refresh=True)
    assert is_well(builder.build(NOW))
    assert_counted(builder, lake, NOW)


def test_days_that_a_clock_set_back_took_away_come_back_with_it(lake: Path, builder: Builder) -> None:
    """Also where the build with the wrong clock is not remembered."""
    lakes.add(lake, make_calls(3, NOW - timedelta(days=3)))
    assert is_well(builder.build(NOW))
    builder.build(NOW - timedelta(days=5), *STAGED, *COUNTS)
    assert_counted(builder, lake, NOW - timedelta(days=5))
    assert is_well(builder.build(NOW + timedelta(hours=1)))
    assert_counted(builder, lake, NOW + timedelta(hours=1))


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


def test_failed_test_names_the_first_of_its_rows_in_order(lake: Path, builder: Builder) -> None:
    folder = lakes.add(lake, make_calls(9, NOW - timedelta(days=9)))
    shutil.copytree(folder, folder.with_name("000002"))
    [failed] = [result for result in builder.results(NOW, COUNTED) if result.status == "fail"]
    assert failed.failures == 9
    assert [line.rpartition(", ")[2] for line in failed.message.splitlines()[1:]] == ["a0", "a1", "a2"]


@pytest.mark.parametrize(
    ("table", "test"),
    [
        ("hourly_usage", "daily_usage_adds_up_to_the_calls"),
        ("hourly_usage_by_endpoint", "endpoints_add_up_to_daily_usage"),
    ],
)
def test_difference_in_an_old_day_is_found_and_repaired(lake: Path, builder: Builder, table: str, test: str) -> None:
    """An old day is looked at with each hour: one of two is found within three hours, 1970's empty day among them."""
    old = NOW - timedelta(days=9)
    lakes.add(lake, make_calls(3, old) + make_calls(3, NOW - timedelta(days=8), name="b"))
    assert is_well(builder.build(NOW))
    builder.query(f"update {table} set calls = calls + 1 where usage_date = date '{old.date()}'")
    statuses = [builder.build(NOW + timedelta(hours=hour))[test] for hour in range(1, 4)]
    assert statuses.count("fail") == 1
    assert is_well(builder.build(NOW + timedelta(hours=4)))
    assert_counted(builder, lake, NOW + timedelta(hours=4))


@pytest.mark.parametrize("change", ["restored", "made anew", "new model", "lost table"])
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
    elif change == "lost table":
        builder.query("drop table hourly_usage_by_endpoint cascade")
    else:
        builder.query("update recount_progress set version = 'of the models before'")
    assert is_well(builder.build(NOW + timedelta(hours=1)))
    assert_counted(builder, lake, NOW + timedelta(hours=1))


def test_lake_is_counted_again_when_it_returns_after_another_one(lake: Path, builder: Builder, tmp_path: Path) -> None:
    """What is remembered of the first lake does not hold for a table that was counted from the second one."""
    lakes.add(lake, make_calls(3, NOW - timedelta(days=9)))
    assert is_well(builder.build(NOW))
    lake.rename(tmp_path / "first")
    lakes.create(lake)
    lakes.add(lake, make_calls(2, NOW - timedelta(days=7), name="b"))
    builder.build(NOW, *STAGED, "hourly_usage")
    shutil.rmtree(lake)
    (tmp_path / "first").rename(lake)
    assert is_well(builder.build(NOW))
    assert_counted(builder, lake, NOW)


def test_late_and_early_lines_count_on_their_days_when_they_are_due(tmp_path: Path, builder: Builder) -> None:
    """The same through the real lake: a call of three weeks ago lands today, and one of tomorrow waits for it."""
    landing = tmp_path / "landing"
    tomorrow = NOW + timedelta(days=1)
    land(landing, "1.ndjson", make_event(at="2026-11-19T12:00:00Z"), make_event(at=tomorrow.isoformat()))
    ingest(tmp_path, landing, NOW)
    assert is_well(builder.build(NOW))
    land(landing, "2.ndjson", make_event(at="2026-10-30T12:00:00Z"), make_event(at="2026-11-19T12:00:00Z"))
    ingest(tmp_path, landing, NOW)
    assert is_well(builder.build(NOW + timedelta(hours=1)))
    days = "select usage_date, sum(calls)::bigint from hourly_usage group by usage_date order by usage_date"
    assert builder.query(days) == [(date(2026, 10, 30), 1), (date(2026, 11, 19), 1)]
    assert is_well(builder.build(tomorrow))
    assert builder.query(days) == [(date(2026, 10, 30), 1), (date(2026, 11, 19), 1), (date(2026, 11, 21), 1)]
