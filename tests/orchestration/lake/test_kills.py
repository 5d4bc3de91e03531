"""A kill at any moment of an ingestion changes no figure.

The script forks one process for each attempt; an attempt does what defs/ingest.py does.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.orchestration.lake.world import World
from tests.support.builders import land, make_event, make_quota

SCRIPT = """
import dataclasses, json, os, shutil, signal, sys, tempfile, threading, time
from pathlib import Path
import pyarrow.compute  # which pyarrow would import in each attempt again
from orchestration.ledger.ledger import Ledger
from orchestration.lake import batch as batch_module
from orchestration.lake import content
from orchestration.lake import lake as lake_module
from orchestration.lake import landing as landing_module
from orchestration.lake import parquet
from orchestration.lake.account_files import ACCOUNTS_FILES
from orchestration.lake.lake import Lake
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import Folder
from tests.support.builders import NOW

landing_module.CHUNK_BYTES = 300
folder = tempfile.TemporaryDirectory()
empty = Path(folder.name, "ledger.sqlite")  # its migrations take most of the time of an attempt
Ledger(f"sqlite:///{empty}").close()


def ingest(data, landing, lake_url, is_claimed):
    lake, ledger = Lake(data / "lake", lake_url), Ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    record = lambda batch: ledger.record_files(batch.number, [dataclasses.asdict(file) for file in batch.files])
    if is_claimed:
        lake.bucket.claim()
    with lake.writing():
        lake.must_have(ledger.last_batch())
        for batch in lake.batches(after=ledger.last_batch()):
            record(batch)
        known = {file["path"]: LandedFile(**file) for file in ledger.landed_files()}
        while True:
            batch, _ = lake.ingest(Folder(landing), known, NOW, batch_bytes=1200)
            if batch is None:
                break
            record(batch)
            known.update({file.path: file for file in batch.files})
        for kind in ACCOUNTS_FILES:
            lake.write_accounts(kind, None, rejected_at=NOW)


def killed(kind, place):
    count = 0

    def step():
        nonlocal count
        count += 1
        if count == place:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(function):
        def call(*args, **kwargs):
            step()
            result = function(*args, **kwargs)
            step()
            return result
        return call

    if kind not in ("", "delay"):
        batch_module.WRITERS = 1  # two would step at once: the steps are the same each time
    if kind == "calls":
        os.fsync = stepping(os.fsync)
        for owner, names in (
            (Path, ("rename", "replace", "mkdir", "write_text")),
            (Ledger, ("record_files",)),
            (parquet, ("write", "write_batches")),
        ):
            for name in names:
                setattr(owner, name, stepping(getattr(owner, name)))
    if kind == "requests":
        import obstore
        for name in ("put", "get", "list"):
            setattr(obstore, name, stepping(getattr(obstore, name)))
    if kind in ("lines", "bucket lines"):
        within = "orchestration/lake/" + ("bucket" if kind == "bucket lines" else "")
        lake_module.THREADS = 1  # all in the traced thread, so that the steps are the same each time
        def trace(frame, event, _):
            if within not in frame.f_code.co_filename:
                return None
            if event == "line":
                step()
            return trace
        sys.settrace(trace)
        threading.settrace(trace)
    return lambda: count


