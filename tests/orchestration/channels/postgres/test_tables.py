"""Tables of the user's own Postgres: a real server, rows of a published copy that is written by hand.

Run as a program, this file is the processes that race and are killed.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa

from orchestration.channels.postgres import tables as channel
from orchestration.channels.postgres.mapping import parse
from orchestration.channels.postgres.tables import PostgresTables, TableResult, UnusableDestinationError, statements
from orchestration.warehouse import published_copy
from tests.fakes.postgres import Postgres
from tests.support.duckdb_file import opened
from tests.support.waiting import PATIENCE_SECONDS, RUN_SECONDS

TABLES = """
    [crossings]
    deliver = "threshold_crossings"
    ["hits"]
    deliver = "usage_limit_hits"
    columns = { id = "delivery_key", "Of Account" = "account_id", raw = "payload" }
    ["bi.accounts"]
    copy = "accounts"
"""
AWKWARD = "a\\b\t\"c\"\n\r'd'é\0"
READABLE = AWKWARD.replace("\0", "\ufffd")
RACERS, ROUNDS = 4, 3
WRITING = ("write", "_deliver", "_insert", "_copy")


def publish(path: Path, crossings: int = 3, accounts: int = 3, used: int = 80, quota: int = 100) -> None:
    """So many crossings, as many reported limits, and a mart of so many accounts."""
    path.unlink(missing_ok=True)
    with opened(path) as connection:
        connection.execute(
            """
            create table threshold_crossings as
            select
                'acme ' || n as account_id, 'api-calls' as meter, timestamp '2026-11-01' as period_start,
                $quota::bigint as quota, '80%' as threshold, $used::bigint as used,
                cast($used + 0.123456 as decimal(24, 6)) as pct_of_cap, timestamp '2026-11-20 08:00:00.5' as crossed_at,
                n = 1 as is_in_digest, cast(null as integer) as threshold_pct
            from generate_series($rows, 1, -1) as rows (n)
            """,
            {"rows": crossings, "used": used, "quota": quota},
        )
        connection.execute(
            "create table usage_limit_hits as select '' as source, 'event ' || n as event_id, $text || n as account_id"
            " from generate_series(1, $rows) as rows (n)",
            {"rows": crossings, "text": AWKWARD},
        )
        connection.execute(
            "create table accounts as select n as account_id, $text as name, '' as plan, null::varchar as owner,"
            " date '2026-11-20' as renewal_on, timestamp '2026-11-20 08:00' as as_of, 0.1 as mrr, true as is_trial,"
            " 1e300::double as level, 'NULL' as segment from range($rows) as rows (n)",
            {"rows": accounts, "text": AWKWARD},
        )


class World:
    """A database with the tables that the file names, and a published copy."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.published = url, folder / "published.duckdb"
        self.database = sa.make_url(url).database
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)
        publish(self.published)
        self.run("drop schema if exists bi cascade; drop schema public cascade; create schema public; create schema bi")
        for statement in statements(self.published, parse(TABLES)):
            self.run(statement)

    def tables(self, text: str = TABLES, url: str = "") -> PostgresTables:
        return PostgresTables(url or self.url, parse(text))

    def write(self) -> list[tuple[int, int, int]]:
        """Rows of each table that were new, known, refused."""
        return [(each.rows, each.known, len(each.refused)) for each in self.tables().write(self.published)]

    def run(self, sql: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(sql)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.exec_driver_sql(sql)]

    def count(self, table: str) -> int:
        return int(self.rows(f"select count(*) as rows from {table}")[0]["rows"])


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def world(database: str, tmp_path: Path) -> World:
    return World(database, tmp_path)


