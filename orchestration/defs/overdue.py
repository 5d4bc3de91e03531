"""Whether the schedules have come to something: asked by the notices sensor, the heartbeat and `headroom doctor`.

A failed run is announced by itself. This is for runs that hang, wait or are never started.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from orchestration.defs.digest import stale_key
from orchestration.ledger import decided
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.outbox import DONE, OVER
from orchestration.messages import overdue
from orchestration.messages.digest import digest_key
from orchestration.messages.overdue import Obstacle, Overdue, obstacle
from orchestration.settings import Settings
from orchestration.usage.periods import digest_due_at, latest_digest_date

HOURLY_WITHIN = timedelta(hours=2, minutes=10)
"""Two periods, and the time that the second run takes."""
DIGEST_WITHIN = timedelta(hours=1)
LONG = timedelta(hours=1)
"""A run that has been under way for so long is what the others wait for."""
PARTS = 30
"""More runs of a part of the job than there are between two of the whole: parts are tried again 12 times an hour."""
HOURLY, DAILY, PARTITION = "hourly_job", "daily_job", "dagster/partition"
Status = dg.DagsterRunStatus


def find(settings: Settings, ledger: Ledger, instance: dg.DagsterInstance, now: datetime) -> list[Overdue]:
    """What is overdue at `now`. Nothing is, where the job or the digest never was."""
    return [each for each in (_hourly(instance, now), digest_is_late(settings, ledger, instance, now)) if each]


def newest_whole_success(instance: dg.DagsterInstance, job: str) -> dg.RunRecord | None:
    """The job's newest run that succeeded with all of its assets, not only a part that was tried again."""
    succeeded = dg.RunsFilter(job_name=job, statuses=[Status.SUCCESS])
    return next(filter(_is_whole, instance.get_run_records(filters=succeeded, limit=PARTS)), None)


def _hourly(instance: dg.DagsterInstance, now: datetime) -> Overdue | None:
    last = newest_whole_success(instance, HOURLY)
    if last:
        since, run_id = ended_at(last), last.dagster_run.run_id
    else:
        first = instance.get_run_records(filters=dg.RunsFilter(job_name=HOURLY), limit=1, ascending=True)
        if not first:
            return None
        since, run_id = first[0].create_timestamp.astimezone(UTC), None
    if now - since <= HOURLY_WITHIN:
        return None
    return overdue.hourly(since, run_id, _obstacle(instance, dg.RunsFilter(job_name=HOURLY), since, now))


def digest_is_late(settings: Settings, ledger: Ledger, instance: dg.DagsterInstance, now: datetime) -> Overdue | None:
    """The latest digest, an hour after 8am: not sent, not given up, and not announced as waiting for fresh data."""
    on = latest_digest_date(now, settings.zone)
    due = digest_due_at(on, settings.zone)
    if now - due < DIGEST_WITHIN:
        return None
    deliveries = decided.deliveries_of(ledger, digest_key(settings.env, on.isoformat()))
    if waiting := [each for each in deliveries if each.state not in (*DONE, *OVER)]:
        return overdue.digest(on, True, waiting[0].error or "`headroom deliveries` says why")
    if deliveries:
        return None
    if decided.exists(ledger, stale_key(settings.env, on.isoformat())):
        return None  # announced, with its reason
    with ledger.transaction() as connection:
        if decided.last_digest_at(connection, settings.env) is None:
            return None
    of_day = dg.RunsFilter(job_name=DAILY, tags={PARTITION: on.isoformat()})
    return overdue.digest(on, False, _obstacle(instance, of_day, due, now))


def _obstacle(instance: dg.DagsterInstance, runs: dg.RunsFilter, since: datetime, now: datetime) -> str:
    job = str(runs.job_name)
    works = dg.RunsFilter(statuses=[Status.STARTING, Status.STARTED, Status.CANCELING])
    for record in instance.get_run_records(filters=works, limit=1, ascending=True):
        at = _started_at(record)
        if now - at > LONG:
            return obstacle(Obstacle.UNDER_WAY, record.dagster_run.job_name, record.dagster_run.run_id, at)
    for record in filter(_is_whole, instance.get_run_records(filters=runs, limit=PARTS)):
        status, run_id = record.dagster_run.status, record.dagster_run.run_id
        if status in (Status.FAILURE, Status.CANCELED) and ended_at(record) >= since:
            return obstacle(Obstacle.FAILED, job, run_id, ended_at(record))
        if not record.dagster_run.is_finished:
            return obstacle(Obstacle.WAITING, job, run_id, record.create_timestamp.astimezone(UTC))
        break
    return obstacle(Obstacle.NONE, job)


def _is_whole(record: dg.RunRecord) -> bool:
    return not record.dagster_run.asset_selection


def ended_at(record: dg.RunRecord) -> datetime:
    return datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)


def _started_at(record: dg.RunRecord) -> datetime:
    return datetime.fromtimestamp(record.start_time or record.create_timestamp.timestamp(), UTC)
