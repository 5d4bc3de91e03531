"""Few files in place of many: the same rows, whatever is read, and whenever the process is killed."""

import json
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from datetime import date
from pathlib import Path

import pytest

from orchestration.lake import compaction
from tests.orchestration.lake.world import World
from tests.support.builders import make_event, make_meter, make_quota

KEPT_FROM = date(2026, 11, 19)
KINDS = ("batches/*/calls/*/*.parquet", "batches/*/others*.parquet", "batches/*/rejected*.parquet")
DAYS = ("2026-11-18", "2026-11-19")


@pytest.fixture(scope="module")
def six_batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six batches, each with calls of two days, a quota and a bad line."""
    world = World(tmp_path_factory.mktemp("compaction"))
    for number in range(6):
        add_batch(world, number)
    return world.root


@pytest.fixture
def world(six_batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of them; three files of a kind are enough."""
    monkeypatch.setattr(compaction, "FILES", 3)
    shutil.copytree(six_batches, tmp_path / "world")
    return World(tmp_path / "world")


def add_batch(world: World, number: int) -> None:
    calls = (make_event(at=f"{day}T12:00:0{number}Z", uuid=f"{day} {number}") for day in DAYS)
    world.land(*calls, make_quota(uuid=f"quota {number}"), "no event", name=f"{number}.ndjson")
    [batch] = world.ingest()
    assert (batch.accepted, sum(batch.rejected.values())) == (3, 1)


def compact(world: World) -> int:
    with world.lake.writing():
        return world.lake.compact(nullcontext())


def prune(world: World) -> int:
    """Without the first of the two days from now on."""
    with world.lake.writing():
        world.lake.keep_from(KEPT_FROM)
        return world.lake.compact(nullcontext())


def everything(world: World) -> list[list[object]]:
    """All columns of all rows."""
    return [world.rows("*", kind) for kind in KINDS]


def files(world: World, kind: str) -> list[str]:
    """Relative to the lake, the merged ones without what makes their names unique."""
    return sorted(re.sub("-[0-9a-f]{32}", "-…", str(path.relative_to(world.lake.root))) for path in paths(world, kind))


def paths(world: World, kind: str) -> list[Path]:
    return sorted(world.lake.root.glob(kind))


def manifests(world: World) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in world.lake.root.glob("batches/*/manifest.json")}


def test_rows_and_manifests_stay_and_files_are_few_after_a_compaction(world: World) -> None:
    before, said = everything(world), manifests(world)
    assert compact(world) == 4 * 6
    assert (everything(world), manifests(world)) == (before, said)
    calls = [f"batches/000006/calls/event_date={day}/calls-….parquet" for day in DAYS]
    assert files(world, KINDS[0]) == ["batches/000000/calls/event_date=1970-01-01/empty.parquet", *calls]
    assert files(world, KINDS[1]) == ["batches/000000/others.parquet", "batches/000006/others-….parquet"]
    assert files(world, KINDS[2]) == ["batches/000000/rejected.parquet", "batches/000006/rejected-….parquet"]
    assert not (world.lake.root / "batches" / "000003" / "calls").exists(), "a folder that readers would look into"


def test_nothing_is_done_when_no_day_has_too_many_files(world: World) -> None:
    compact(world)
    moments = {path: path.stat().st_mtime_ns for path in world.lake.root.rglob("*")}
    for number in (6, 7):
        add_batch(world, number)
    assert compact(world) == 0  # one of them and two new ones
    assert {path: path.stat().st_mtime_ns for path in moments if path.suffix == ".parquet"}.items() <= moments.items()
    add_batch(world, 8)
    assert compact(world) == 4 * 4


def test_large_files_are_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [make_event(at=f"{DAYS[0]}T13:00:00Z", uuid=f"more {number}") for number in range(100)]
    world.land(*rows, name="many.ndjson")
    world.ingest()
    large = world.lake.root / "batches" / "000007" / "calls" / f"event_date={DAYS[0]}" / "calls.parquet"
    before, content = everything(world), large.read_bytes()
    monkeypatch.setattr(compaction, "SMALL_BYTES", len(content))
    assert compact(world) == 24
    assert large.read_bytes() == content
    assert everything(world) == before