def test_each_row_is_delivered_once_with_its_types_and_as_a_whole(world: World) -> None:
    assert world.write() == [(3, 0, 0), (3, 0, 0), (3, 0, 0)]
    [row] = world.rows("select * from crossings where account_id = 'acme 1'")
    assert row | {"delivery_key": "", "delivered_at": None} == {
        "account_id": "acme 1",
        "meter": "api-calls",
        "period_start": datetime(2026, 11, 1, tzinfo=UTC),
        "quota": 100,
        "threshold": "80%",
        "used": 80,
        "pct_of_cap": Decimal("80.123456"),
        "crossed_at": datetime(2026, 11, 20, 8, 0, 0, 500_000, tzinfo=UTC),
        "is_in_digest": True,
        "threshold_pct": None,
        "delivery_key": "",
        "payload": {
            "account_id": "acme 1",
            "meter": "api-calls",
            "period_start": "2026-11-01 00:00:00+00:00",
            "quota": 100,
            "threshold": "80%",
            "used": 80,
            "pct_of_cap": "80.123456",
            "crossed_at": "2026-11-20 08:00:00.500000+00:00",
            "is_in_digest": True,
            "threshold_pct": None,
        },
        "delivered_at": None,
    }
    [hit] = world.rows("""select "Of Account", raw from hits where raw ->> 'event_id' = 'event 2'""")
    assert hit == {
        "Of Account": f"{READABLE}2",
        "raw": {"source": "", "event_id": "event 2", "account_id": f"{READABLE}2"},
    }
    assert world.write() == [(0, 3, 0), (0, 3, 0), (3, 0, 0)]
    publish(world.published, crossings=5)
    assert world.write() == [(2, 3, 0), (2, 3, 0), (3, 0, 0)]
    assert (world.count("crossings"), world.count("hits")) == (5, 5)


def test_delivered_rows_stay_with_late_data_and_another_quota_adds_rows(world: World) -> None:
    world.write()
    before = world.rows("select * from crossings order by account_id")
    publish(world.published, used=99)
    assert world.write()[0] == (0, 3, 0)
    assert world.rows("select * from crossings order by account_id") == before
    publish(world.published, used=99, quota=110)
    assert world.write()[0] == (3, 0, 0)


def test_a_copy_is_the_mart_to_the_last_character(world: World) -> None:
    world.write()
    assert world.rows("select * from bi.accounts where account_id = 1") == [
        {
            "account_id": 1,
            "name": READABLE,
            "plan": "",
            "owner": None,
            "renewal_on": date(2026, 11, 20),
            "as_of": datetime(2026, 11, 20, 8, tzinfo=UTC),
            "mrr": Decimal("0.1"),
            "is_trial": True,
            "level": 1e300,
            "segment": "NULL",
        }
    ]
    publish(world.published, accounts=11_000)  # several chunks
    assert world.write()[2] == (11_000, 0, 0)
    assert world.count("bi.accounts") == 11_000


def test_times_are_utc_also_where_the_table_has_no_zone(world: World) -> None:
    world.run(f"alter database {world.database} set timezone = 'Asia/Tokyo'")
    for table, column in (("crossings", "crossed_at"), ("bi.accounts", "as_of")):
        world.run(f"alter table {table} alter {column} type timestamp")
    world.write()
    world.run(f"alter database {world.database} reset timezone")
    assert world.rows("select crossed_at from crossings limit 1")[0]["crossed_at"].hour == 8
    assert world.rows("select as_of from bi.accounts limit 1")[0]["as_of"].hour == 8


def test_a_new_column_of_a_mart_stops_nothing_and_is_named(world: World) -> None:
    with opened(world.published) as connection:
        connection.execute("alter table threshold_crossings add column weather varchar default 'fine'")
    assert world.write()[0] == (3, 0, 0)
    assert {row["weather"] for row in world.rows("select payload ->> 'weather' as weather from crossings")} == {"fine"}
    findings = world.tables().check(world.published)
    assert [(each.subject, each.problem, each.is_needed) for each in findings if each.problem] == [
        ("crossings", "threshold_crossings has weather, which the table does not take", False)
    ]


