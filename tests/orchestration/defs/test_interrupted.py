"""Runs whose process was killed: closed at the next look, those of living processes never; each started once more."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from orchestration import settings
from orchestration.cli import run as job
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