@pytest.mark.parametrize("kind", KINDS)
def test_reader_misses_a_file_or_reads_each_row_once_over_a_compaction(world: World, kind: str) -> None:
    """Also who has listed a part before and the rest after, as a build by hand may: it takes no lock."""
    for number in range(6, 9):
        add_batch(world, number)
    before, expected = paths(world, kind), world.rows("*", kind)
    contents = {path: path.read_bytes() for path in before}
    compact(world)
    after = paths(world, kind)
    assert all(path.read_bytes() == contents[path] for path in set(before) & set(after)), "other content, same path"
    outcomes = set()
    for first in range(11):
        for earlier, later in ((before, after), (after, before)):
            listed = [path for path in earlier if batch_of(path) < first]
            listed += [path for path in later if batch_of(path) >= first]
            is_there = all(path.exists() for path in listed)
            outcomes.add(is_there)
            if is_there:
                assert world.rows("*", *(str(path.relative_to(world.lake.root)) for path in listed)) == expected
    assert outcomes == {True, False}


def batch_of(path: Path) -> int:
    return int(next(part for part in path.parts if re.fullmatch("[0-9]{6}", part)))


def test_days_that_are_not_kept_go_and_nothing_else_changes(world: World) -> None:
    world.land(make_event(at=f"{DAYS[0]}T13:00:00Z", uuid="alone"), name="alone.ndjson")
    world.ingest()
    (calls, *others), said = everything(world), manifests(world)
    assert prune(world) == 3 * 6
    kept = world.calls("event_id")
    assert (everything(world), manifests(world)) == ([world.rows("*", KINDS[0]), *others], said)
    assert kept == [f"{DAYS[1]} {number}" for number in range(6)]
    assert len(calls) == 13
    assert files(world, KINDS[0])[1:] == [f"batches/000006/calls/event_date={DAYS[1]}/calls-….parquet"]
    assert not (world.lake.root / "batches" / "000007" / "calls").exists(), "a folder that readers would look into"
    assert prune(world) == 0
    with world.lake.writing():
        world.lake.keep_from(date(2026, 11, 18))
    assert world.lake.kept_from() == KEPT_FROM, "the boundary never moves back"


def test_calls_of_days_that_are_not_kept_are_refused_however_they_come(world: World) -> None:
    """Also by a replay, and those that were refused for something else before."""
    unknown = make_event(at=f"{DAYS[0]}T12:00:09Z", uuid="unknown", event="page_view")
    world.land(unknown, name="unknown.ndjson")
    world.ingest()
    prune(world)
    before = everything(world)[:2]
    old = [make_event(at=f"{DAYS[0]}T{time}Z", uuid=f"{DAYS[0]} {time[-1]}") for time in ("12:00:00", "12:00:01")]
    known = make_event(at=f"{DAYS[1]}T12:00:02Z", uuid=f"{DAYS[1]} 2")
    world.land(old[0], old, {**old[1], "timestamp": "2026-11-19T01:59:59+02:00"}, known, name="retry.ndjson")
    [batch] = world.ingest()
    assert (batch.accepted, batch.duplicates, batch.rejected) == (0, 1, {"too_old": 4})
    world.meters = [make_meter()]  # of page views
    replayed = world.replay()
    assert replayed
    assert (replayed.accepted, replayed.rejected) == (0, {"invalid_json": 6, "too_old": 5})
    assert everything(world)[:2] == before

    quota = make_quota(at=f"{DAYS[0]}T12:00:00Z")
    world.land(quota, make_event(at=f"{DAYS[1]}T00:00:00Z", uuid="edge"), name="good.ndjson")
    assert world.ingest()[0].accepted == 2


def test_an_event_that_comes_again_is_still_known_when_it_was_compacted(world: World) -> None:
    compact(world)
    world.land(
        make_event(at=f"{DAYS[0]}T12:00:02Z", uuid=f"{DAYS[0]} 2"), make_quota(uuid="quota 4"), name="again.ndjson"
    )
    [batch] = world.ingest()
    assert (batch.number, batch.accepted, batch.duplicates) == (7, 0, 2)
    world.land(make_event(at=f"{DAYS[0]}T12:00:02Z", uuid=f"{DAYS[0]} 2", account="other"), name="conflict.ndjson")
    assert world.ingest()[0].rejected == {"id_conflict": 1}


