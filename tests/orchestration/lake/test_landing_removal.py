"""Landed files go some days after they were read, and only where the lake holds all of them."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestration.lake import compaction, landing_removal
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.landing_removal import Removed
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, make_event

DAYS = 2
LATER = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
"""After the second whole UTC day since then."""
BEFORE = landing_removal.kept_since(LATER, DAYS)


def aged(path: Path, at: datetime = NOW) -> Path:
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def read(world: World) -> Iterator[tuple[LandedFile, int]]:
    """What the ledger has: the last that was said of each path."""
    last = {file.path: (file, batch.number) for batch in world.lake.batches() for file in batch.files}
    return iter(last.values())


def remove(world: World, now: datetime = LATER) -> Removed:
    before = landing_removal.kept_since(now, DAYS)
    with world.lake.writing():
        return landing_removal.remove(world.landing, world.lake, read(world), world.place.scan()[0], before)


def left(world: World) -> list[str]:
    return sorted(path.relative_to(world.landing).as_posix() for path in world.landing.rglob("*"))


def test_file_that_was_read_goes_after_its_days_and_counts_on(world: World) -> None:
    aged(world.land(make_event(uuid="1"), make_event(uuid=None)))
    world.ingest()
    before = world.calls("event_id, source")

    assert remove(world, LATER - timedelta(hours=1)) == Removed()
    gone = remove(world)

    assert (gone.files, gone.left, left(world)) == (1, {}, [])
    assert world.ingest() == []
    assert world.calls("event_id, source") == before
    aged(world.land(make_event(uuid="1"), make_event(uuid=None)), NOW + timedelta(hours=1))
    world.ingest()
    assert world.calls("event_id, source") == before, "the same file, landed once more"


def test_file_that_was_written_long_ago_goes_days_after_it_was_read(world: World) -> None:
    aged(world.land(make_event()), NOW - timedelta(days=90))
    world.ingest()

    assert remove(world, NOW + timedelta(days=1)).files == 0
    assert remove(world).files == 1


def test_what_the_lake_does_not_hold_stays(world: World) -> None:
    aged(world.land(make_event(uuid="1"), name="unread.ndjson"))
    assert remove(world).files == 0  # never read
    world.ingest()
    listed = list(read(world))
    (world.lake.root / "batches" / "000001").rename(world.root / "moved")

    found = world.place.scan()[0]
    with world.lake.writing():
        removed = landing_removal.remove(
            world.landing, world.lake, listed, found, landing_removal.kept_since(LATER, DAYS)
        )

    assert (removed.files, dict(removed.left)) == (0, {landing_removal.NOT_IN_LAKE: 1})
    assert removed.sentences == [
        "1 landed file that was read stays: its batch is not in the lake as the ledger has it, such as unread.ndjson"
    ]
    assert left(world) == ["unread.ndjson"]


@pytest.mark.parametrize("line", [b'{"event":"\xff', b"\x1f\x8b\x08\x00binary", b'{"event":"' + b"x" * (8 * 2**20 + 1)])
def test_file_stays_whose_line_is_in_quarantine_in_part(world: World, line: bytes) -> None:
    good = aged(world.land(make_event(), "no event", name="good.ndjson"))
    bad = world.landing / "bad.ndjson"
    bad.write_bytes(good.read_bytes().replace(b"no event", line))
    aged(bad)
    world.ingest()

    removed = remove(world)

    assert (removed.files, dict(removed.left)) == (1, {landing_removal.NOT_WHOLE: 1})
    assert left(world) == ["bad.ndjson"]


def test_links_copies_and_damaged_files_stay(world: World) -> None:
    first = aged(world.land(*(make_event(uuid=None, at=f"2026-11-19T12:{n // 60:02}:{n % 60:02}Z") for n in range(99))))
    world.ingest()
    (world.landing / "copy.ndjson").write_bytes(first.read_bytes())
    (world.landing / "half.gz").write_bytes(b"\x1f\x8b\x08\x00half of it")
    linked = world.root / "linked.ndjson"
    linked.write_bytes(first.read_bytes()[:300] + b"\n")
    for path in (world.landing / "copy.ndjson", world.landing / "half.gz", linked):
        aged(path)
    (world.landing / "link.ndjson").symlink_to(linked)
    world.ingest()

    assert remove(world).files == 1
    assert left(world) == ["copy.ndjson", "half.gz", "link.ndjson"]
    assert linked.exists()


def test_file_that_a_program_may_still_write_to_stays(world: World) -> None:
    path = aged(world.land(make_event()))
    world.ingest()
    with path.open("ab"):
        removed = remove(world)
    assert (removed.files, dict(removed.left)) == (0, {landing_removal.IN_USE: 1})
    with path.open("rb"):  # who only reads it has it to the end
        assert remove(world).files == 1


def test_file_that_changed_since_it_was_read_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = aged(world.land(make_event(uuid="1")))
    world.ingest()
    with path.open("a") as file:
        file.write("{}\n")
    aged(path)
    assert remove(world).files == 0
    world.ingest()
    found = world.place.scan()[0]  # and what comes between the look and the removal
    path.write_bytes(path.read_bytes().replace(b"acme", b"emca"))
    with world.lake.writing():
        removed = landing_removal.remove(
            world.landing, world.lake, read(world), found, landing_removal.kept_since(LATER, DAYS)
        )
    assert (removed.files, dict(removed.left)) == (0, {landing_removal.CHANGED: 1})


def test_empty_folders_and_marks_go_with_their_files_later(world: World) -> None:
    aged(world.land(make_event(uuid="1"), name="2026/11/a.ndjson"))
    aged(world.land(make_event(uuid="2"), name="collector/b.ndjson"))
    aged(world.land(make_event(uuid="3"), name="2026/12/c.ndjson"), LATER)
    (world.landing / "2026/11/a.ndjson.done").touch()
    world.ingest()

    assert remove(world).files == 2
    assert left(world) == ["2026", "2026/11", "2026/12", "2026/12/c.ndjson", "collector"]
    aged(world.landing / "2026/11")
    aged(world.landing / "collector")
    remove(world)
    assert left(world) == ["2026", "2026/12", "2026/12/c.ndjson", "collector"], "which a collector writes to"


def test_lake_is_whole_after_files_became_one_and_landing_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FILES", 2)
    for number in range(4):
        aged(world.land(make_event(uuid=str(number)), name=f"{number}.ndjson"))
        world.ingest()
    with world.lake.writing():
        assert world.lake.compact(nullcontext())

    assert remove(world).files == 4
    assert world.calls() == ["0", "1", "2", "3"]