def test_check_says_what_each_table_lacks_and_then_nothing_is_written(world: World) -> None:
    findings = world.tables().check(world.published)
    assert [each.subject for each in findings] == [
        "crossings takes each row of threshold_crossings, 12 columns",
        "hits takes each row of usage_limit_hits, 3 columns",
        "bi.accounts takes a copy of accounts, 10 columns",
    ]
    assert not any(each.problem for each in findings)
    world.run("drop table hits; create view hits as select 1 as id")
    world.run("alter table crossings drop constraint crossings_pkey; create index on crossings (delivery_key)")
    world.run("create unique index on crossings (delivery_key) where used > 0")
    world.run("alter table bi.accounts alter mrr type integer")
    world.run("alter table bi.accounts add n integer generated always as identity, add must integer not null")
    text = f'{TABLES}\n[gone]\ncopy = "accounts"\n[missing]\ncopy = "no_mart"'
    expected = [
        "crossings: column delivery_key needs a unique constraint of its own, or to be the primary key",
        "hits: is a view or another relation, not a table",
        "bi.accounts: column mrr is integer, and mrr needs numeric or numeric(2,1)",
        "bi.accounts: column must needs a value: map it, allow null, or give it a default",
        "gone: does not exist in",
        "missing: there is no mart no_mart",
    ]
    tables = world.tables(text)
    said = [f"{each.subject}: {each.problem}" for each in tables.check(world.published)]
    assert [line.startswith(start) for line, start in zip(said, expected, strict=True)] == [True] * len(expected)
    with pytest.raises(UnusableDestinationError, match="nothing was written") as caught:
        tables.write(world.published)
    assert str(caught.value).split("\n")[1:] == said
    assert world.count("crossings") == world.count("bi.accounts") == 0


def test_rows_that_a_table_refuses_are_named_and_the_others_delivered(world: World) -> None:
    publish(world.published, crossings=40)
    world.run("alter table crossings add constraint no_seven check (account_id not in ('acme 7', 'acme 17'))")
    first = world.tables().write(world.published)[0]
    assert (first.rows, first.known) == (38, 0)
    words = ', api-calls, 2026-11-01 00:00:00+00:00, 100, 80%: new row for relation "crossings" violates check'
    assert [line.partition(" constraint")[0] for line in first.refused] == [f"acme 17{words}", f"acme 7{words}"]
    assert world.write()[0] == (0, 38, 2)
    world.run("alter table crossings drop constraint no_seven")
    assert world.write()[0] == (2, 38, 0)


def test_two_rights_on_the_tables_are_enough_and_nothing_is_created(world: World) -> None:
    world.run("create role writer login; grant usage on schema bi to writer")
    world.run(
        f"revoke all on database {world.database} from public; grant connect on database {world.database} to writer"
    )
    world.run("grant usage on schema public to writer; grant select on crossings to writer")
    as_writer = world.tables(url=world.url.replace("postgres@", "writer@"))
    try:
        problems = [each.problem for each in as_writer.check(world.published)]
        assert problems == [
            "needs a right: grant insert on crossings to writer",
            "needs a right: grant insert, select on hits to writer",
            "needs a right: grant insert, delete on bi.accounts to writer",
        ]
        world.run("grant insert, select on crossings, hits to writer; grant insert, delete on bi.accounts to writer")
        before = world.rows("select oid, relname from pg_class order by oid")
        assert [each.rows for each in as_writer.write(world.published)] == [3, 3, 3]
        assert world.rows("select oid, relname from pg_class order by oid") == before
    finally:
        world.run("drop owned by writer; drop role writer")


def test_server_that_cannot_be_reached_is_named_without_the_password(world: World) -> None:
    tables = world.tables(url="postgresql://u:s3cr3t@127.0.0.1:1/db")
    with pytest.raises(UnusableDestinationError, match=r"database db at 127.0.0.1 cannot be written \(") as caught:
        tables.write(world.published)
    assert "s3cr3t" not in str(caught.value)
    assert "HEADROOM_DESTINATION_URL" in tables.check(world.published)[0].problem


def test_a_lock_held_by_others_fails_the_run_and_the_next_one_delivers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(channel.OPTIONS, "lock_timeout", "10ms")
    with world.engine.begin() as connection:
        connection.exec_driver_sql("lock table bi.accounts in access exclusive mode")
        with pytest.raises(UnusableDestinationError, match="lock timeout"):
            world.write()
    assert world.write() == [(0, 3, 0), (0, 3, 0), (3, 0, 0)]


