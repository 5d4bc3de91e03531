"""The lake: whatever lands is there once, in batches that are there as a whole or not at all."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.lake import account_copies, content, landing
from orchestration.lake import batch as batch_module
from orchestration.lake import lake as lake_module
from orchestration.lake.sources import Folder, Skipped, SourceFile
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, make_event

# Batches


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    batch_bytes=st.integers(1, 2000),
    chunk_bytes=st.integers(1, 300),
)
def test_every_event_counts_once_whatever_the_sizes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], batch_bytes: int, chunk_bytes: int
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    for file, size in enumerate(sizes):
        world.land(*(make_event(uuid=f"{file}-{line}") for line in range(size)), name=f"{file}.ndjson")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "CHUNK_BYTES", chunk_bytes)
        world.ingest(batch_bytes)

    expected = [(f"{file}-{line}", line + 1) for file, size in enumerate(sizes) for line in range(size)]
    assert world.events("event_id, line_number") == sorted(expected)


def test_batch_ends_at_its_limit_when_no_file_ends_with_a_line_break(world: World) -> None:
    for name in "abc":
        (world.landing / f"{name}.ndjson").write_text(json.dumps(make_event(uuid=name)))

    assert [len(batch.files) for batch in world.ingest(batch_bytes=200)] == [2, 1]


def test_file_is_hashed_once_when_the_backlog_takes_many_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        world.land(make_event(uuid=name), name=f"{name}.ndjson")
    hashed: list[str] = []
    examine = landing._examined
    monkeypatch.setattr(
        landing, "_examined", lambda place, file, sizes: hashed.append(file.path) or examine(place, file, sizes)
    )

    assert len(world.ingest(batch_bytes=1)) == 4
    assert hashed == ["a.ndjson", "b.ndjson", "c.ndjson", "d.ndjson"]


def test_ingestion_ends_when_a_file_never_stops_growing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.land(make_event(uuid="0"))
    write = batch_module.write

    def grow(*arguments: Any, **options: Any) -> None:
        write(*arguments, **options)
        with path.open("a") as stream:
            stream.write(json.dumps(make_event(uuid=f"behind {path.stat().st_size}")) + "\n")

    monkeypatch.setattr(batch_module, "write", grow)
    assert len(world.ingest()) == 1
    assert len(world.ingest()) == 1
    monkeypatch.undo()
    world.ingest()
    assert len(world.events()) == 3


def test_ingestion_ends_when_a_half_read_file_became_unreadable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land(make_event(uuid="one"), make_event(uuid="two"))
    monkeypatch.setattr(landing, "CHUNK_BYTES", 150)
    monkeypatch.setattr(content, "CHUNK_BYTES", 150)
    with world.lake.writing():
        world.lake.ingest(Folder(world.landing), {}, NOW, batch_bytes=1)
    world.land(make_event(uuid="other"), name="b.ndjson")
    opened = Folder.open

    def refuse(folder: Folder, file: SourceFile) -> Any:
        if file.path == "a.ndjson":
            raise PermissionError(13, "Permission denied")
        return opened(folder, file)

    monkeypatch.setattr(Folder, "open", refuse)
    assert len(world.ingest()) == 1
    assert world.skipped == [Skipped("a.ndjson", "cannot be read: Permission denied")]
    monkeypatch.undo()
    world.ingest()
    assert world.events() == ["one", "other", "two"]


def test_skipped_things_are_reported_when_nothing_is_new(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land("a,b", name="a.txt")
    words = "is text without JSON or a CSV header: land NDJSON, CSV or Parquet, plain or in gzip or zstd"

    [batch] = world.ingest()  # which remembers the file, so that it is not opened again
    assert (batch.lines, [file.damage for file in batch.files]) == (0, [words])
    assert world.skipped == [Skipped("a.txt", words)]
    monkeypatch.setattr(Folder, "open", None)
    assert world.ingest() == []
    assert world.skipped == [Skipped("a.txt", words)]


def test_manifest_says_which_bytes_it_holds_when_it_is_read_back(world: World) -> None:
    path = world.land(make_event(uuid="x"), make_event(uuid="x"), "bad")
    [batch] = world.ingest()

    assert world.lake.batches() == [batch]
    [file] = batch.files
    assert (file.path, file.read_bytes, file.read_lines, file.is_complete) == ("a.ndjson", path.stat().st_size, 3, True)
    assert (batch.number, batch.ingested_at, batch.lines) == (1, NOW.isoformat(), 3)
    assert (batch.accepted, batch.duplicates, batch.rejected) == (1, 1, {"invalid_json": 1})


def test_batches_are_those_after_a_number_in_order(world: World) -> None:
    for name in "abc":
        world.land(make_event(uuid=name), name=f"{name}.ndjson")
        world.ingest()
    for old, new in (("000003", "1000000"), ("000002", "999999")):
        (world.lake.root / "batches" / old).rename(world.lake.root / "batches" / new)

    assert [batch.files[0].path for batch in world.lake.batches()] == ["a.ndjson", "b.ndjson", "c.ndjson"]
    assert [batch.number for batch in world.lake.batches(after=1)] == [2, 3]
    assert world.lake.batches(after=1_000_000) == []


def test_lake_can_be_queried_when_nothing_was_ingested(world: World) -> None:
    with world.lake.writing():
        pass

    assert world.events("*") == world.rejected("*") == world.accounts() == world.accounts_rejected() == []


@pytest.mark.parametrize("name", ["o'clock", "data [1]", "a*b?", 'quo"te', "é"])
def test_lake_works_when_its_folder_has_an_odd_name(tmp_path: Path, name: str) -> None:
    world = World(tmp_path / name)
    for file in "ab":
        world.land(make_event(uuid="x"), "bad", name=f"{file}.ndjson")
        world.ingest()

    assert sum(batch.accepted for batch in world.lake.batches()) == 1
    assert len(list(world.lake.root.glob("batches/00000[12]/calls/*/*.parquet"))) == 1


def test_latest_call_is_none_when_none_counts_yet(world: World) -> None:
    with world.lake.writing():
        assert world.lake.latest_call(NOW) is None
    world.land(make_event(at="2026-11-20T08:05:01Z"))
    world.ingest()
    assert world.lake.latest_call(NOW) is None
    assert world.lake.latest_call(NOW + timedelta(seconds=1)) == (NOW + timedelta(seconds=301), NOW)


def test_latest_call_is_the_newest_that_counts_whichever_batch_brought_it(world: World) -> None:
    newest, later = datetime(2026, 11, 18, 23, 59, tzinfo=UTC), NOW + timedelta(hours=1)
    world.land(make_event(at=newest.isoformat()), make_event(at="2026-11-18T12:00:00Z"), name="a.ndjson")
    world.ingest()
    world.land(make_event(at="2026-10-01T12:00:00Z"), name="b.ndjson")
    world.ingest(now=later)
    # of today only calls that do not count yet: the latest is to be found in the day before
    world.land(make_event(at="2026-11-20T23:00:00Z"), make_event(at="2026-11-21T12:00:00Z"), name="c.ndjson")
    world.ingest(now=NOW + timedelta(hours=2))

    assert world.lake.latest_call(later) == (newest, NOW)
    assert world.lake.latest_call(NOW + timedelta(days=1))[0] == datetime(2026, 11, 20, 23, tzinfo=UTC)


def test_half_written_batch_is_invisible_to_readers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land(make_event(uuid="one"), "bad")
    seen: list[Any] = []

    def look(path: Path, target: Path) -> Path:
        seen.append((world.events(), world.rejected(), world.lake.batches()))
        raise OSError("killed")

    with world.lake.writing():
        pass
    monkeypatch.setattr(Path, "rename", look)
    with pytest.raises(OSError, match="killed"):
        world.ingest()
    assert seen == [([], [], [])]
    assert (world.events(), world.rejected()) == ([], [])
    monkeypatch.undo()
    world.ingest()
    assert world.events() == ["one"]


def test_batch_is_synced_as_a_whole_before_it_is_committed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land(make_event(uuid="one"))
    done: list[str] = []
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"commit {target.name}")
        return rename(path, target)

    for owner, name in ((lake_module.parquet, "sync"), (account_copies, "_sync")):
        monkeypatch.setattr(owner, name, lambda path: done.append(path.name))
    monkeypatch.setattr(Path, "rename", renamed)
    world.ingest()

    assert ".accounts.parquet" in done
    before, after = done[: done.index("commit 000001")], done[done.index("commit 000001") + 1 :]
    assert {"manifest.json", "rejected.parquet", "calls", "event_date=2026-11-19", "000001"} <= set(before)
    assert any(name.endswith(".parquet") and name != "rejected.parquet" for name in before)
    assert after == ["batches"]


def test_lake_can_be_queried_when_its_creation_was_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(path: Path) -> None:
        raise KeyboardInterrupt

    for owner, name in ((lake_module.parquet, "sync"), (lake_module.parquet, "write")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, name, lambda *_: die(Path()))
            with world.lake.writing():
                pass
    (world.lake.root / "batches").mkdir(exist_ok=True)
    with world.lake.writing():
        pass
    assert world.accounts() == world.events() == []
