"""What is refused stays refused until it is read again, and says how much is lost with it."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestration.lake import batch as making
from orchestration.lake.landed_file import LandedFile
from orchestration.usage.events import TYPICAL_EVENT_BYTES, Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import make_event

EVENTS = [json.dumps(make_event(uuid=f"{number:05}", pad=f"{number * 7919:x}")) for number in range(2000)]
CONTENT = "".join(f"{event}\n" for event in EVENTS).encode()


def append(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


def test_half_line_is_forgotten_when_it_became_whole(world: World) -> None:
    path = world.land(EVENTS[0], "no event")
    append(path, EVENTS[1][:40])
    world.ingest()
    assert world.rejected() == [(2, Rejection.INVALID_JSON), (3, Rejection.INVALID_JSON)]

    append(path, EVENTS[1][40:] + "\n")
    world.ingest()
    assert world.events() == ["00000", "00001"]
    assert world.rejected() == [(2, Rejection.INVALID_JSON)]


def test_half_line_stays_refused_when_it_became_a_bad_one(world: World) -> None:
    path = world.land()
    append(path, "no")
    world.ingest()
    append(path, " event\n" + EVENTS[0])
    world.ingest()

    assert world.rejected("line_number, line") == [(1, "no event")]
    assert world.events() == ["00000"]


def test_half_line_is_not_judged_again_when_it_became_whole(world: World) -> None:
    path = world.land("no event")
    append(path, EVENTS[1][:40])
    world.ingest()
    append(path, EVENTS[1][40:] + "\n")
    world.ingest()
    again = world.replay()

    assert again and again.rejected == {Rejection.INVALID_JSON: 1}
    assert world.rejected("line_number, line") == [(1, "no event")]


@pytest.mark.parametrize("kept", [0.5, -4], ids=["half", "all but its end"])
def test_damaged_file_is_forgotten_when_it_landed_again_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, kept: float
) -> None:
    monkeypatch.setattr("orchestration.lake.content.SETTLED_SECONDS", 0)
    packed = gzip.compress(CONTENT, mtime=0)
    path = world.landing / "a.ndjson.gz"
    path.write_bytes(packed[: int(len(packed) * kept) if kept > 0 else int(kept)])
    world.ingest()
    assert Rejection.DAMAGED_FILE in world.rejected("reason")

    path.write_bytes(packed)
    world.ingest()
    assert (len(world.events()), world.rejected()) == (2000, [])


def test_table_that_could_not_be_read_is_forgotten_when_it_is_whole(world: World) -> None:
    path = world.landing / "a.parquet"
    pq.write_table(pa.Table.from_pylist([make_event(uuid=str(number)) for number in range(3)]), path)
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    os.utime(path, (1, 1))
    world.ingest()
    assert world.rejected() == [(1, Rejection.DAMAGED_FILE)]

    path.write_bytes(content)
    world.ingest()
    assert (world.events(), world.rejected()) == (["0", "1", "2"], [])


def test_growing_log_leaves_no_row_for_each_run(world: World) -> None:
    path = world.land(EVENTS[0])
    world.ingest()
    append(path, EVENTS[1] + "\n")
    world.ingest()

    assert world.rejected() == []


def test_loss_of_a_line_is_the_events_that_it_names(world: World) -> None:
    five = "".join(EVENTS[:5])
    envelope = {"records": [make_event(uuid="r1"), make_event(uuid="r2")]}
    world.land("cut off", five[:-2], envelope, make_event(account=""), "[]", make_event(event="page_view"))
    world.ingest()

    found = world.rejected("line_number, lost_events, lost_bytes, strlen(line)")
    assert [row[:2] for row in found] == [(1, 1), (2, 5), (3, 2), (4, 1), (5, 0), (6, 1)]
    assert all(lost == size for *_, lost, size in found)


def test_loss_of_a_damaged_file_is_estimated_by_its_events(world: World) -> None:
    good, rest = (gzip.compress("\n".join([*events, ""]).encode(), mtime=0) for events in (EVENTS[:500], EVENTS[500:]))
    (world.landing / "a.ndjson.gz").write_bytes(good + b"\x1f\x8b\xff" + rest)
    world.ingest()

    [(reason, lost_events, lost_bytes)] = world.rejected("reason, lost_events, lost_bytes")
    assert (reason, lost_bytes) == (Rejection.DAMAGED_FILE, len(rest) + 3)
    assert lost_events == pytest.approx(1500, rel=0.1)


@pytest.mark.parametrize(
    ("dropped", "lost"), [(12, 12), ("12", 12), (0, 1), (-1, 1), (10**10, 1), ("many", 1), (None, 1), (True, 1)]
)
def test_report_of_a_producer_is_a_loss_of_as_many_events(world: World, dropped: object, lost: int) -> None:
    world.land(make_event(), {"event": "events_dropped", "properties": {"dropped": dropped}})
    world.ingest()

    assert world.rejected("reason, lost_events") == [(Rejection.DROPPED, lost)]


def landed(read_lines: int = 0, stored_bytes: int = 10_000) -> LandedFile:
    return LandedFile("a.gz", stored_bytes, 0, 0, 0, "", "a.gz#", read_lines=read_lines)


@pytest.mark.parametrize(
    ("file", "unread_bytes", "loss"),
    [
        (landed(read_lines=10, stored_bytes=1000), 900, (900, 90)),
        (landed(), 10_000, (10_000, round(10_000 / TYPICAL_EVENT_BYTES))),
        (landed(read_lines=10), 1, (1, 1)),
        (landed(read_lines=10), 0, (0, 1)),
        (landed(read_lines=10), None, (None, 1)),
    ],
)
def test_loss_is_at_least_one_event(file: LandedFile, unread_bytes: int | None, loss: tuple[int | None, int]) -> None:
    assert making.estimate_loss(file, unread_bytes) == loss


def test_lake_of_before_gets_the_columns_of_today(world: World) -> None:
    """Its files are all without them, and a query names them."""
    world.ingest()
    empty = world.lake.root / "batches/000000/rejected.parquet"
    before = ["landed_file", "origin", "line_number", "item", "reason", "line", "arrived_at", "rejected_at"]
    pq.write_table(pq.read_table(empty, columns=before), empty)
    world.ingest()

    assert pq.read_schema(empty).names == list(making.REJECTED_COLUMNS)
