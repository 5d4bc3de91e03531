"""DuckDB in memory: each block has an engine of its own, as if it were new."""

import os
import threading
from pathlib import Path

import duckdb
import pytest

from orchestration.lake import in_memory

SETTINGS = (
    "select current_setting('TimeZone'), current_setting('threads'), current_setting('memory_limit'),"
    " current_setting('temp_directory'), current_database()"
)


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_block_finds_nothing_of_the_block_before(tmp_path: Path) -> None:
    with in_memory.engine(tmp_path / "first", "100MB", threads=1) as connection:
        first = connection.execute(SETTINGS).fetchone()
        connection.execute("set TimeZone = 'Asia/Tokyo'")
        connection.execute("create temp table mine as select 1 as x")
        connection.execute(f"attach '{tmp_path / 'file.duckdb'}' as file")
        connection.execute("create table file.kept as select 2 as x")
        connection.execute("use file")
        connection.execute("begin")
        connection.execute("insert into kept values (3)")

    with in_memory.engine(tmp_path / "second", "200MB", threads=2) as connection:
        second = connection.execute(SETTINGS).fetchone()
        assert connection.execute("select table_name from duckdb_tables()").fetchall() == []
    assert first == ("UTC", 1, "95.3 MiB", str(tmp_path / "first"), "memory")
    assert second == ("UTC", 2, "190.7 MiB", str(tmp_path / "second"), "memory")
    assert not (tmp_path / "file.duckdb.wal").exists(), "all of it is in the file"
    with duckdb.connect(str(tmp_path / "file.duckdb")) as connection:
        assert connection.execute("from kept").fetchall() == [(2,)]


def test_block_that_fails_leaves_nothing() -> None:
    with pytest.raises(duckdb.CatalogException), in_memory.engine() as connection:
        connection.execute("create temp table mine as select 1 as x")
        connection.execute("from nothing")
    with in_memory.engine() as connection:
        assert connection.execute("select table_name from duckdb_tables()").fetchall() == []


def test_blocks_inside_each_other_and_in_threads_have_engines_of_their_own(tmp_path: Path) -> None:
    limits: dict[int, str] = {}

    def ask(size: int) -> None:
        with in_memory.engine(memory_limit=f"{size}MiB") as connection:
            both.wait()
            [(limits[size],)] = connection.execute("select current_setting('memory_limit')").fetchall()
            both.wait()

    both = threading.Barrier(2)
    with in_memory.engine(memory_limit="64MiB") as outer:
        pair = [threading.Thread(target=ask, args=(size,)) for size in (128, 256)]
        for each in pair:
            each.start()
        for each in pair:
            each.join()
        [(limits[64],)] = outer.execute("select current_setting('memory_limit')").fetchall()
    assert limits == {64: "64.0 MiB", 128: "128.0 MiB", 256: "256.0 MiB"}


def test_engine_that_has_spilled_spills_into_the_next_folder(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with in_memory.engine(tmp_path / name, "40MB", threads=1) as connection:
            connection.execute(
                "create temp table large as select range as x, md5(range::varchar) as y from range(900000)"
            )
            spilled = list((tmp_path / name).iterdir())
        assert spilled
        assert not (tmp_path / name).exists() or not list((tmp_path / name).iterdir()), "nothing is left on the disk"


def test_idle_engine_has_no_threads_and_stays_with_its_process() -> None:
    before = threads()
    with in_memory.engine(threads=2) as connection:
        connection.execute("select sum(range) from range(1000000)").fetchall()
    assert threads() == before, "a fork would lose them"
    if not (child := os.fork()):  # pragma: no cover - the child
        try:
            with in_memory.engine(threads=2) as connection:
                [(total,)] = connection.execute("select sum(range) from range(1000000)").fetchall()
            os._exit(0 if total == 499999500000 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
