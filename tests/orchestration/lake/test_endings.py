"""The last row of a CSV counts when it is whole, not when its writer made a pause."""

import gzip
import os
import time
from pathlib import Path

import pytest

from orchestration.lake import content
from orchestration.lake.damage import LAST_ROW_WAITS
from orchestration.lake.endings import PAUSE_SECONDS, QUIET_SECONDS, has_ended
from orchestration.lake.sources import Skipped
from tests.orchestration.lake.world import World

HEADER = b"event,account_id\n"
HALF = HEADER + b"api_call,one\napi_call,ac"


def write(world: World, name: str, data: bytes, quiet_seconds: float = 3600) -> Path:
    path = world.landing / name
    path.write_bytes(data)
    moment = time.time() - quiet_seconds
    os.utime(path, (moment, moment))
    return path


def test_half_row_counts_once_it_is_whole_when_its_writer_paused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write(world, "a.csv", HALF)
    world.ingest()
    assert world.events("account_id") == ["one"]
    assert world.skipped == [Skipped("a.csv", f"cannot be read: {LAST_ROW_WAITS}", is_for_now=True)]
    with monkeypatch.context() as patch:
        patch.setattr(content, "opened", None)  # while it waits, its rows are not read again and again
        assert world.ingest() == []

    write(world, "a.csv", HALF + b"me\napi_call,two")
    world.ingest()
    assert world.events("account_id, line_number") == [("acme", 3), ("one", 2)]


def finish_by_mark(world: World, path: Path) -> None:
    write(world, f"{path.name}.done", b"")


def finish_by_the_next_one(world: World, path: Path) -> None:
    write(world, path.name.replace("9", "10"), HEADER, quiet_seconds=10)


def finish_by_rotation(world: World, path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.1"))
    write(world, path.name, HEADER + b"api_call,three\n", quiet_seconds=10)


def finish_by_a_day(world: World, path: Path) -> None:
    write(world, path.name, HALF, quiet_seconds=QUIET_SECONDS + 1)


@pytest.mark.parametrize("finish", [finish_by_mark, finish_by_the_next_one, finish_by_rotation, finish_by_a_day])
def test_last_row_without_a_line_break_counts_when_its_file_is_finished(world: World, finish: object) -> None:
    path = write(world, "usage-9.csv", HALF)
    world.ingest()
    assert world.events("account_id") == ["one"]
    assert callable(finish)
    finish(world, path)
    world.ingest()

    assert set(world.events("account_id")) - {"three"} == {"ac", "one"}
    assert world.skipped == world.rejected() == []
    assert all(file.is_complete for file in world.known().values() if (world.landing / file.path).exists())
    assert world.ingest() == []


def test_last_row_counts_at_once_when_the_file_has_an_end_of_its_own(world: World) -> None:
    write(world, "a.csv.gz", gzip.compress(HALF), quiet_seconds=10)
    world.ingest()

    assert world.events("account_id") == ["ac", "one"]


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({}, False),
        ({"b/usage-10.csv": -5}, True),
        ({"b/usage-10.csv": 5}, False),  # written to before
        ({"b/usage-8.csv": -5}, False),  # one before it
        ({"b/other-10.csv": -5}, False),
        ({"b/usage-9.csv.done": 5}, True),
    ],
)
def test_file_is_finished_by_what_lies_beside_it(beside: dict[str, int], expected: bool) -> None:
    now, quiet = 10**18, PAUSE_SECONDS + 20
    at = {name: now - (quiet + seconds) * 10**9 for name, seconds in beside.items()}
    at["b/usage-9.csv"] = now - quiet * 10**9

    assert has_ended("b/usage-9.csv", at["b/usage-9.csv"], at, at.get, now) == expected


def test_newer_file_finishes_none_that_was_just_written_to() -> None:
    at = {"part-0.csv": 10**18 - 10**9, "part-1.csv": 10**18}
    assert not has_ended("part-0.csv", at["part-0.csv"], at, at.get, 10**18)
