"""The warehouse: readers of the published copy see one whole build, never none, half of one, or two."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event

import duckdb
import pytest

from orchestration.billing import usage_query
from orchestration.warehouse import published_copy, queries
from orchestration.warehouse.duckdb import inspect, publish
from orchestration.warehouse.published_copy import NothingPublishedError, query
from tests.support.duckdb_file import opened

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
CONSISTENT = (
    "select count(*) as rows, min(build) as first, max(build) as last from a union all select 1, build, build from b"
    " order by rows desc"
)


def build(path: Path, number: int, rows: int = 1000) -> None:
    with opened(path) as connection:
        connection.execute(f"create or replace table a as select {number} as build from range({rows})")
        connection.execute(f"create or replace table b as select {number} as build")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    build(path, 1)
    return path


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return tmp_path / "published.duckdb"


def builds(published: Path) -> set[int]:
    rows = query(published, CONSISTENT)
    assert rows[0]["rows"] == 1000
    return {row[name] for row in rows for name in ("first", "last")}


def test_publish_says_how_many_rows_each_table_has(built: Path, published: Path) -> None:
    assert publish(built, published) == {"a": 1000, "b": 1}
    assert builds(published) == {1}
    assert {path.name for path in published.parent.iterdir()} == {
        "warehouse.duckdb",
        "warehouse.lock",
        "published.duckdb",
    }


def test_publish_counts_only_the_marts_when_there_are_other_schemas(built: Path, published: Path) -> None:
    with opened(built) as connection:
        connection.execute("create schema audit")
        connection.execute("create table audit.failures as select 1 as x")
        connection.execute("create view seen as select * from a")

    assert publish(built, published) == {"a": 1000, "b": 1}
    assert query(published, "select count(*) as rows from seen") == [{"rows": 1000}]


def test_publish_leaves_out_what_a_build_keeps_for_the_next_one(built: Path, published: Path) -> None:
    with opened(built) as connection:
        connection.execute("create table crossing_moments as select 'mark' as counted_by")
        connection.execute("create table recount_progress as select 'mark' as version")

    assert publish(built, published) == {"a": 1000, "b": 1}
    columns = query(published, "select column_name from duckdb_columns() where column_name = 'counted_by'")
    assert columns == []
    with opened(built, read_only=True) as connection:  # the next build still finds it
        assert connection.execute("from crossing_moments").fetchall() == [("mark",)]


def test_copy_is_readable_again_when_somebody_had_opened_it_for_writing(built: Path, published: Path) -> None:
    publish(built, published)
    assert published.stat().st_mode & 0o222 == 0
    open_for_ever = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute('create table mine as select 1 as x');"
        " os._exit(0)"
    )
    published.chmod(0o644)  # as its owner may
    subprocess.run([sys.executable, "-c", open_for_ever, published], check=True)
    assert published.with_name("published.duckdb.wal").exists()

    build(built, 2)
    publish(built, published)
    assert builds(published) == {2}
    assert not published.with_name("published.duckdb.wal").exists()


def test_publish_works_when_its_folder_has_an_odd_name(tmp_path: Path) -> None:
    folder = tmp_path / 'o\'clock "[1]"'
    folder.mkdir()
    build(folder / "warehouse.duckdb", 1)
    publish(folder / "warehouse.duckdb", folder / "published.duckdb")

    assert builds(folder / "published.duckdb") == {1}


def test_reader_keeps_its_copy_when_a_newer_one_is_published(built: Path, published: Path) -> None:
    publish(built, published)
    with published_copy.connected(published) as old, opened(published, read_only=True) as direct:
        build(built, 2)
        publish(built, published)

        for reader in (old, direct):
            assert reader.execute("select distinct build from a").fetchall() == [(1,)]
        # a reader that comes now sees the new one, though this very process still holds the old one
        assert builds(published) == {2}


def test_queries_read_together_see_one_copy_when_a_newer_one_is_published(built: Path, published: Path) -> None:
    publish(built, published)
    with published_copy.reading(published):
        assert builds(published) == {1}
        build(built, 2)
        publish(built, published)
        assert builds(published) == {1}
    assert builds(published) == {2}


def test_readers_see_one_whole_build_when_many_are_published_beside_them(built: Path, published: Path) -> None:
    publish(built, published)
    is_over = Event()

    def read() -> list[set[int]]:
        seen = [builds(published)]
        while not is_over.is_set():
            seen.append(builds(published))
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for number in range(2, 12):
                build(built, number)
                publish(built, published)
        finally:
            is_over.set()
    for reader in readers:
        seen = reader.result()
        assert all(len(build) == 1 for build in seen)
        assert [max(build) for build in seen] == sorted(max(build) for build in seen)
    assert builds(published) == {11}


def test_old_copy_stays_when_publishing_fails(built: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(built, published)
    build(built, 2)

    def fail(*_: object) -> int:
        raise OSError("disk full")

    monkeypatch.setattr("orchestration.warehouse.duckdb.count_rows", fail)
    with pytest.raises(OSError, match="disk full"):
        publish(built, published)
    assert builds(published) == {1}


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestration.warehouse import duckdb as engine
name = sys.argv[3]
owner = Path if name == "replace" else engine
setattr(owner, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
engine.publish(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("moment", ["count_rows", "replace"])
def test_publish_replaces_the_copy_when_an_earlier_one_was_killed(built: Path, published: Path, moment: str) -> None:
    publish(built, published)
    build(built, 2)
    with opened(built) as connection:
        connection.execute("create table crossing_moments as select range from range(1_000_000)")
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run([sys.executable, "-c", KILLED, built, published, moment], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert published.with_name(".published.duckdb").exists()
    assert builds(published) == {1}

    build(built, 3)
    publish(built, published)
    assert builds(published) == {3}
    assert not [path for path in published.parent.iterdir() if path.name.startswith(".")]


def test_publish_takes_what_was_committed_when_the_build_was_killed(built: Path, published: Path) -> None:
    script = (
        "import duckdb, os, sys\n"
        "c = duckdb.connect(sys.argv[1])\n"
        "c.execute('begin; update a set build = 2; update b set build = 2; commit; begin; update b set build = 3')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, built], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert built.with_name("warehouse.duckdb.wal").exists()
    publish(built, published)

    assert builds(published) == {2}


def test_query_says_that_nothing_was_published_when_there_is_no_copy(published: Path) -> None:
    with pytest.raises(NothingPublishedError, match="does not exist yet"):
        query(published, "select 1")
    nothing = usage_query.billable_usage(
        published, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    )
    with pytest.raises(NothingPublishedError), nothing:
        pass
    assert not published.exists()


def test_query_cannot_change_the_copy(built: Path, published: Path) -> None:
    publish(built, published)

    with pytest.raises(duckdb.InvalidInputException, match="read-only"):
        query(published, "delete from a")


def test_query_gives_aware_utc_timestamps(built: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with opened(built) as connection:
        connection.execute("""
            create table moments as
            select timestamp '2026-11-20 08:00' as naive, timestamptz '2026-11-20 08:00+02' as aware,
                date '2026-11-20' as day, null::timestamp as never
        """)
    publish(built, published)

    [row] = query(published, "from moments where naive = ?", [datetime(2026, 11, 20, 8)])  # noqa: DTZ001
    assert row["naive"] == datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert row["aware"] == datetime(2026, 11, 20, 6, tzinfo=UTC)
    assert row["aware"].utcoffset() == timedelta(0)
    assert (row["day"].isoformat(), row["never"]) == ("2026-11-20", None)


def test_query_has_all_rows_when_they_are_more_than_are_read_at_once(
    built: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(built, published)
    monkeypatch.setattr(published_copy, "ROWS", 2)

    assert [row["n"] for row in query(published, "select unnest([1, 2, 3, 4, 5]) as n")] == [1, 2, 3, 4, 5]


USAGE = """
    create table billable_usage_hourly as
    select *, sampled_calls * 5 as sampled_units from (values
        ('a', 'cus_2', timestamp '2026-11-19 10:00', 1, 0), ('b', 'cus_1', timestamp '2026-11-19 10:00', 2, 0),
        ('c', 'cus_1', timestamp '2026-11-19 10:00', 3, 10), ('d', null, timestamp '2026-11-19 10:00', 4, 100),
        ('b', 'cus_1', timestamp '2026-11-19 09:00', 5, 0), ('b', 'cus_1', timestamp '2026-11-19 11:00', 6, 0),
        ('d', null, timestamp '2026-11-18 10:00', 7, 0), ('b', 'cus_1', timestamp '2026-11-20 00:00', 8, 0)
    ) as hours (account_id, stripe_customer_id, hour_start, billable_units, sampled_calls)