def test_readers_never_see_a_copy_empty_or_half(world: World) -> None:
    world.write()
    publish(world.published, accounts=11_000)
    seen = set()
    tables = world.tables()

    def look(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != channel.__file__ or frame.f_code.co_name != "_copy":
            return None
        if event == "line":
            sys.settrace(None)
            seen.add(world.count("bi.accounts"))
            sys.settrace(look)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        tables.write(world.published)
    finally:
        sys.settrace(before)
    assert seen == {3}
    assert world.count("bi.accounts") == 11_000


# Killed and racing, for real.


def killed_at(line: int, write: Callable[[], list[TableResult]]) -> Callable[[], object]:
    """The write, that ends before the so-maniest line of the channel that it has not run before."""
    seen: set[int] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != channel.__file__ or frame.f_code.co_name not in WRITING:
            return None
        if event == "line":
            seen.add(frame.f_lineno)
            if len(seen) == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def act() -> None:
        sys.settrace(trace)
        write()

    return act


def in_child(work: Callable[[], object]) -> int:
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - told to the test
            sys.stderr.write(repr(error))
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at_each_line(url: str, published: Path) -> None:
    """Empty tables, a write that is killed, and whole ones after the next write, for each line of the channel."""
    engine, line, outcomes = sa.create_engine(url, poolclass=sa.NullPool), 0, set()
    # Read once: a process that has DuckDB open cannot be forked, and opening it takes longer than all that is tested.
    columns = published_copy.columns(published)
    rows = {mart: next(published_copy.chunks(published, mart, list(names))) for mart, names in columns.items()}
    published_copy.columns = lambda _: columns
    published_copy.chunks = lambda _, mart, *others: iter([rows[mart]])

    def write() -> list[TableResult]:
        return PostgresTables(url, parse(TABLES)).write(published)

    def counts() -> list[int]:
        with engine.connect() as connection:
            return [
                connection.exec_driver_sql(f"select count(*) from {table}").scalar_one()
                for table in ("crossings", "hits", "bi.accounts")
            ]

    while True:
        line += 1
        with engine.begin() as connection:
            connection.exec_driver_sql("truncate crossings, hits, bi.accounts")
            connection.exec_driver_sql("insert into bi.accounts (account_id) values (1), (2)")
        status = in_child(killed_at(line, write))
        assert status in (0, -signal.SIGKILL), status
        crossings, hits, accounts = counts()
        assert {crossings, hits} <= {0, 3}, (line, crossings, hits)
        assert accounts in (2, 3), (line, accounts)
        outcomes.add((crossings, hits, accounts))
        write()
        assert counts() == [3, 3, 3], line
        if status == 0:
            break
    assert outcomes == {(0, 0, 2), (3, 3, 2), (3, 3, 3)}, "killed before and after each commit"


def race(url: str, published: Path) -> None:
    """Several processes that write the same at the same moment, from empty tables on, several times."""
    context = get_context("fork")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    for _ in range(ROUNDS):
        with engine.begin() as connection:
            connection.exec_driver_sql("truncate crossings, hits, bi.accounts")
        start = context.Barrier(RACERS, timeout=PATIENCE_SECONDS)
        results = context.SimpleQueue()

        def write(start: Any = start, results: Any = results) -> None:
            tables = PostgresTables(url, parse(TABLES))
            start.wait()
            results.put([each.rows for each in tables.write(published)])

        processes = [context.Process(target=write) for _ in range(RACERS)]
        for each in processes:
            each.start()
        done = [results.get() for _ in processes]
        for each in processes:
            each.join()
        assert [sum(rows) for rows in zip(*done, strict=True)] == [500, 500, 500 * RACERS], done
        with engine.connect() as connection:
            for table in ("crossings", "hits", "bi.accounts"):
                assert connection.exec_driver_sql(f"select count(*) from {table}").scalar() == 500


@pytest.mark.parametrize(("how", "rows"), [(kill_at_each_line, 3), (race, 500)])
def test_every_row_is_there_once_when_writers_are_killed_or_race(
    world: World, how: Callable[[str, Path], None], rows: int
) -> None:
    publish(world.published, crossings=rows, accounts=rows)
    command = [sys.executable, __file__, how.__name__, world.url, str(world.published)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert (process.stderr, process.returncode) == ("", 0)


if __name__ == "__main__":
    {each.__name__: each for each in (kill_at_each_line, race)}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
