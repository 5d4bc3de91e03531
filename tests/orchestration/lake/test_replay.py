"""Lines in quarantine are judged again where the rules changed, and count as if they had been good when they came."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, make_event, make_meter

LATER = NOW + timedelta(days=3)


PAGE_VIEWS = [make_meter()]
"""A row that is added to meters.csv: what was refused without it counts."""


def ingest_refused_lines(world: World) -> None:
    world.land(
        make_event(event="page_view", uuid="one"),
        "no json",
        make_event(event="page_view", uuid=None, timestamp=None),
        [make_event(uuid="good"), make_event(event="page_view", uuid=None)],
        make_event(event="other"),
        b'{"event": "api_call\xff"}',
    )
    world.ingest()


def test_lines_that_are_good_now_count_as_if_they_had_been_then(world: World) -> None:
    ingest_refused_lines(world)
    world.meters = PAGE_VIEWS
    world.ingest()
    assert len(world.rejected()) == 6
    batch = world.replay(LATER)

    assert batch is not None
    assert (batch.accepted, batch.duplicates, batch.ingested_at) == (3, 0, LATER.isoformat())
    assert world.rejected() == [(2, "invalid_json"), (5, "unknown_event"), (6, "invalid_utf8")]
    found = world.events("event_id, line_number, source, event_at = timestamptz '2026-11-20 08:00:00+00'")
    origin = next(source for _, _, source, _ in found if source)
    assert found == [("3", 3, origin, True), ("4.2", 4, origin, False), ("good", 4, "", False), ("one", 1, "", False)]

    again = world.replay(LATER)
    assert again is not None
    assert again.accepted == 0
    assert len(world.rejected()) == 3
    assert len(world.events()) == 4
    assert world.ingest() == []


def test_quarantine_is_empty_when_a_replay_accepts_everything(world: World) -> None:
    world.land(make_event(event="page_view", uuid="one"))
    world.ingest()
    world.meters = PAGE_VIEWS
    world.replay()

    assert world.calls() == world.events() == ["one"]
    assert world.rejected() == []
    assert world.replay() is None
    world.land("bad", name="b.ndjson")
    world.ingest()
    assert world.rejected("landed_file, reason") == [("b.ndjson", "invalid_json")]


def test_replay_changes_nothing_when_the_rules_are_the_same(world: World) -> None:
    ingest_refused_lines(world)
    before = world.rejected("landed_file, origin, line_number, item, reason, line, arrived_at")
    batch = world.replay(LATER)

    assert batch is not None
    assert batch.accepted == 0
    assert world.rejected("landed_file, origin, line_number, item, reason, line, arrived_at") == before
    assert World(world.root / "empty").replay() is None


def test_conflict_stays_a_conflict_when_it_is_replayed(world: World) -> None:
    world.land(make_event(uuid="x"), make_event(uuid="x", account="beta"))
    world.ingest()
    world.replay()

    assert world.events("account_id") == ["acme"]
    assert world.rejected() == [(2, Rejection.ID_CONFLICT)]


def test_good_line_that_came_again_meanwhile_counts_once(world: World) -> None:
    world.land(make_event(event="page_view", uuid="x"))
    world.ingest()
    world.meters = PAGE_VIEWS
    world.land(make_event(event="page_view", uuid="x"), "", name="corrected.ndjson")
    world.ingest()
    batch = world.replay()

    assert batch is not None
    assert (batch.accepted, batch.duplicates) == (0, 1)
    assert world.events() == ["x"]
    assert world.rejected() == []


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.orchestration.lake.test_replay import PAGE_VIEWS
from tests.orchestration.lake.world import World
left = int(sys.argv[2])
def trace(frame, event, argument):
    global left
    if "/orchestration/lake/" in frame.f_code.co_filename and "/tests/" not in frame.f_code.co_filename:
        left -= event == "line"
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace
sys.settrace(trace)
world = World(Path(sys.argv[1]))
world.meters = PAGE_VIEWS
world.replay()
"""


@pytest.mark.parametrize("step", [30, 120, 200, 250, 290, 310, 325])
def test_kill_of_a_replay_leaves_all_or_nothing(tmp_path: Path, step: int) -> None:
    world = World(tmp_path)
    ingest_refused_lines(world)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(step)]
    killed = subprocess.run(command, check=False, env=environment)
    assert killed.returncode in (-signal.SIGKILL, 0)
    assert (len(world.events()), len(world.rejected())) in ((1, 6), (4, 3))
    subprocess.run([*command[:-1], "1000000"], check=True, env=environment)

    assert len(world.events()) == 4
    assert len(world.rejected()) == 3
