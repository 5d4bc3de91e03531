"""An event counts once, however often and wherever it comes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestration.lake.lake import BATCH_BYTES
from orchestration.lake.sources import Folder
from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, make_event, make_quota

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


def test_events_without_ids_count_once_when_a_file_grows_within_a_line(world: World) -> None:
    line = json.dumps(make_event(uuid=None)).encode()
    path = world.landing / "a.ndjson"
    for content in (line + b"\n" + line[:20], line + b"\n" + line, line + b"\n" + line + b"\n" + line):
        path.write_bytes(content)
        world.ingest()

    assert world.events("event_id, line_number") == [("1", 1), ("2", 2), ("3", 3)]
    assert world.rejected() == []


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


# The same id, something else


@pytest.mark.parametrize("batch_bytes", [1, BATCH_BYTES])
@pytest.mark.parametrize(
    "other",
    [
        make_event(uuid="x", account="beta"),
        make_event(uuid="x", at="2026-11-19T13:00:00Z"),
        make_event(uuid="x", event="api_request"),
        make_event(uuid="x", properties={"account_id": "acme", "status": 500}),
        make_quota(quota=5, at="2026-11-19T12:00:00Z") | {"uuid": "x"},
    ],
)
def test_first_one_stays_when_an_id_says_something_else(world: World, other: dict[str, Any], batch_bytes: int) -> None:
    first = make_event(uuid="x")
    world.land(first, other, make_event(uuid="good"))
    batches = world.ingest(batch_bytes)

    assert world.events("event_id, account_id, event_name") == [("good", "acme", "api_call"), ("x", "acme", "api_call")]
    assert world.rejected("line_number, reason, line") == [(2, Rejection.ID_CONFLICT, json.dumps(other))]
    assert (sum(batch.accepted for batch in batches), sum(batch.duplicates for batch in batches)) == (2, 0)


def test_conflict_in_a_list_keeps_its_own_event_alone(world: World) -> None:
    world.land(make_event(uuid="x"))
    world.ingest()
    other = make_event(uuid="x", account="beta")
    world.land([make_event(uuid="y"), other, make_event(uuid="x")], name="b.ndjson")
    [batch] = world.ingest()

    assert world.events() == ["x", "y"]
    [(line_number, item, reason, line)] = world.rejected("line_number, item, reason, line")
    assert (line_number, item, reason, json.loads(line)) == (1, 2, Rejection.ID_CONFLICT, other)
    assert (batch.accepted, batch.duplicates) == (1, 1)


@pytest.mark.parametrize(("days", "is_found"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_other_time_is_a_conflict_within_a_day_either_side(world: World, days: int, is_found: bool) -> None:
    at = datetime(2026, 11, 10, 12, tzinfo=UTC)
    world.land(make_event(uuid="x", at=at.isoformat()))
    world.ingest()
    world.land(make_event(uuid="x", at=(at + timedelta(days=days, minutes=1)).isoformat()), name="b.ndjson")
    world.ingest()

    assert len(world.events()) == (1 if is_found else 2)
    assert [reason for _, reason in world.rejected()] == [Rejection.ID_CONFLICT] * is_found


@pytest.mark.parametrize(("days", "counts"), [(0, 1), (6, 1), (7, 1), (9, 2)])
def test_event_without_a_time_is_known_for_a_week(world: World, days: int, counts: int) -> None:
    event = make_event(uuid="x", timestamp=None)
    world.land(event)
    world.ingest()
    world.land(event, "another content", name="b.ndjson")
    world.ingest(now=NOW + timedelta(days=days))

    assert len(world.events()) == counts


def test_late_retry_is_found_on_its_day_however_old_that_is(world: World) -> None:
    for name in ("a.ndjson", "b.ndjson"):
        world.land(make_event(uuid="old", at="2019-02-28T23:59:59Z"), make_event(uuid=name), name=name)
        world.ingest()

    assert world.events() == ["a.ndjson", "b.ndjson", "old"]


# How files fall into batches


@pytest.mark.parametrize("batch_bytes", [1, BATCH_BYTES])
@pytest.mark.parametrize(
    ("days", "counted"),
    [
        ([0, 60], [0, 60]),
        ([60, 0], [0, 60]),
        ([0, 1, 2], [0, 2]),
        ([1, 0, 2], [1]),
        ([0, 2, 1, 3, 4], [0, 2, 4]),
        ([0, 60, 0, 60, 61, 30], [0, 30, 60]),
    ],
)
def test_same_id_counts_by_its_days_however_files_fall_into_batches(
    world: World, days: list[int], counted: list[int], batch_bytes: int
) -> None:
    first = datetime(2026, 9, 1, 12, tzinfo=UTC)
    moments = [(first + timedelta(days=day)).isoformat() for day in days]
    for number, moment in enumerate(moments):
        world.land(make_event(uuid="x", at=moment), f"content {number}", name=f"{number}.ndjson")
    # another id on the days between does not bring them nearer
    world.land(*(make_event(uuid=f"y{day}", at=(first + timedelta(days=day)).isoformat()) for day in range(62)))
    batches = world.ingest(batch_bytes)

    found = [event_at for event_id, event_at in world.calls("event_id, event_at") if event_id == "x"]
    assert [(at - first).days for at in found] == counted
    assert len(batches) == (1 if batch_bytes > 1 else len(days) + 1)
    conflicts = [reason for reason in world.rejected("reason") if reason == Rejection.ID_CONFLICT]
    exact = sum(day in days[:place] for place, day in enumerate(days))
    assert len(conflicts) == len(days) - len(counted) - exact


@pytest.mark.parametrize("batch_bytes", [1, BATCH_BYTES])
def test_quota_is_known_by_its_id_for_ever(world: World, batch_bytes: int) -> None:
    for number, at in enumerate(["2026-01-01T00:00:00Z", "2026-11-01T00:00:00Z"]):
        world.land(make_quota(at=at) | {"uuid": "q"}, f"content {number}", name=f"{number}.ndjson")
    world.ingest(batch_bytes)

    assert len(world.events()) == 1
    assert Rejection.ID_CONFLICT in world.rejected("reason")


@pytest.mark.parametrize("batch_bytes", [1, BATCH_BYTES])
def test_retry_is_no_conflict_when_another_event_with_its_id_is_near(world: World, batch_bytes: int) -> None:
    """An id of two days before and after: a retry without a time is near both, and is the second one."""
    for number, at in enumerate(["2026-11-15T12:00:00Z", "2026-11-18T12:00:00Z"]):
        properties = {"account_id": "acme", "number": number}
        world.land(make_event(uuid="x", at=at, properties=properties), name=f"{number}.ndjson")
    world.land(make_event(uuid="x", timestamp=None, properties={"account_id": "acme", "number": 1}), name="2.ndjson")
    batches = world.ingest(batch_bytes)

    assert len(world.events()) == 2
    assert sum(batch.duplicates for batch in batches) == 1
    assert world.rejected() == []