"""
NINETEENTH = date(2026, 11, 19)


@pytest.fixture
def usage(built: Path, published: Path) -> Path:
    with opened(built) as connection:
        connection.execute(USAGE)
    publish(built, published)
    return published


def test_billable_usage_is_of_the_hours_from_start_to_before_end(usage: Path) -> None:
    start = datetime.fromisoformat("2026-11-19T12:00+02:00")

    with usage_query.billable_usage(usage, start, start + timedelta(hours=1)) as found:
        assert found.hours(NINETEENTH) == [
            ("cus_1", datetime(2026, 11, 19, 10, tzinfo=UTC), 5),
            ("cus_2", datetime(2026, 11, 19, 10, tzinfo=UTC), 1),
            (None, datetime(2026, 11, 19, 10, tzinfo=UTC), 4),
        ]
        assert found.hours(date(2026, 11, 18)) == []
        assert set(found.days()) == {NINETEENTH}
    with usage_query.billable_usage(usage, start - timedelta(days=2), start + timedelta(days=2)) as found:
        assert [sum(hour[2] for hour in found.hours(day)) for day in found.days()] == [21, 8]


def test_units_of_sampled_calls_are_billed_where_that_is_asked(usage: Path) -> None:
    start = datetime(2026, 11, 19, 10, tzinfo=UTC)

    with usage_query.billable_usage(usage, start, start + timedelta(hours=1), bills_sampled=True) as found:
        assert [units for _, _, units in found.hours(NINETEENTH)] == [5 + 10 * 5, 1, 4 + 100 * 5]


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ("select 1", False),
        ("update billable_usage_hourly set billable_units = 0 where account_id = 'd'", False),
        ("update billable_usage_hourly set billable_units = 2 where account_id = 'a'", True),
        ("update billable_usage_hourly set sampled_units = 1 where account_id = 'a'", True),
        ("update billable_usage_hourly set stripe_customer_id = 'cus_9' where account_id = 'a'", True),
        ("update billable_usage_hourly set stripe_customer_id = null where account_id = 'a'", True),
        ("update billable_usage_hourly set hour_start = hour_start - interval 1 hour where account_id = 'a'", True),
        ("delete from billable_usage_hourly where account_id = 'a'", True),
    ],
)
def test_mark_of_a_day_is_another_when_its_billable_usage_is(
    built: Path, published: Path, usage: Path, change: str, is_another: bool
) -> None:
    marks = []
    for statement in ("select 1", change):
        with opened(built) as connection:
            connection.execute(statement)
        publish(built, published)
        with usage_query.billable_usage(published, *(datetime(2026, 11, day, tzinfo=UTC) for day in (18, 21))) as found:
            marks.append(found.days())
    assert (marks[0][NINETEENTH] != marks[1][NINETEENTH]) == is_another
    assert marks[0][date(2026, 11, 20)] == marks[1][date(2026, 11, 20)]


def test_invoice_is_open_from_the_first_period_that_is_not_final(built: Path, published: Path) -> None:
    periods = """
        create table account_periods as
        select * from (values
            ('b', timestamp '2026-10-01', timestamp '2026-11-01', 'calendar month'),
            ('b', timestamp '2026-11-01', timestamp '2026-12-01', 'calendar month'),
            ('b', timestamp '2026-11-10', timestamp '2026-12-01', 'quota change'),
            ('c', timestamp '2026-09-15', timestamp '2026-11-15', 'cycle'),
            ('c', timestamp '2026-11-15', timestamp '2026-12-15', 'cycle'),
            ('a', timestamp '2026-10-20', timestamp '2026-11-20', 'cycle'),
            ('d', timestamp '2026-11-01', timestamp '2026-12-01', 'calendar month')
        ) as periods (account_id, period_start, period_end, source)
    """
    with opened(built) as connection:
        connection.execute(USAGE)
        connection.execute(periods)
    publish(built, published)

    ended: dict[str, datetime] = {}

    def open_since(final_until: datetime) -> dict[str, datetime]:
        with usage_query.billable_usage(published, datetime(2026, 9, 1, tzinfo=UTC), final_until) as found:
            since, over = found.finality(final_until, final_until + timedelta(minutes=1))
            ended.update(over)
            return since

    assert open_since(datetime(2026, 11, 20, tzinfo=UTC)) == {"cus_1": datetime(2026, 11, 1, tzinfo=UTC)}
    before = datetime(2026, 11, 19, 23, 59, tzinfo=UTC)
    assert ended == {}
    assert open_since(before)["cus_2"] == datetime(2026, 10, 20, tzinfo=UTC)
    assert ended == {"cus_2": datetime(2026, 11, 20, tzinfo=UTC)}

    def units(final_until: datetime, others: str, *, bills_sampled: bool = False) -> tuple[int, int]:
        window = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)
        with usage_query.billable_usage(published, *window, bills_sampled) as found:
            return found.units(window[0], final_until, datetime.fromisoformat(f"{others}:00Z"))

    assert units(before, "2026-11-18T11:00") == (1 + 2 + 3 + 5 + 6, 4)
    assert units(before, "2026-11-19T10:30") == (1 + 2 + 3 + 5 + 6, 0)
    assert units(datetime(2026, 11, 20, tzinfo=UTC), "2026-11-19T10:30") == (2 + 3 + 5 + 6, 0)  # that of cus_2 is final
    assert units(before, "2026-11-18T11:00", bills_sampled=True) == (1 + 2 + 3 + 10 * 5 + 5 + 6, 4 + 100 * 5)


def test_inspect_counts_rows_of_the_warehouse_when_nothing_is_published(built: Path) -> None:
    assert inspect(built, ["b", "a"]) == ({"b": 1, "a": 1000}, {})


LIFETIME = ("ever", "2024-05-01", "9999-12-31", "lifetime")
MONTH = ("monthly", "2026-11-01", "2026-12-01", "calendar month")
QUOTA_CHANGE = ("reset", "2026-11-05", "9999-12-31", "quota change")
WHOLE = ("reset", "2025-01-01", "2026-11-05", "lifetime")
TRIED = ("tried", "2025-02-01", "2026-08-21", "trial")
TRIED_LONG_AGO = ("tried", "2025-02-01", "2026-08-20", "trial")


@pytest.mark.parametrize(
    ("periods", "through", "now", "day", "held_by"),
    [
        ([MONTH, TRIED_LONG_AGO], "2026-11-20", NOW, "2025-10-16", ""),
        ([MONTH, LIFETIME], "2026-11-20", NOW, "2024-05-01", "account ever, whose usage period began on 2024-05-01"),
        ([MONTH, QUOTA_CHANGE, WHOLE], "2026-11-20", NOW, "2025-01-01", "account reset, whose usage period began on"),
        ([MONTH, TRIED], "2026-11-20", NOW, "2025-02-01", "account tried, whose usage period began on 2025-02-01"),
        ([MONTH], "2026-11-18", NOW + timedelta(days=9999), "2025-10-14", ""),
        ([MONTH], "2026-12-24", NOW, "2025-10-16", ""),
        ([MONTH], None, NOW, None, ""),
        ([], "2026-11-20", NOW, None, ""),
    ],
    ids=["old enough", "lifetime", "in parts", "just ended", "wrong clock", "ahead", "no call", "no account"],
)
def test_calls_are_needed_for_periods_that_run_or_ended_lately(
    built: Path,
    published: Path,
    periods: list[tuple[str, ...]],
    through: str | None,
    now: datetime,
    day: str | None,
    held_by: str,
) -> None:
    with opened(built) as connection:
        connection.execute(
            "create table data_quality as select timestamp '2026-11-20' as as_of, ?::timestamp as data_through",
            [through],
        )
        connection.execute(
            "create table account_periods (account_id text, period_start timestamp, period_end timestamp, source text)"
        )
        if periods:
            connection.executemany("insert into account_periods values (?, ?, ?, ?)", periods)
    assert usage_query.dispensable_before(published, now, 400) == (None, ""), "nothing was published"
    publish(built, published)
    found, why = usage_query.dispensable_before(published, now, 400)
    assert (str(found) if found else None) == day
    assert why.startswith(held_by)
    assert bool(why) == bool(held_by)


def test_data_quality_is_the_one_row_of_its_mart(built: Path, published: Path) -> None:
    with opened(built) as connection:
        connection.execute("create table data_quality as select 3 as accounts, timestamp '2026-11-20' as as_of")
    publish(built, published)

    quality = {"accounts": 3, "as_of": datetime(2026, 11, 20, tzinfo=UTC)}
    assert queries.data_quality(published) == quality
    assert inspect(built, ["data_quality"]) == ({"data_quality": 1}, quality)
