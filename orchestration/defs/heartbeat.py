"""The dead man's switch: a monitor hears of each good hourly run and digest, and alerts where it hears nothing.

It needs neither this machine nor Slack to notice that they are down.
"""

import dagster as dg

from orchestration.channels import heartbeat
from orchestration.defs import overdue
from orchestration.defs.overdue import DAILY, HOURLY, HOURLY_WITHIN, ended_at
from orchestration.defs.resources import Project, clock


def build_heartbeat_sensor(project: Project) -> dg.SensorDefinition:
    """Runs where HEADROOM_HEARTBEAT_URL is set, in any environment."""
    url = project.settings.heartbeat_url
    status = dg.DefaultSensorStatus.RUNNING if url else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        minimum_interval_seconds=60,
        default_status=status,
        description=(
            "Requests HEADROOM_HEARTBEAT_URL after each complete and successful hourly_job or daily_job, unless the"
            " digest is overdue. Starts no run."
        ),
    )
    def heartbeat_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if url is None:
            return dg.SkipReason("HEADROOM_HEARTBEAT_URL is not set")
        now = clock()
        found = (overdue.newest_whole_success(context.instance, job) for job in (HOURLY, DAILY))
        succeeded = (record for record in found if record)
        newest = max(succeeded, key=lambda record: (ended_at(record), record.storage_id), default=None)
        if newest is None or newest.dagster_run.run_id == context.cursor:
            return dg.SkipReason("no run has succeeded since the last heartbeat")
        if now - ended_at(newest) > HOURLY_WITHIN:
            return dg.SkipReason(f"the newest successful run ended at {ended_at(newest):%d %b %H:%M} UTC: too old")
        if late := overdue.digest_is_late(project.settings, project.ledger(), context.instance, now):
            return dg.SkipReason(late.sentence)
        if problem := heartbeat.send(url.get_secret_value()):
            context.log.warning(problem)
            return dg.SkipReason(problem)
        return dg.SensorResult(skip_reason="sent to the monitor", cursor=newest.dagster_run.run_id)

    return heartbeat_sensor
