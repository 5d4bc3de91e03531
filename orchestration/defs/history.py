"""How long Dagster remembers runs, with their events, checks and logs, and the ticks of schedules and sensors.

Dagster has no setting for runs. For ticks it has one, but keeps those of schedules for ever where a dagster.yaml says
nothing of them, as ours in the data folder did from the beginning.

On SQLite a run takes more than 2 MB. While events arrive there are hundreds of refreshes a day, beside hourly runs.
Never removed are a run that is not over, the newest success of each job, which alerts ask for, and the run by which an
asset was last materialized or a check last evaluated: without it the UI would show a healthy asset as missing.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.runs import SqlRunStorage

from orchestration.defs.resources import clock

Status = dg.DagsterRunStatus
OVER = [Status.SUCCESS, Status.FAILURE, Status.CANCELED]
DIGEST = dg.AssetKey("usage_digest")
AT_ONCE = 200
"""Runs that one look removes at most: one takes 30 ms, and a sensor has 60 seconds."""


@dataclass(frozen=True)
class Kept:
    """For how many days runs that are over stay, and how many of them at most."""

    days: int
    runs: int


SUCCESSES = {
    "refresh_job": Kept(days=1, runs=100),
    "alerts_job": Kept(days=1, runs=100),
    "hourly_job": Kept(days=7, runs=200),
}
"""What succeeded of these jobs says little that the next run does not."""
OTHERS = Kept(days=30, runs=1_000)
DIGEST_DAYS = 400
"""For which the run stays that last materialized the digest of a day: one a day."""

TICK_DAYS = {TickStatus.SKIPPED: 2, TickStatus.SUCCESS: 30, TickStatus.FAILURE: 30, TickStatus.STARTED: 30}
"""As in deploy/dagster.yaml. The landing sensor has a tick every 30 seconds."""


@dg.sensor(
    minimum_interval_seconds=3600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Removes old runs from Dagster's history each hour. Keeps successful refreshes and alert runs for a day, and"
        " successful hourly runs for a week. Keeps digest runs for 400 days and others for 30 days. Also removes old"
        " ticks. Starts no run."
    ),
)
def history_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    now = clock()
    forget_old_ticks(context.instance, now)
    count = forget_old_runs(context.instance, now)
    if not count:
        return dg.SkipReason("no run is old enough to remove")
    return dg.SkipReason(f"{count:,} old {'run was' if count == 1 else 'runs were'} removed")


def forget_old_runs(instance: dg.DagsterInstance, now: datetime, most: int = AT_ONCE) -> int:
    """Remove runs that are older, or more, than what is kept, the oldest first; how many. Safe beside runs."""
    needed = _needed(instance, now)
    old = [run_id for run_id in dict.fromkeys(_old(instance, now, most + len(needed))) if run_id not in needed][:most]
    for run_id in old:
        _forget(instance, run_id)
    return len(old)


def forget_old_ticks(instance: dg.DagsterInstance, now: datetime) -> None:
    """Of each schedule and sensor that ever ran here."""
    for state in instance.all_instigator_state():
        for status, days in TICK_DAYS.items():
            before = (now - timedelta(days=days)).timestamp()
            instance.purge_ticks(state.instigator_origin_id, state.selector_id, before, [status])


def _old(instance: dg.DagsterInstance, now: datetime, most: int) -> Iterator[str]:
    for job, kept in SUCCESSES.items():
        yield from _beyond(instance, dg.RunsFilter(job_name=job, statuses=[Status.SUCCESS]), kept, now, most)
    yield from _beyond(instance, dg.RunsFilter(statuses=OVER), OTHERS, now, most)


def _beyond(instance: dg.DagsterInstance, runs: dg.RunsFilter, kept: Kept, now: datetime, most: int) -> Iterator[str]:
    """Those of the runs that are not kept, the oldest first."""
    before = now - timedelta(days=kept.days)
    newest = instance.get_run_records(runs, limit=kept.runs)
    if len(newest) == kept.runs:
        before = max(before, newest[-1].create_timestamp)
    older = dg.RunsFilter(job_name=runs.job_name, statuses=runs.statuses, created_before=before)
    for record in instance.get_run_records(older, limit=most, ascending=True):
        yield record.dagster_run.run_id


def _needed(instance: dg.DagsterInstance, now: datetime) -> set[str]:
    """Runs that something of today refers to."""
    needed = {*_newest_successes(instance), *_runs_of_checks(instance), *_runs_of_digests(instance, now)}
    for record in instance.get_asset_records():
        last = record.asset_entry.last_materialization_record
        needed |= {record.asset_entry.last_run_id or "", last.run_id if last else ""}
    return needed


def _newest_successes(instance: dg.DagsterInstance) -> Iterable[str]:
    """Of each job, also of one that was started by hand from the graph of assets."""
    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage):
        return []
    with storage.connect() as connection:
        newest = "select max(id) from runs where status = 'SUCCESS' group by pipeline_name"
        return [run_id for (run_id,) in connection.execute(sa.text(f"select run_id from runs where id in ({newest})"))]


def _runs_of_checks(instance: dg.DagsterInstance) -> Iterable[str]:
    """Where each check was last evaluated, and where it was last to be."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return []
    with storage.index_connection() as connection:
        latest = "select max(id) from asset_check_executions"
        ids = (
            f"{latest} group by asset_key, check_name"
            f" union {latest} where execution_status != 'PLANNED' group by asset_key, check_name"
        )
        found = connection.execute(sa.text(f"select run_id from asset_check_executions where id in ({ids})"))
        return [run_id for (run_id,) in found]


def _runs_of_digests(instance: dg.DagsterInstance, now: datetime) -> Iterable[str]:
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        DIGEST, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    if not ids:
        return []
    after = (now - timedelta(days=DIGEST_DAYS)).timestamp()
    filters = dg.AssetRecordsFilter(asset_key=DIGEST, storage_ids=list(ids.values()), after_timestamp=after)
    found = instance.fetch_materializations(filters, limit=len(ids))
    return [record.run_id for record in found.records]


def _forget(instance: dg.DagsterInstance, run_id: str) -> None:
    """The run, its events, and what Dagster itself leaves of a deleted run: checks, tags on SQLite, files."""
    instance.delete_run(run_id)
    events, runs = instance.event_log_storage, instance.run_storage
    if isinstance(events, SqlEventLogStorage):
        with events.index_connection() as connection:
            _delete(connection, "asset_check_executions", run_id)
    if isinstance(runs, SqlRunStorage):
        with runs.connect() as connection:
            _delete(connection, "run_tags", run_id)
    if isinstance(events, SqliteEventLogStorage):
        for ending in ("", "-wal", "-shm", "-journal"):
            Path(events.path_for_shard(run_id) + ending).unlink(missing_ok=True)
    with suppress(NotImplementedError):  # a manager of logs elsewhere may not delete: that store has rules of its own
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    with suppress(OSError):
        shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)


def _delete(connection: sa.Connection, table: str, run_id: str) -> None:
    connection.execute(sa.text(f"delete from {table} where run_id = :run_id"), {"run_id": run_id})
