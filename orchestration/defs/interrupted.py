"""Runs whose process ended without a word: killed, out of memory, stopped together with the machine.

Dagster's default launcher cannot ask whether a run still works, so such a run stays in progress and keeps its place in
the queue. Here each run holds a lock on a file of its own, which the kernel releases with the process. The lock needs
no clock, no process ids and no host names, and holds between containers that share the volume: a run that works is
never closed, and one that does not is closed at the next look. Runs of another data folder have no file here; they are
left to `max_runtime`.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg

MAX_RUNTIME = timedelta(hours=6)
"""No job takes so long. Dagster closes a run that does, and nothing waits for one that is older."""
RUNTIME_TAG = {"dagster/max_runtime": f"{MAX_RUNTIME.total_seconds():.0f}"}
"""On the jobs as well as in dagster.yaml: it holds under any dagster.yaml."""
INTERRUPTED = "Its process was killed, or stopped with its machine. The next run does the remaining work."
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
REASON_TAG = "dagster/failure_reason"
BY_HAND_TAG = "headroom/pid"
"""Of `headroom run`, which somebody watches."""
AGAIN = "again|"
"""What the key of a run begins with that was started in place of an interrupted one."""
_held: dict[str, int] = {}
"""Open and locked files by run. A process ends after its run; only tests have many in one."""
_HELD_AT_MOST = 8


def hold(folder: Path, run_id: str) -> None:
    """Show that this process works on the run, until it ends.

    Where the file cannot be made (a full disk), the run goes on without: it has worse to report.
    """
    if run_id in _held:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / run_id
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(path, descriptor):
                break
            os.close(descriptor)  # removed between the two calls, as a file that nobody holds
        _held[run_id] = descriptor
    while len(_held) > _HELD_AT_MOST:
        os.close(_held.pop(next(iter(_held))))


def interrupted(folder: Path, instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs in progress whose process is gone. Changes nothing."""
    return [run for _, run in _left(folder, instance) if run and not run.is_finished]


def close(folder: Path, instance: dg.DagsterInstance, now: datetime) -> list[dg.DagsterRun]:
    """End the runs whose process is gone, so that they hold no place in the queue; those that were ended.

    Of a run without a file here nothing is known: an earlier version or another machine started it. It is ended when it
    is older than any run can be.
    """
    closed = []
    for record in too_old(instance, now):
        if not (folder / record.dagster_run.run_id).exists():
            instance.report_run_failed(record.dagster_run, f"Still in progress after {MAX_RUNTIME}: closed.")
            closed.append(record.dagster_run)
    for path, run in _left(folder, instance):
        if run and run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, INTERRUPTED)
        elif run and (not run.is_finished or _has_ended_without_reason(run)):
            instance.add_run_tags(run.run_id, {REASON_TAG: "UNEXPECTED_TERMINATION"})
            if not run.is_finished:
                instance.report_run_failed(run, INTERRUPTED)
        if run and not run.is_finished:
            closed.append(run)
        path.unlink(missing_ok=True)
    return closed


def is_under_way(instance: dg.DagsterInstance, job: str, now: datetime) -> bool:
    """Whether a run of the job waits or works. One that is older than any run can be does neither."""
    young = dg.RunsFilter(job_name=job, statuses=IN_PROGRESS, created_after=now - MAX_RUNTIME)
    return bool(instance.get_runs(filters=young, limit=1))


def too_old(instance: dg.DagsterInstance, now: datetime) -> list[dg.RunRecord]:
    """Runs that began longer ago than any run can take. Dagster's daemon closes them, where it runs."""
    begun, limit = [*IN_PROGRESS[2:], dg.DagsterRunStatus.CANCELING], now - MAX_RUNTIME
    records = instance.get_run_records(filters=dg.RunsFilter(statuses=begun, created_before=limit))
    return [each for each in records if (each.start_time or each.create_timestamp.timestamp()) < limit.timestamp()]


def _left(folder: Path, instance: dg.DagsterInstance) -> Iterator[tuple[Path, dg.DagsterRun | None]]:
    """Each file that no process holds, locked while the caller looks at it, with its run where Dagster knows one."""
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, PermissionError):  # removed a moment ago; of another user, for `headroom doctor`
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                yield path, instance.get_run_by_id(path.name)
        except BlockingIOError:
            continue  # it works
        finally:
            os.close(descriptor)


def _has_ended_without_reason(run: dg.DagsterRun) -> bool:
    """A code server that outlives its run closes it itself, and gives no reason; a run that fails gives one."""
    return run.status is dg.DagsterRunStatus.FAILURE and REASON_TAG not in run.tags


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def to_start_again(
    instance: dg.DagsterInstance, jobs: list[str], known: str | None, now: datetime
) -> tuple[list[dg.RunRequest], str]:
    """A run in place of each that was interrupted, once, and what is known then: for a sensor and its cursor.

    Not in place of a run by hand, of one that was such a second try itself, or where the job has been started since.
    """
    ended = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={REASON_TAG: ["UNEXPECTED_TERMINATION", "START_TIMEOUT"]},
        created_after=now - MAX_RUNTIME,
    )
    found = [run for run in instance.get_runs(filters=ended) if run.job_name in jobs]
    seen = set(json.loads(known or "[]"))
    requests = []
    for run in found:
        is_second = run.tags.get("dagster/run_key", "").startswith(AGAIN)
        if run.run_id in seen or is_second or BY_HAND_TAG in run.tags:
            continue
        [newest] = instance.get_runs(filters=dg.RunsFilter(job_name=run.job_name), limit=1)
        if newest.run_id == run.run_id:
            requests.append(
                dg.RunRequest(
                    run_key=f"{AGAIN}{run.run_id}",
                    job_name=run.job_name,
                    partition_key=run.tags.get("dagster/partition"),
                    asset_selection=sorted(run.asset_selection) if run.asset_selection else None,
                )
            )
    return requests, json.dumps(sorted(run.run_id for run in found))