def test_the_quarantine_is_judged_again_when_it_was_compacted(world: World) -> None:
    compact(world)
    assert len(world.rejected()) == 6
    batch = world.replay()
    assert batch and sum(batch.rejected.values()) == 6
    assert len(world.rejected()) == 6


def test_nothing_is_changed_when_folders_cannot_be_exchanged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(world)

    def refuse(*_: object) -> None:
        raise OSError(22, "these folders cannot be exchanged here")

    monkeypatch.setattr(compaction, "exchange", refuse)
    with pytest.raises(OSError, match="cannot be exchanged"):
        compact(world)
    assert everything(world) == before
    monkeypatch.undo()
    monkeypatch.setattr(compaction, "FILES", 3)
    assert compact(world) == 24


SCRIPT = """
import contextlib, datetime, json, os, shutil, signal, sys
from pathlib import Path
from orchestration.lake import compaction
from orchestration.lake.lake import Lake

lake, copies = Path(sys.argv[1]), Path(sys.argv[2])
compaction.FILES = 3
LOOKING = "crowded", "outdated", "_is_kept", "kept_from", "_connect", "_sync"  # change nothing
os.sync = lambda: None  # processes end here, power does not fail


def child(work):
    pid = os.fork()  # nothing of DuckDB is open in this process
    if not pid:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(line, copy):
    left, seen = line, set()

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.endswith(file) or frame.f_code.co_name in LOOKING:
            return None
        is_counted = file == "/shutil.py" or frame.f_lineno not in seen  # of our own lines each one, once
        if event == "line" and is_counted:
            seen.add(frame.f_lineno)
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def work():
        target = Lake(copy)
        with target.writing():
            sys.settrace(trace)
            target.keep_from(datetime.date(2026, 11, 19))
            target.compact(contextlib.nullcontext())

    return work


attempts = []
for file, step in (("/compaction.py", 1), ("/lake.py", 1), ("/shutil.py", 600)):
    line, ended = 1, -9
    while ended == -9:
        copy = copies / str(len(attempts))
        shutil.copytree(lake, copy / "lake")
        ended = child(killed_at(line, copy / "lake"))
        attempts.append(ended)
        line += step
print(json.dumps(attempts))
"""


def test_every_row_is_there_once_when_a_compaction_was_killed_at_any_line(world: World, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(world.lake.root), str(tmp_path / "copies")],
        capture_output=True,
        text=True,
        check=True,
    )
    attempts, (before, *others) = json.loads(done.stdout), everything(world)
    prune(world)
    after = world.rows("*", KINDS[0])
    assert set(attempts) == {0, -signal.SIGKILL}
    assert len(attempts) > 20
    found = [World(tmp_path / "copies" / str(number)) for number in range(len(attempts))]
    assert all(everything(each) in ([before, *others], [after, *others]) for each in found)
    has_left = [each for each in found if len(files(each, KINDS[0])) > 2]
    assert 0 < len(has_left) < len(found), "killed before the exchange, and after it"
    assert all(each.lake.kept_from() == KEPT_FROM for each in found if each not in has_left), "it comes first"
    undecided = [each for each in has_left if each.lake.kept_from() != KEPT_FROM]
    assert 0 < len(undecided) < len(has_left), "killed before the boundary was there, and after it"
    for each, refused in ((undecided[-1], "duplicates"), (has_left[-1], "rejected"), (found[-1], "rejected")):
        each.land(make_event(at=f"{DAYS[0]}T12:00:02Z", uuid=f"{DAYS[0]} 2"), name="again.ndjson")
        [batch] = each.ingest()
        assert (batch.accepted, getattr(batch, refused)) == (0, 1 if refused == "duplicates" else {"too_old": 1})
        prune(each)
        assert each.rows("*", KINDS[0]) == after
        assert len(files(each, KINDS[0])) == 2
        assert not list(each.lake.root.glob(".staging/batches"))
