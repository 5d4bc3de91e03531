"""Runs whose process was killed: closed at the next look, those of living processes never; each started once more."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration import settings
from orchestration.cli import run as job
from orchestration.cli.run import PID_TAG
from orchestration.defs import interrupted
from orchestration.defs.automation import interrupted_runs_sensor, landing_sensor
from orchestration.defs.resources import Project
from orchestration.settings import PROJECT_ROOT
from tests.fakes.postgres import Postgres
from tests.support.builders import land, make_event

STATUS = dg.DagsterRunStatus
WORKS = """
import sys
import dagster as dg
from orchestration.defs.resources import Project

@dg.op
def work(project: Project) -> None:
    print("works", flush=True)
    sys.stdin.read()

@dg.job(resource_defs={"project": Project()})
def refresh_job() -> None:
    work()

with dg.DagsterInstance.get() as instance:
    refresh_job.execute_in_process(instance=instance, run_id=sys.argv[1])
"""


@contextmanager
def working(run_id: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that is in the middle of the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKS, run_id],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    assert process.stdin
    try:
        assert process.stdout.readline() == "works\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"project": Project()})
    result = interrupted_runs_sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


@pytest.mark.parametrize("storage", ["sqlite", "postgres"])
def test_killed_run_is_closed_at_the_next_look_and_started_again_once(
    storage: str, data: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if storage == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv("HEADROOM_DAGSTER_POSTGRES_URL", server.database())
    monkeypatch.setenv("DAGSTER_HOME", str(data / "dagster"))
    job.make_dagster_home(settings.load())
    land(data / "landing", "a.ndjson", make_event())
    run_id = "00000000-0000-4000-8000-000000000001"
    with dg.DagsterInstance.get() as instance:
        with working(run_id) as process:
            assert not tick(instance).run_requests
            [run] = instance.get_runs()
            assert run.status is STATUS.STARTED
            assert isinstance(look_at_landing(instance), dg.SkipReason)
            process.kill()
            process.wait()
            assert [each.run_id for each in interrupted.interrupted(data / "runs", instance)] == [run_id]
            result = tick(instance)
        [run] = instance.get_runs()
        assert run.status is STATUS.FAILURE
        [again] = result.run_requests or []
        assert (again.job_name, again.run_key) == ("refresh_job", f"again|{run_id}")
        assert not tick(instance, result.cursor).run_requests
        assert isinstance(look_at_landing(instance), dg.SensorResult)
        assert list((data / "runs").iterdir()) == []


def look_at_landing(instance: dg.DagsterInstance) -> object:
    return landing_sensor(dg.build_sensor_context(instance=instance, resources={"project": Project()}))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def ended(run_id: str, reason: str = "UNEXPECTED_TERMINATION", job: str = "daily_job", **tags: str) -> dg.DagsterRun:
    tags = {interrupted.REASON_TAG: reason, "dagster/partition": "2026-11-20", **tags}
    return dg.DagsterRun(job, run_id=run_id, status=STATUS.FAILURE, tags=tags)


def started_again(instance: dg.DagsterInstance, now: datetime | None = None) -> list[str | None]:
    jobs = ["daily_job", "hourly_job"]
    requests, _ = interrupted.to_start_again(instance, jobs, None, now or datetime.now(UTC))
    assert {(each.job_name, each.partition_key) for each in requests} <= {("daily_job", "2026-11-20")}
    return [each.run_key for each in requests]


def test_digest_of_the_day_is_started_again_after_a_stop_in_its_middle(
    data: Path, instance: dg.DagsterInstance
) -> None:
    instance.add_run(ended("killed"))
    assert started_again(instance) == ["again|killed"]
    assert started_again(instance, datetime.now(UTC) + interrupted.MAX_RUNTIME) == [], "that is long ago"
    instance.add_run(ended("second", **{"dagster/run_key": "again|killed"}))
    assert started_again(instance) == [], "one that is killed twice is left to the next hour"


def test_runs_by_hand_and_failed_steps_are_not_started_again(data: Path, instance: dg.DagsterInstance) -> None:
    instance.add_run(ended("failed", reason="STEP_FAILURE"))
    instance.add_run(ended("by hand", **{PID_TAG: "4711"}))
    instance.add_run(ended("another job", job="other_job"))
    assert started_again(instance) == []


def test_run_that_is_older_than_any_can_be_is_not_waited_for_and_closed(
    data: Path, instance: dg.DagsterInstance
) -> None:
    now = datetime.now(UTC)
    assert not interrupted.is_under_way(instance, "refresh_job", now)
    instance.add_run(dg.DagsterRun("refresh_job", run_id="hangs", status=STATUS.STARTED))
    assert interrupted.is_under_way(instance, "refresh_job", now)
    assert not interrupted.is_under_way(instance, "refresh_job", now + interrupted.MAX_RUNTIME + timedelta(minutes=1))
    assert interrupted.close(data / "runs", instance, now) == []
    later = now + interrupted.MAX_RUNTIME + timedelta(minutes=1)
    assert [each.run_id for each in interrupted.close(data / "runs", instance, later)] == ["hangs"]
    assert interrupted.close(data / "runs", instance, later) == []


def test_lock_of_a_run_is_taken_where_another_process_removes_the_file(
    data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking it, the look of another process may find it free."""
    opened, real = [], os.open

    def open_and_look(path: Path, flags: int, *mode: int) -> int:
        descriptor = real(path, flags, *mode)
        opened.append(path)
        if len(opened) == 1:
            monkeypatch.setattr(os, "open", real)
            assert interrupted.close(data / "runs", instance, datetime.now(UTC)) == []
            monkeypatch.setattr(os, "open", open_and_look)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_look)
    interrupted.hold(data / "runs", "a-run")

    assert len(opened) == 2
    monkeypatch.setattr(os, "open", real)
    instance.add_run(dg.DagsterRun("refresh_job", run_id="a-run", status=STATUS.STARTED))
    assert interrupted.close(data / "runs", instance, datetime.now(UTC)) == []


def test_run_goes_on_where_its_lock_cannot_be_made(data: Path) -> None:
    (data / "runs").write_text("a file")
    interrupted.hold(data / "runs", "another-run")


def test_run_whose_code_server_closed_it_without_a_reason_is_started_again(
    data: Path, instance: dg.DagsterInstance
) -> None:
    (data / "runs").mkdir()
    for run_id, reason in (("killed", {}), ("failed", {interrupted.REASON_TAG: "STEP_FAILURE"})):
        (data / "runs" / run_id).touch()
        instance.add_run(dg.DagsterRun("hourly_job", run_id=run_id, status=STATUS.FAILURE, tags=reason))
    assert interrupted.close(data / "runs", instance, datetime.now(UTC)) == []
    assert list((data / "runs").iterdir()) == []
    reasons = {run.run_id: run.tags[interrupted.REASON_TAG] for run in instance.get_runs()}
    assert reasons == {"killed": "UNEXPECTED_TERMINATION", "failed": "STEP_FAILURE"}
