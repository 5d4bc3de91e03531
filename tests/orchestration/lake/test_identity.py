"""Which file a landed one is, where its events have no id: nothing counts twice under another name, nothing is lost."""

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake import identity, landing
from orchestration.lake.identity import COPY_BYTES
from orchestration.lake.lake import BATCH_BYTES
from orchestration.lake.landed_file import LandedFile
from tests.orchestration.lake.test_content import as_csv, as_parquet, land_bytes
from tests.orchestration.lake.test_landing import Reader, append
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, land, make_event

LONG = "one" * (COPY_BYTES // 3) + "."
LINE = make_event(uuid=None)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    folder = tmp_path / "landing"
    folder.mkdir()
    return Reader(folder)


# One device and inode is one file


@pytest.mark.parametrize("link", [os.link, os.symlink], ids=["hard link", "symlink"])
@pytest.mark.parametrize("names", [("a.log", "b.log"), ("b.log", "a.log")])
@pytest.mark.parametrize("is_known", [True, False])
def test_growing_log_counts_once_under_two_names(
    reader: Reader, link: Callable[..., Any], names: tuple[str, str], is_known: bool
) -> None:
    log, current = (reader.folder / name for name in names)
    log.write_bytes(b'{"n": 1}.\n')
    if is_known:
        reader.read()
    link(log, current)
    for number in range(2, 5):
        append(log, b'{"n": %d}.\n' % number)
        reader.read()

    assert len(reader.counted) == 4
    assert len(reader.known) == 1


def test_log_and_its_link_go_on_when_the_link_is_moved_to_the_next(reader: Reader) -> None:
    """As rotatelogs -L and cronolog do."""
    current = reader.folder / "current"
    for hour in range(3):
        log = reader.folder / f"log.2026111{hour}"
        log.write_bytes(b'{"hour": %d}.\n' % hour)
        current.unlink(missing_ok=True)
        os.link(log, current)
        reader.read()
        append(log, b'{"hour": %d, "late": true}.\n' % hour)

    reader.read()
    assert len(reader.counted) == 6


# Copies


@pytest.mark.parametrize("name", ["host-{}.ndjson", "{}.json", "host-{}/events.ndjson", "10.0.0.{}"])
@pytest.mark.parametrize("are_removed", [False, True])
def test_hosts_count_each_when_they_land_the_same_line(world: World, name: str, are_removed: bool) -> None:
    for part in (range(100), range(100, 200)):
        paths = [world.land(LINE, name=name.format(number)) for number in part]
        batches = world.ingest()
        for path in paths if are_removed else []:
            path.unlink()
        assert len(batches) == 1

    assert len(world.events()) == 200


@pytest.mark.parametrize(
    ("data", "name", "counted"),
    [
        (b"one.\ntwo.\n", "archive/a.ndjson", 2),  # the same name elsewhere
        (b"one.\ntwo.\n", "b.ndjson", 4),
        (b"one.\n", "archive/a.ndjson", 2),  # as hosts do
        (LONG.encode() + b"\n", "b.ndjson", 1),
    ],
)
def test_copy_is_one_where_that_is_likely(reader: Reader, data: bytes, name: str, counted: int) -> None:
    (reader.folder / "a.ndjson").write_bytes(data)
    reader.read()
    (reader.folder / name).parent.mkdir(exist_ok=True)
    shutil.copy(reader.folder / "a.ndjson", reader.folder / name)
    reader.read()

    assert len(reader.counted) == counted
    is_copy = len(data.split()) == counted
    assert reader.known[name].copy_of == ("a.ndjson" if is_copy else None)
    assert reader.read() == []


def test_short_copy_is_one_when_it_kept_its_time(reader: Reader) -> None:
    land(reader.folder, "a.ndjson", "one.")
    os.utime(reader.folder / "a.ndjson", ns=(1, 1_700_000_000_123_456_789))
    shutil.copy2(reader.folder / "a.ndjson", reader.folder / "b.ndjson")
    reader.read()

    assert len(reader.counted) == 1


def test_parquet_of_one_row_counts_for_each_host(world: World) -> None:
    for number in range(3):
        land_bytes(world, f"host-{number}.parquet", as_parquet([LINE]))
    world.ingest()

    assert len(world.events()) == 3


def test_copies_count_when_that_is_set(world: World) -> None:
    events = [LINE] * 100
    world.land(*events)
    shutil.copy(world.landing / "a.ndjson", world.landing / "b.ndjson")
    world.ingest()
    assert len(world.events()) == 100
    shutil.copy(world.landing / "a.ndjson", world.landing / "c.ndjson")
    (world.landing / "a.ndjson").rename(world.landing / "d.ndjson")
    with world.lake.writing():
        # of what was renamed no copy is made by counting copies
        batch, _ = world.lake.ingest(world.place, world.known(), NOW, counts_copies=True)
    assert batch is not None
    assert batch.accepted == 100
    assert {file.path: file.copy_of for file in batch.files} == {"c.ndjson": None, "d.ndjson": None}


def test_copy_that_was_passed_over_counts_once_that_is_set(world: World) -> None:
    world.land(*[LINE] * 100)
    shutil.copy(world.landing / "a.ndjson", world.landing / "b.ndjson")
    world.ingest()
    for _ in range(2):
        with world.lake.writing():
            batch, _ = world.lake.ingest(world.place, world.known(), NOW, counts_copies=True)
    assert batch is None
    assert len(world.events()) == 200


# Rotation


@pytest.mark.parametrize(
    "rotated",
    [
        "events.ndjson.1",
        "events.ndjson.2.gz",
        "events.ndjson-20261119",
        "events.ndjson-20261119.gz",
        "events-20261119.ndjson.gz",
        "old/events.ndjson-1764374400.zst",
        "elsewhere.gz",
    ],
)
@pytest.mark.parametrize("way", ["create", "copytruncate"])
@pytest.mark.parametrize("is_long", [True, False])
def test_tail_is_read_when_a_log_is_rotated_between_scans(
    reader: Reader, rotated: str, way: str, is_long: bool
) -> None:
    if rotated == "elsewhere.gz" and not is_long and way == "create":
        pytest.skip("a short beginning under an unrelated name is no evidence")
    log, target = reader.folder / "events.ndjson", reader.folder / rotated
    first = b'{"long": "%s"}.\n' % (b"x" * COPY_BYTES) if is_long else b'{"n": 0}.\n'
    log.write_bytes(first + b"".join(b'{"n": %d}.\n' % n for n in range(1, 7)))
    reader.read()
    append(log, b"".join(b'{"n": %d}.\n' % n for n in range(7, 10)))
    target.parent.mkdir(exist_ok=True)
    whole = log.read_bytes()
    if rotated.endswith("gz"):
        target.write_bytes(gzip.compress(whole))
    elif rotated.endswith("zst"):
        import zstandard

        target.write_bytes(zstandard.ZstdCompressor().compress(whole))
    elif way == "create":
        log.rename(target)
    else:
        shutil.copy(log, target)
    if way == "create":
        log.unlink(missing_ok=True)
        log.write_bytes(b'{"m": 1}.\n{"m": 2}.\n')
    else:
        log.write_bytes(b"")  # the same inode
        append(log, b'{"m": 1}.\n{"m": 2}.\n')

    reader.read()
    assert len(reader.counted) == 12
    assert reader.read() == []


def test_log_counts_once_when_it_goes_through_all_rotations(reader: Reader) -> None:
    """delaycompress: .1 stays as it is for a turn; each turn something is written between scan and rotation."""
    log, number = reader.folder / "events.log", 0
    for turn in range(5):
        for name, older in (("events.log.2.gz", "events.log.3.gz"),):
            if (reader.folder / name).exists():
                (reader.folder / name).rename(reader.folder / older)
        if (reader.folder / "events.log.1").exists():
            data = (reader.folder / "events.log.1").read_bytes()
            (reader.folder / "events.log.2.gz").write_bytes(gzip.compress(data))
            (reader.folder / "events.log.1").unlink()
        if log.exists():
            log.rename(reader.folder / "events.log.1")
        for _ in range(3):
            number += 1
            append(log, b'{"n": %d}.\n' % number)
            if turn % 2:
                reader.read()
    reader.read()

    assert len(reader.counted) == number


# Files of rows


def events(count: int, account: str = "acme") -> list[dict[str, Any]]:
    return [make_event(account, uuid=None, at=f"2026-11-19T12:{n // 60:02}:{n % 60:02}Z") for n in range(count)]


@pytest.mark.parametrize(
    ("name", "again"), [("a.csv.gz", "a.csv.gz"), ("a.csv.gz", "repaired.csv.gz"), ("a.csv", "a.csv")]
)
def test_repaired_file_of_rows_goes_on_where_it_was_damaged(world: World, name: str, again: str) -> None:
    whole = as_csv(events(1000))
    stored = gzip.compress(whole, 1) if name.endswith("gz") else whole
    half = len(stored) // 2
    damaged = stored[:half] if name.endswith("gz") else whole[:half] + b'"open' + b"x" * 9_000_000
    land_bytes(world, name, damaged)
    world.ingest()
    counted = len(world.events())
    assert 100 < counted < 1000
    land_bytes(world, again, gzip.compress(whole, 9) if name.endswith("gz") else whole)
    world.ingest()

    assert len(world.events()) == 1000
    assert world.ingest() == []


def test_repaired_file_of_rows_is_another_one_when_a_row_changed(world: World) -> None:
    stored = gzip.compress(as_csv(events(1000)), 1)
    land_bytes(world, "a.csv.gz", stored[: len(stored) // 2])
    world.ingest()
    counted = len(world.events())
    land_bytes(world, "a.csv.gz", gzip.compress(as_csv(events(1000, "other"))))
    world.ingest()

    assert len(world.events()) == counted + 1000


@pytest.mark.parametrize("encode", [as_parquet, lambda rows: gzip.compress(as_csv(rows))], ids=["parquet", "csv.gz"])
@pytest.mark.parametrize("batch_bytes", [1, BATCH_BYTES])
def test_file_of_rows_counts_its_new_ones_when_it_is_written_again(
    world: World, encode: Callable[[list[dict[str, Any]]], bytes], batch_bytes: int
) -> None:
    for count in (10, 25, 40):
        land_bytes(world, "a", encode(events(count)))
        world.ingest(batch_bytes)

    assert len(world.events()) == 40


def test_csv_counts_once_when_it_is_compressed(world: World) -> None:
    path = land_bytes(world, "a.csv", as_csv(events(10)))
    world.ingest()
    path.unlink()
    land_bytes(world, "a.csv.gz", gzip.compress(as_csv(events(12))))
    world.ingest()

    assert len(world.events()) == 12


# What is read is what was hashed


@pytest.mark.parametrize("moment", ["before reading", "while reading", "after reading"])
def test_file_that_is_rewritten_while_it_is_read_counts_once(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = world.land(*events(20))
    world.land(*events(3, "beta"), name="b.ndjson")
    read = landing.read
    rewritten = b"".join(path.read_bytes().splitlines(keepends=True)[::-1])

    def rewrite(*arguments: Any) -> Iterator[tuple[LandedFile, Any]]:
        if arguments[1].path == "a.ndjson":
            monkeypatch.setattr(landing, "read", read)
            if moment == "before reading":
                path.write_bytes(rewritten)
            for state in read(*arguments):
                if moment == "while reading":
                    path.write_bytes(rewritten)
                yield state
            path.write_bytes(rewritten)
            return
        yield from read(*arguments)

    monkeypatch.setattr(landing, "read", rewrite)
    world.ingest()
    world.ingest()

    assert len(world.events()) == 23
    assert world.rejected() == []


def test_names_of_one_rotated_log_belong_together() -> None:
    names = ["e.log", "e.log.1", "e.log.12.gz", "e.log-20261119", "e-20261119.log.gz", "old/e.log-2026-11-19T13.zst"]
    assert {identity.rotates("e.log", name) for name in names[1:]} == {True}
    for name in ("e.log", "f.log.1", "e2.log", "e.json", "e-eu.log", "host-1/e.log"):
        assert not identity.rotates("e.log", name)
    assert not identity.rotates("host-1.log", "host-2.log")
    assert not identity.rotates("10.0.0.1", "10.0.0.2")
