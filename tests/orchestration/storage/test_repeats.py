"""An event counts once, however often and wherever it comes."""

import json

import pytest

from orchestration.storage.lake import BATCH_BYTES
from orchestration.storage.places import Folder
from orchestration.usage.events import Rejection
from tests.builders import NOW, make_event
from tests.orchestration.storage.world import World

# Identity


def test_equal_lines_are_two_calls_when_they_have_no_id(world: World) -> None:
    world.land(make_event(uuid=None), make_event(uuid=None), make_event(uuid=""))
    world.ingest()

    assert world.events("event_id") == ["1", "2", "3"]
    [source] = set(world.events("source"))
    assert source.startswith("a.ndjson#")


def test_events_without_ids_count_once_when_the_ledger_is_lost(world: World) -> None:
    world.land(make_event(uuid=None), make_event(uuid=None))
    world.ingest()
    with world.lake.writing():
        batch, _ = world.lake.ingest(Folder(world.landing), {}, NOW)

    assert batch is not None
    assert (batch.accepted, batch.duplicates) == (0, 2)
    assert len(world.events()) == 2


def test_events_without_ids_count_once_when_the_file_grows_in_the_middle_of_a_line(world: World) -> None:
    line = json.dumps(make_event(uuid=None)).encode()
    path = world.landing / "a.ndjson"
    for content in (line + b"\n" + line[:20], line + b"\n" + line, line + b"\n" + line + b"\n" + line):
        path.write_bytes(content)
        world.ingest()

    assert world.events("event_id, line_number") == [("1", 1), ("2", 2), ("3", 3)]
    assert world.rejected("line_number, reason, line") == [(2, Rejection.INVALID_JSON, line[:20].decode().strip())]


@pytest.mark.parametrize("batch_bytes", [1, BATCH_BYTES])
@pytest.mark.parametrize("name", ["a.ndjson", "b.ndjson"])
def test_event_counts_once_when_its_id_comes_again(world: World, name: str, batch_bytes: int) -> None:
    events = [make_event(uuid="x"), make_event(uuid="x")]
    if name == "a.ndjson":
        world.land(*events)
    else:
        world.land(events[0])
        world.land({**events[1], "sent_again": True}, name=name)
    batches = world.ingest(batch_bytes)

    assert world.events("event_id, account_id") == [("x", "acme")]
    assert sum(batch.duplicates for batch in batches) == 1
    assert sum(batch.accepted for batch in batches) == 1


def test_event_counts_once_when_it_comes_again_in_a_later_run(world: World) -> None:
    world.land(make_event(uuid="x"))
    world.ingest()
    twins = [make_event(uuid="y"), make_event(uuid="y"), make_event(uuid="x", at="yesterday")]
    world.land(make_event(uuid="x"), *twins, name="b.ndjson")
    [batch] = world.ingest()

    assert world.events() == ["x", "y"]
    assert (batch.accepted, batch.duplicates, batch.rejected) == (1, 2, {"invalid_time": 1})


def test_id_names_two_events_when_their_sources_differ(world: World) -> None:
    sources = [None, "", "one", "two", "two"]
    world.land(*({**make_event(uuid="x"), "source": source} for source in sources))
    world.ingest()

    assert world.events("source, event_id") == [("", "x"), ("one", "x"), ("two", "x")]


def test_good_event_counts_when_its_twin_before_it_is_invalid(world: World) -> None:
    world.land(make_event(uuid="x", at="yesterday"), make_event(uuid="x"), make_event(uuid="x", account=""))
    world.ingest()

    assert world.events("event_id, line_number") == [("x", 2)]
    assert [number for number, _ in world.rejected()] == [1, 3]
