"""What the collector says of a request: whose its events are where they do not say it, and whose key it was."""

import json
from datetime import timedelta
from typing import Any

from orchestration.lake.manifests import Batch
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, make_event


def request(*events: dict[str, Any], source: str | None = None, key: str | None = "acme") -> dict[str, Any]:
    frame: dict[str, Any] = {"received_at": NOW.isoformat()}
    frame |= {"received_key": key} if key else {}
    frame |= {"received_source": source} if source else {}
    return {**frame, "batch": events}


def event(identity: str | None, source: str | None = None, **changes: Any) -> dict[str, Any]:
    made = make_event(at=(NOW - timedelta(minutes=10)).isoformat(), **changes)
    made.pop("uuid", None)
    return made | ({"uuid": identity} if identity else {}) | ({"source": source} if source is not None else {})


def ingest(world: World, *lines: object) -> Batch:
    """The lines as one new file, in one batch."""
    world.land(*lines, name=f"{len(world.known())}.ndjson")
    [batch] = world.ingest()
    return batch


def test_two_projects_that_send_the_same_id_both_count(world: World) -> None:
    one, other = event("1", account="acme"), event("1", account="globex")
    batch = ingest(world, request(one, source="one"), request(other, source="other"))
    assert (batch.accepted, batch.duplicates, batch.rejected) == (2, 0, {})
    again = ingest(world, request(other, source="other"), request(one, source="one"))
    assert (again.accepted, again.duplicates, again.rejected) == (0, 2, {})
    assert world.calls("source, account_id") == [("one", "acme"), ("other", "globex")]


def test_source_of_the_event_wins_and_an_empty_one_is_none(world: World) -> None:
    sent = [event("1", "own"), event("2", ""), event("3") | {"source": None}, event("4")]
    ingest(world, request(*sent, source="project"))
    assert world.calls("source") == ["own", "project", "project", "project"]


def test_events_without_ids_are_known_by_their_place(world: World) -> None:
    batch = ingest(world, request(event(None), event(None), source="project"))
    assert batch.accepted == 2


def test_event_counted_before_its_source_was_known_counts_once(world: World) -> None:
    timed, untimed = event("1"), {**event("2")}
    del untimed["timestamp"]
    ingest(world, request(timed, untimed, key=None))
    again = ingest(world, request(timed, untimed, source="project"))
    assert (again.accepted, again.duplicates, again.rejected) == (0, 2, {})
    other = ingest(world, request({**timed, "properties": {"account_id": "globex"}}, source="project"))
    assert (other.accepted, other.duplicates, other.rejected) == (1, 0, {})


def test_event_of_before_in_the_same_batch_counts_once(world: World) -> None:
    batch = ingest(world, request(event("1"), key=None), event("2"), request(event("1"), event("2"), source="p"))
    assert (batch.accepted, batch.duplicates, batch.rejected) == (2, 2, {})


def test_other_content_of_one_project_is_a_conflict(world: World) -> None:
    ingest(world, request(event("1", account="acme"), source="project"))
    batch = ingest(world, request(event("1", account="globex"), source="project"))
    assert (batch.accepted, batch.rejected) == (0, {"id_conflict": 1})


def test_refused_event_keeps_its_source_in_quarantine(world: World) -> None:
    ingest(world, request({"uuid": "1", "event": "other"}, {}, source="project"))
    lines = world.rejected("line")
    assert [json.loads(line)["source"] for line in lines] == ["project"] * 2


def test_name_of_the_key_is_kept_with_the_event(world: World) -> None:
    ingest(world, request(event("1"), key="leaked"), request(event("2"), key=None), event("3"))
    assert world.calls("event_id, received_key") == [("1", "leaked"), ("2", None), ("3", None)]
