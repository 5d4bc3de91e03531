"""A small code location for the tests of killed services: one job, whose run works until it may end.

Its sensor, its resource and its lock are those of the real one; it loads no models.
"""

import os
from pathlib import Path

import dagster as dg

from orchestration.defs import interrupted
from orchestration.defs.resources import Project, clock
from tests.support.waiting import wait_until


@dg.op
def work(context: dg.OpExecutionContext, project: Project) -> None:
    data = project.settings.data
    (data / f"{context.run_id}.pid").write_text(str(os.getpid()))
    wait_until(lambda: (data / "may-end").exists())


@dg.job(tags=interrupted.RUNTIME_TAG)
def refresh_job() -> None:
    work()


@dg.sensor(job=refresh_job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def wanted_sensor(project: Project) -> list[dg.RunRequest]:
    """A run for each file that a test puts there."""
    return [dg.RunRequest(run_key=path.name) for path in Path(project.settings.data).glob("wanted-*")]


@dg.sensor(job=refresh_job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def interrupted_runs_sensor(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult:
    """What the real one does, more often."""
    interrupted.close(project.settings.runs, context.instance, clock())
    requests, known = interrupted.to_start_again(context.instance, ["refresh_job"], context.cursor, clock())
    return dg.SensorResult(run_requests=requests, cursor=known)


definitions = dg.Definitions(
    jobs=[refresh_job],
    sensors=[wanted_sensor, interrupted_runs_sensor],
    resources={"project": Project()},
    executor=dg.in_process_executor,
)
