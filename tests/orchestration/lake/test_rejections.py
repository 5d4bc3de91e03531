"""A line is refused for what is wrong with it, and no event is refused for what identifies nothing."""

import gzip
import json

import pytest

from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import make_event, make_quota

BAD = "\ufffd"


def latin(event: dict[str, object]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("latin-1")


@pytest.mark.parametrize("make", [make_event, make_quota])
def test_bytes_that_are_no_utf_8_are_replaced_where_nothing_is_identified(world: World, make: object) -> None:
    """As the collector does with an event."""
    event = make("acme", uuid="x")  # type: ignore[operator]
    event["properties"]["name"] = "Zürich"
    world.land(make_event(uuid="before"), latin(event), make_event(uuid="after"))
    world.ingest()

    assert world.rejected() == []
    assert f"Z{BAD}rich" in dict(world.events("event_id, properties"))["x"]
    assert len(world.events()) == 3


FIELDS = [
    {"uuid": "é"},
    {"source": "é", "uuid": "x"},
    {"timestamp": "é"},
    {"properties": {"account_id": "é"}},
    {"properties": None, "distinct_id": "é"},
    {"event": "é"},
    {"properties": {"accoünt_id": "a"}, "distinct_id": "b"},
]


@pytest.mark.parametrize("fields", FIELDS)
def test_bytes_that_are_no_utf_8_are_refused_where_they_identify(world: World, fields: dict[str, object]) -> None:
    world.land(latin(make_event(**fields)))
    world.ingest()

    [(reason, line)] = world.rejected("reason, line")
    assert reason == Rejection.INVALID_UTF8
    assert "\\x" in line


def test_replacement_character_that_was_sent_is_a_character(world: World) -> None:
    world.land(make_event(account=BAD, uuid="x"))
    world.ingest()

    assert world.calls("account_id") == [BAD]


def test_list_is_judged_event_by_event_when_one_is_no_utf_8(world: World) -> None:
    good, bad = make_event(uuid="good"), make_event(uuid="bad", account="é")
    world.land(b"[%b, %b]" % (latin(good), latin(bad)))
    world.ingest()

    assert world.events() == ["good"]
    assert world.rejected("item, reason") == [(2, Rejection.INVALID_UTF8)]


def test_compressed_bytes_are_not_called_an_encoding(world: World) -> None:
    packed = gzip.compress(b"x" * 10_000, mtime=0).replace(b"\n", b"")
    from_collector = {"received_at": "2026-11-19T12:00:00Z", "line": packed.decode(errors="backslashreplace")}
    world.land(make_event(), packed, from_collector)
    world.ingest()

    assert world.rejected() == [(2, Rejection.NOT_TEXT), (3, Rejection.NOT_TEXT)]


def test_line_in_latin_1_is_called_an_encoding(world: World) -> None:
    world.land("Größe; Maß".encode("latin-1"))
    world.ingest()

    assert world.rejected() == [(1, Rejection.INVALID_UTF8)]


@pytest.mark.parametrize("line", ["[]", '{"batch": []}', '{"received_at": "2026-11-19T12:00:00Z", "batch": []}'])
def test_list_without_an_event_leaves_a_trace(world: World, line: str) -> None:
    world.land(make_event(), line)
    [batch] = world.ingest()

    assert world.rejected("line_number, item, reason, line") == [(2, 0, Rejection.EMPTY_LIST, line)]
    assert batch.lines == 2
    again = world.replay()
    assert again and again.rejected == {Rejection.EMPTY_LIST: 1}