def attempt(data, landing, kind, place, environment, lake_url, is_claimed):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ.update(environment)
            total = killed(kind, place)
            ingest(data, landing, lake_url, is_claimed)
            sys.settrace(None)
            os.write(writing, str(total()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def finish(child, reading):
    _, status = os.waitpid(child, 0)
    total = os.read(reading, 20).decode()
    os.close(reading)
    return {"status": os.waitstatus_to_exitcode(status), "steps": int(total or 0)}


for line in sys.stdin:
    request = json.loads(line)
    data, landing = Path(request["data"]), Path(request["landing"])
    data.mkdir(exist_ok=True)
    if not (data / empty.name).exists():
        shutil.copy(empty, data)
    started = time.monotonic()
    rest = [request[name] for name in ("kind", "place", "environment", "lake_url", "is_claimed")]
    children = [attempt(data, landing, *rest)
                for _ in range(request.get("processes", 1))]
    if request["kind"] == "delay":
        time.sleep(request["place"])
        os.kill(children[0][0], signal.SIGKILL)
    answers = [finish(*child) for child in children]
    print(json.dumps([{**answer, "seconds": time.monotonic() - started} for answer in answers]), flush=True)
"""

KILLS = 10
"""Places between the first step and the last, the same in each run."""
Attempt = Callable[..., list[dict[str, Any]]]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def attempt() -> Iterator[Attempt]:
    """Ingest `landing` into `data` in a process that is killed at the given place, or in several at once."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(
            data: Path,
            landing: Path,
            kind: str = "",
            place: float = 0,
            processes: int = 1,
            lake_url: str | None = None,
            is_claimed: bool = False,
        ) -> Any:
            request = {
                "data": str(data),
                "landing": str(landing),
                "kind": kind,
                "place": place,
                "processes": processes,
                "lake_url": lake_url,
                "is_claimed": is_claimed,
                "environment": {name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            }
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that take several batches, with duplicates, refused lines, events without ids, a copy, a cut line."""
    folder = tmp_path_factory.mktemp("landing")
    calls = [make_event(uuid=f"{number % 9}", at=f"2026-11-01T{number:02}:00:00Z") for number in range(10)]
    land(folder, "a.ndjson", *calls, "bad", make_event(uuid=None), make_event(uuid=None))
    again = make_event(uuid="0", at="2026-11-01T12:00:00Z")
    for name in ("b.ndjson", "copied/b.ndjson"):
        land(folder, name, again, make_quota(quota=-1), make_quota(), make_event(uuid=None))
    (folder / "d.ndjson").write_text(json.dumps(make_event(uuid="last")) + '\n{"event": "api_c')
    return folder


def outcome(data: Path) -> dict[str, Any]:
    """All that the lake and the ledger hold."""
    world = World(data)
    with closing(sqlite3.connect(data / "ledger.sqlite")) as ledger:
        files = ledger.execute("select * from landed_files order by path").fetchall()
    return {
        "events": world.events("*"),
        "rejected": world.rejected("*"),
        "accounts": world.accounts(),
        "files": files,
        "batches": world.lake.batches(),
    }


@pytest.fixture(scope="module")
def undisturbed(attempt: Attempt, landed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an ingestion without a kill leaves, and how many steps and seconds it takes."""
    data = tmp_path_factory.mktemp("undisturbed")
    [answer] = attempt(data, landed)
    assert answer["status"] == 0
    result = outcome(data)
    assert len(result["events"]) == 9 + 2 + 1 + 1 + 1
    assert len(result["rejected"]) == 1 + 1 + 1 + 2
    assert len(result["batches"]) >= 3
    return {"outcome": result, "seconds": answer["seconds"]}


@pytest.fixture(scope="module", params=["calls", "lines"])
def steps(request: pytest.FixtureRequest, attempt: Attempt, landed: Path, tmp_path_factory: Any) -> tuple[str, int]:
    [answer] = attempt(tmp_path_factory.mktemp("counted"), landed, request.param, -1)
    assert answer["status"] == 0
    return request.param, answer["steps"]


def test_kill_at_any_step_changes_no_figure(
    attempt: Attempt, landed: Path, undisturbed: dict[str, Any], steps: tuple[str, int], tmp_path: Path
) -> None:
    kind, total = steps
    assert total > 100
    for number in range(KILLS):
        place = 1 + number * (total - 1) // (KILLS - 1)
        data = tmp_path / str(number)
        assert attempt(data, landed, kind, place)[0]["status"] == -9, place
        assert attempt(data, landed)[0]["status"] == 0, place
        assert outcome(data) == undisturbed["outcome"], place


def test_kills_in_a_row_change_no_figure(
    attempt: Attempt, landed: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    # the place is further on each time, so that some attempts commit a batch and some die over an earlier leftover
    kills = 0
    while attempt(tmp_path, landed, "calls", 3 + 7 * kills)[0]["status"] == -9:
        kills += 1
    assert kills >= 3
    assert outcome(tmp_path) == undisturbed["outcome"]


BUCKET_KILLS = 4
"""Of each kind. 160 of each were gone through once, by hand."""


@pytest.mark.parametrize("kind", ["requests", "bucket lines"])
def test_kill_at_any_step_changes_no_figure_where_the_lake_is_in_a_bucket(
    s3: Any, attempt: Attempt, landed: Path, undisturbed: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    """Neither for the machine itself nor for one that has nothing of it but the ledger."""

    def url(name: object) -> str:
        return f"s3://usage/{kind.split()[0]}/{name}"

    [answer] = attempt(tmp_path / "counted", landed, kind, -1, lake_url=url("counted"))
    assert answer["status"] == 0
    total = answer["steps"]
    assert total > 20
    for number in range(BUCKET_KILLS):
        place = 1 + number * (total - 1) // (BUCKET_KILLS - 1)
        data, other = tmp_path / str(number), tmp_path / f"{number} after"
        assert attempt(data, landed, kind, place, lake_url=url(number))[0]["status"] == -9, place
        other.mkdir()
        shutil.copy(data / "ledger.sqlite", other)  # as a server of both would have it
        is_back = number % 2 == 1
        if is_back:
            assert attempt(data, landed, lake_url=url(number))[0]["status"] == 0, place
            assert outcome(data) == undisturbed["outcome"], place
        assert attempt(other, landed, lake_url=url(number), is_claimed=True)[0]["status"] == 0, place
        assert outcome(other) == undisturbed["outcome"], place
        if not is_back:
            assert attempt(data, landed, lake_url=url(number))[0]["status"] == 1, place  # it is not the writer


@pytest.mark.parametrize("seed", range(20))
def test_kill_after_any_time_changes_no_figure(
    attempt: Attempt, landed: Path, undisturbed: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    attempt(tmp_path, landed, "delay", Random(seed).random() * undisturbed["seconds"])
    assert attempt(tmp_path, landed)[0]["status"] == 0

    assert outcome(tmp_path) == undisturbed["outcome"]


@pytest.mark.parametrize("processes", [2, 4])
def test_landing_files_count_once_when_processes_ingest_at_once(
    attempt: Attempt, landed: Path, undisturbed: dict[str, Any], tmp_path: Path, processes: int
) -> None:
    answers = attempt(tmp_path, landed, processes=processes)

    assert [answer["status"] for answer in answers] == [0] * processes
    assert outcome(tmp_path) == undisturbed["outcome"]
