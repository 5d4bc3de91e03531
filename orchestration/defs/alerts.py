"""Failed runs reach a person: the first of a job's failures at once, and each morning what is still failing.

They are notices: through the same ledger and channel as the digest. What goes wrong here is logged and never raised,
for nobody is told of a sensor that fails.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from orchestration import settings
from orchestration.defs import overdue
from orchestration.defs.digest import freeze
from orchestration.defs.resources import Project
from orchestration.ledger import decided, exits
from orchestration.ledger.ledger import State
from orchestration.messages import environment, failures, undelivered
from orchestration.messages import overdue as wording
from orchestration.messages.environment import Cause
from orchestration.messages.failures import Failure
from orchestration.messages.message import Message
from orchestration.usage.periods import latest_digest_date

AFTER_EIGHT = timedelta(minutes=30)
"""When the morning's line is due: the 8am run is over then."""
Status = dg.DagsterRunStatus


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description=(
        "Reports a job's first failure since its last success, once. Goes to Slack, or to the ledger while no token"
        " is set."
    ),
)
def run_failure_alert_sensor(context: dg.RunFailureSensorContext, project: Project) -> None:
    run = context.dagster_run
    steps = context.get_step_failure_events()
    failed = {event.step_key or "" for event in steps}
    assets = context.repository_def.assets_defs_by_key.values() if context.repository_def else ()
    failure = Failure(
        job=run.job_name,
        run_id=run.run_id,
        last_success=last_success(context.instance, run),
        reasons={event.step_key or "": reason(event.step_failure_data) for event in steps}
        or {"": context.failure_event.message or "no reason given"},
        owners=[owner for asset in assets if asset.node_def.name in failed for owner in _owners(asset)],
    )
    alert_failed_run(project, failure)


def last_success(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Id of the newest run of the same job that began before `run` and succeeded."""
    succeeded = dg.RunsFilter(job_name=run.job_name, statuses=[Status.SUCCESS])
    found = instance.get_runs(filters=succeeded, cursor=run.run_id, limit=1)
    return found[0].run_id if found else None


def alert_failed_run(project: Project, failure: Failure) -> State:
    """Prepare and deliver the alert of a failed run; a second call, or a second failure in a row, finds it done."""
    return tell(project, failures.alert(failure, project.settings.slack_channels))


def tell_what_fails(project: Project, instance: dg.DagsterInstance, jobs: Iterable[str]) -> State | None:
    """Half past eight each morning: the jobs whose newest run failed, or that none did. None where it is told."""
    settings, ledger, failing = project.settings, project.ledger(), {}
    on = latest_digest_date(settings.now() - AFTER_EIGHT, settings.zone)
    if decided.exists(ledger, f"{settings.env}|failing|{on}"):
        return None
    for job in jobs:
        over = dg.RunsFilter(job_name=job, statuses=[Status.SUCCESS, Status.FAILURE])
        newest = instance.get_run_records(filters=over, limit=1)
        if newest and newest[0].dagster_run.status is Status.FAILURE:
            failing[job] = datetime.fromtimestamp(newest[0].end_time or newest[0].update_timestamp.timestamp(), UTC)
    waiting = [
        undelivered.sentence(each, settings.zone) for each in exits.stuck(ledger, f"{settings.env}|", settings.now())
    ]
    late = [each.sentence for each in overdue.find(settings, ledger, instance, settings.now())]
    return tell(project, failures.morning(failing, waiting, on, settings.now(), settings.zone, late))


def tell_what_is_overdue(project: Project, instance: dg.DagsterInstance, now: datetime) -> None:
    """Hourly runs of which none has succeeded for two periods, and a digest that did not come: each once."""
    for each in overdue.find(project.settings, project.ledger(), instance, now):
        tell(project, wording.notice(each))


def tell(project: Project, notice: Message) -> State:
    """Freeze and deliver it, and whatever happens, do not raise: it waits in the ledger, or is in the log."""
    log = dg.get_dagster_logger()
    try:
        ways, ledger = project.ways().even_without_file(), project.ledger()
        sent = ways.send_message(ledger, freeze(project, ways, notice, project.settings.now()), log.warning)
        for each in sent:
            if each.error:
                log.error(f"{notice.key} could not be delivered: {each.error}")
        return sent[0].delivery.state if sent else State.GIVEN_UP
    except Exception as error:  # noqa: BLE001 - a full disk, a locked ledger, a wrong setting: the sensor must go on
        log.error(f"{notice.key} could not be delivered: {error}")
        return State.FAILED


def reason(data: Any) -> str:
    """Why a step failed: the sentence of a known failure, the last cause of an unexpected one."""
    if data.user_failure_data and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    causes, error = [], data.error
    while error:
        causes.append(Cause(str(error.cls_name), error.message.strip()))
        error = error.cause or error.context
    said = environment.sentence(causes, settings.load())
    return said or (_last_cause(data.error) if data.error else "no reason given")


def _last_cause(error: Any) -> str:
    while error.cause:
        error = error.cause
    return str(error.message.strip())


def _owners(asset: dg.AssetsDefinition) -> list[str]:
    return [owner for spec in asset.specs for owner in spec.owners]
