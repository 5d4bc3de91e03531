"""The whole job in this process, as `headroom run` does it, and the Dagster home that it shares with the UI.

Dagster and dbt are imported only when something runs: the other commands answer at once. Nothing is printed here.
"""

import gc
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.settings import Settings
from orchestration.usage.periods import latest_digest_date
from orchestration.warehouse.dbt import DbtProject

if TYPE_CHECKING:
    import dagster as dg

DAGSTER_YAML = """\
# Written once by `headroom`; yours to change.
telemetry: {enabled: false}
nux: {enabled: false}
run_monitoring: {enabled: true, max_runtime_seconds: 21600}
concurrency: {runs: {max_concurrent_runs: 2}}
run_coordinator: # people wait for what they start: the queue is looked at each second, not each fifth
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
"""
SQLITE_STORAGE = """\
event_log_storage: # Dagster's files, with less waiting
  module: orchestration.defs.event_log
  class: EventLog
  config: {home: {env: DAGSTER_HOME}}
"""
_WITHOUT_COORDINATOR = DAGSTER_YAML.partition("run_coordinator")[0]
EARLIER_DAGSTER_YAML = (_WITHOUT_COORDINATOR, _WITHOUT_COORDINATOR.replace(", max_runtime_seconds: 21600", ""))
"""What earlier versions wrote: nobody has changed it, and this version's takes its place."""
POSTGRES_STORAGE = """\
# Runs, events, schedules. The rest (logs of steps, this file) stays in this folder.
storage:
  postgres:
    postgres_url: {env: HEADROOM_DAGSTER_POSTGRES_URL}
"""
FORGOTTEN_AT_ONCE = 10
"""Old runs that a run removes from Dagster's history: it adds one."""
PID_TAG, HOST_TAG = "headroom/pid", "headroom/host"


class UnusableDagsterError(RuntimeError):
    """Dagster's home or storage cannot be used as configured. The message says why and what to do."""


class RunStep(StrEnum):
    """What `headroom run --only` can run."""

    INGEST = "ingest"
    MODELS = "models"
    DIGEST = "digest"
    STRIPE = "stripe"
    NOTICES = "notices"
    POSTGRES = "postgres"


@dataclass(frozen=True)
class StepResult:
    """A step that ended, in the run's order. A step that was skipped has neither seconds nor an error."""

    name: str
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class RunResult:
    """One run and how it ended, as plain data."""

    run_id: str
    is_success: bool
    on: str
    """Date of the digest, ISO 8601."""
    load_seconds: float
    steps: Sequence[StepResult]
    figures: Mapping[str, Mapping[str, Any]]
    """What each asset's materialization says, by asset key and name."""


def run(config: Settings, only: RunStep | None = None) -> RunResult:
    """Run the job, or one part of it, to its end; a failed step is in the outcome, not raised."""
    started = time.perf_counter()
    if only in (None, RunStep.MODELS):
        DbtProject.of(config).warm()
    with _without_collecting():
        import dagster as dg

        from orchestration.definitions import headroom
        from orchestration.defs import interrupted
        from orchestration.defs.history import forget_old_runs

        instance = _instance(config)
        on = latest_digest_date(config.now(), config.zone).isoformat()
        # a plain `headroom` is a definitions loader; calling it builds the same definitions that the UI loads
        is_hourly = only is RunStep.NOTICES  # whose job has no partitions
        job = headroom().resolve_job_def("hourly_job" if is_hourly else "daily_job")
    run_id = str(uuid.uuid4())
    interrupted.hold(config.runs, run_id)  # before Dagster knows the run: there is no moment to be killed in between
    loaded = time.perf_counter()
    with dg.partition_loading_context(effective_dt=config.now()):  # a replay's clock may be ahead of the real one
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            partition_key=None if is_hourly else on,
            asset_selection=_asset_selection(only),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={PID_TAG: str(os.getpid()), HOST_TAG: socket.gethostname()},
            raise_on_error=False,
        )
    forget_old_runs(instance, datetime.now(UTC), FORGOTTEN_AT_ONCE)  # where no daemon runs, nothing else does it
    return RunResult(result.run_id, result.success, on, loaded - started, _steps(result), _figures(result))


@contextmanager
def _without_collecting() -> Iterator[None]:
    """While Dagster is imported and defined nothing becomes garbage. Looking for it costs a third of the imports."""
    is_first = "dagster" not in sys.modules and gc.isenabled()
    if is_first:
        gc.disable()
    try:
        yield
    finally:
        if is_first:
            gc.freeze()  # nor does a later collection look through what was loaded
            gc.enable()


