"""Failed runs reach a person: one message a run, through the same ledger and channel as the digest."""

import dagster as dg

from orchestration.defs.resources import Project, clock
from orchestration.delivery.ledger import State
from orchestration.delivery.outbox import InDoubtError, RefusedError, deliver


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Reports each failed run once: to Slack, or to the ledger while there is no token.",
)
def run_failure_alert_sensor(context: dg.RunFailureSensorContext, project: Project) -> None:
    alert_failed_run(project, context.dagster_run.run_id, context.dagster_run.job_name, context.failure_event.message)


def alert_failed_run(project: Project, run_id: str, job_name: str, reason: str | None) -> State:
    """Prepare and deliver the alert of one failed run; a second call finds it done."""
    settings, ledger = project.settings, project.ledger()
    key = f"{settings.env}|run_failure|{run_id}"
    text = f"Headroom's {job_name} failed (run {run_id[:8]}): {(reason or 'no reason given')[:500]}"
    with ledger.transaction() as connection:
        if ledger.delivery(key, connection) is None:
            ledger.prepare(connection, key, "slack", {"audience": "data", "message": {"text": text}}, settings.now())
    try:
        return deliver(ledger, key, project.slack(), clock).state
    except (RefusedError, InDoubtError, ValueError) as error:
        dg.get_dagster_logger().error(f"the alert of run {run_id} could not be delivered: {error}")
        return State.FAILED