def _steps(result: "dg.ExecuteInProcessResult") -> list[StepResult]:
    import dagster as dg

    from orchestration.defs.alerts import reason

    steps = []
    for event in result.all_events:
        if event.is_step_success:
            steps.append(StepResult(str(event.step_key), seconds=event.step_success_data.duration_ms / 1000))
        elif event.is_step_failure:
            steps.append(StepResult(str(event.step_key), error=reason(event.step_failure_data)))
        elif event.event_type is dg.DagsterEventType.STEP_SKIPPED:
            steps.append(StepResult(str(event.step_key)))
    return steps


def _figures(result: "dg.ExecuteInProcessResult") -> dict[str, dict[str, Any]]:
    import dagster as dg

    figures = {}
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key:
            metadata = event.step_materialization_data.materialization.metadata
            figures[event.asset_key.to_user_string()] = {name: entry.value for name, entry in metadata.items()}
    return figures


def make_dagster_home(config: Settings) -> None:
    """Dagster's home and its configuration, unless somebody has one of their own there.

    :raises UnusableDagsterError: theirs says nothing of the Postgres that is configured.
    """
    config.dagster_home.mkdir(parents=True, exist_ok=True)
    path = config.dagster_home / "dagster.yaml"
    storages = (SQLITE_STORAGE, POSTGRES_STORAGE, "")
    ours = [text + storage for text in (DAGSTER_YAML, *EARLIER_DAGSTER_YAML) for storage in storages]
    wanted = ours[bool(config.postgres_dagster)]
    found = path.read_text() if path.exists() else None
    if found is None or (found in ours and found != wanted):
        path.write_text(wanted)
    elif config.postgres_dagster and "HEADROOM_DAGSTER_POSTGRES_URL" not in found:
        raise UnusableDagsterError(
            f"HEADROOM_DAGSTER_POSTGRES_URL is set, but {path} is your version and does not use it:"
            f" add\n{POSTGRES_STORAGE}or delete it, and run again"
        )


def dagster_instance() -> "dg.DagsterInstance":
    """Dagster's storage, to be read and closed."""
    import dagster as dg

    return dg.DagsterInstance.get()


def last_heartbeat() -> datetime | None:
    """When a daemon last said that it lives; None where none ever did. Dagster's own storage is asked."""
    with dagster_instance() as instance:
        beats = instance.get_daemon_heartbeats().values()
        return max((datetime.fromtimestamp(beat.timestamp, UTC) for beat in beats), default=None)


def _asset_selection(only: RunStep | None) -> "list[dg.AssetKey] | None":
    if only is None:
        return None
    from orchestration.definitions import headroom
    from orchestration.defs import automation

    selection = {
        RunStep.INGEST: automation.INGEST,
        RunStep.MODELS: automation.MODELS,
        RunStep.DIGEST: automation.DIGEST,
        RunStep.STRIPE: automation.STRIPE,
        RunStep.NOTICES: automation.NOTICES,
        RunStep.POSTGRES: automation.POSTGRES,
    }[only]
    return sorted(selection.resolve(headroom().resolve_asset_graph()))


def _instance(config: Settings) -> "dg.DagsterInstance":
    """Dagster's instance; runs that were killed are closed, so that the UI does not show them alive."""
    from orchestration.defs import dagster_migrations, interrupted

    make_dagster_home(config)
    dagster_migrations.keep()
    instance = _without_output()
    interrupted.close(config.runs, instance, datetime.now(UTC))
    _close_runs_of_earlier_versions(config, instance)
    return instance


def _close_runs_of_earlier_versions(config: Settings, instance: "dg.DagsterInstance") -> None:
    """`headroom run` of a version without a lock for each run: its process id is all that is known."""
    import dagster as dg

    status = dg.DagsterRunStatus
    alive = dg.RunsFilter(statuses=[status.NOT_STARTED, status.STARTING, status.STARTED])
    for dagster_run in instance.get_runs(filters=alive):
        is_ours = dagster_run.tags.get(HOST_TAG) == socket.gethostname()  # the storage may be that of several machines
        has_lock = (config.runs / dagster_run.run_id).exists()
        pid = dagster_run.tags.get(PID_TAG) if is_ours and not has_lock else None
        if pid and not Path("/proc", pid).exists() and not _is_running(int(pid)):
            instance.report_run_failed(dagster_run, f"process {pid} was killed")


def _without_output() -> "dg.DagsterInstance":
    """Dagster's instance of this environment, but that what steps print goes to this terminal alone, not into files.

    Dagster starts three processes a step for that, and each prints a traceback at Ctrl-C.
    """
    import dagster as dg
    from dagster._core.instance.ref import InstanceRef

    ref = InstanceRef.from_dir(os.environ["DAGSTER_HOME"])
    copies = ref.compute_logs_data._replace(
        module_name="dagster._core.storage.noop_compute_log_manager",
        class_name="NoOpComputeLogManager",
        config_yaml="{}",
    )
    return dg.DagsterInstance.from_ref(ref._replace(compute_logs_data=copies))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
