"""Dagster's history stays small: old runs go, and what the UI and the alerts ask for stays."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._utils.error import SerializableErrorInfo

from orchestration.defs import history
from orchestration.defs.alerts import last_success
from orchestration.defs.history import Kept, forget_old_runs, history_sensor
from tests.fakes.postgres import Postgres

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_offset=1)


@dg.asset(check_specs=[dg.AssetCheckSpec("is_good", asset="numbers")])
def numbers(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    if context.run.tags.get("fail"):
        raise dg.Failure("as it was asked to")
    yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="is_good")])


@dg.asset(partitions_def=DAYS)
def usage_digest() -> None: ...


DEFINITIONS = dg.Definitions(
    assets=[numbers, usage_digest],
    jobs=[
        dg.define_asset_job("refresh_job", [numbers]),
        dg.define_asset_job("hourly_job", [numbers]),
        dg.define_asset_job("daily_job", [usage_digest]),
    ],
)


@pytest.fixture(params=["sqlite", "postgres"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    storage = ""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        storage = f"storage: {{postgres: {{postgres_url: '{server.database()}'}}}}\n"
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n" + storage)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def local(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, job: str, partition: str | None = None, **tags: str) -> str:
    found = DEFINITIONS.resolve_job_def(job)
    result = found.execute_in_process(
        instance=instance, partition_key=partition, tags=tags, raise_on_error=False, run_config=QUIET
    )
    assert result.success is ("fail" not in tags)
    return result.run_id


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def after(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def left(instance: dg.DagsterInstance) -> set[str]:
    return {each.run_id for each in instance.get_runs()}


def test_runs_go_by_age_and_what_is_asked_for_stays(instance: dg.DagsterInstance) -> None:
    digests = [run(instance, "daily_job", f"2024-01-0{day}") for day in (1, 2, 2)]
    failed = run(instance, "refresh_job", fail="yes")
    refreshes = [run(instance, "refresh_job") for _ in range(2)]
    hours = [run(instance, "hourly_job") for _ in range(2)]
    everything = left(instance)

    assert forget_old_runs(instance, after(0.5)) == 0
    assert forget_old_runs(instance, after(2)) == 1
    assert left(instance) == everything - {refreshes[0]}
    assert forget_old_runs(instance, after(8)) == 1
    assert left(instance) == everything - {refreshes[0], hours[0]}
    assert forget_old_runs(instance, after(31)) == 2
    assert left(instance) == {digests[0], digests[2], refreshes[1], hours[1]}  # of the second day the last one
    assert failed not in left(instance)
    later = run(instance, "refresh_job", fail="yes")
    assert last_success(instance, instance.get_run_by_id(later) or pytest.fail()) == refreshes[1]
    assert forget_old_runs(instance, after(401)) == 1
    assert left(instance) == {digests[2], refreshes[1], hours[1], later}

    for key in (numbers.key, usage_digest.key):
        assert instance.get_latest_materialization_event(key)
    assert isinstance(instance.event_log_storage, SqlEventLogStorage)
    with instance.event_log_storage.index_connection() as connection:
        evaluated = "select run_id from asset_check_executions where execution_status = 'SUCCEEDED'"
        assert {run_id for (run_id,) in connection.execute(sa.text(evaluated))} == {refreshes[1], hours[1]}


def test_nothing_of_a_removed_run_is_left(local: dg.DagsterInstance, tmp_path: Path) -> None:
    gone, kept = (run(local, "refresh_job") for _ in range(2))
    assert list(tmp_path.rglob(f"*{gone}*"))

    assert forget_old_runs(local, after(2)) == 1

    assert not list(tmp_path.rglob(f"*{gone}*"))
    assert list(tmp_path.rglob(f"*{kept}*"))
    for path, table in (
        (tmp_path / "history/runs/index.db", "event_logs"),
        (tmp_path / "history/runs/index.db", "asset_check_executions"),
        (tmp_path / "history/runs.db", "run_tags"),
        (tmp_path / "history/runs.db", "runs"),
    ):
        with sqlite3.connect(path) as connection:
            [[count]] = connection.execute(f"select count(*) from {table} where run_id = ?", [gone])
            assert count == 0, table


def test_ticks_go_whatever_the_file_in_the_data_folder_says(local: dg.DagsterInstance) -> None:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("headroom"), "__repository__")
    schedule, sensor = ScheduleInstigatorData("5 * * * *"), SensorInstigatorData()
    states = [
        InstigatorState(repository.get_instigator_origin(name), kind, InstigatorStatus.RUNNING, what)
        for name, kind, what in (
            ("hourly_schedule", InstigatorType.SCHEDULE, schedule),
            ("landing_sensor", InstigatorType.SENSOR, sensor),
        )
    ]
    for state in states:
        local.add_instigator_state(state)
        for status in TickStatus:
            for days in (1, 3, 29, 31):
                local.create_tick(
                    TickData(
                        state.instigator_origin_id,
                        state.instigator_name,
                        state.instigator_type,
                        status,
                        after(-days).timestamp(),
                        run_ids=["run"] if status is TickStatus.SUCCESS else [],
                        error=SerializableErrorInfo("", [], None) if status is TickStatus.FAILURE else None,
                        selector_id=state.selector_id,
                    )
                )
    with dg.build_sensor_context(instance=local) as context:
        history_sensor(context)
    for state in states:
        left = local.get_ticks(state.instigator_origin_id, state.selector_id)
        kept = {status: sum(1 for tick in left if tick.status is status) for status in TickStatus}
        assert kept == {**dict.fromkeys(TickStatus, 3), TickStatus.SKIPPED: 1}


def test_runs_go_by_number_the_oldest_first(local: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(history.SUCCESSES, "refresh_job", Kept(days=1, runs=3))
    runs = [f"run-{number}" for number in range(6)]
    for run_id in runs:
        local.run_storage.add_run(
            dg.DagsterRun(job_name="refresh_job", run_id=run_id, status=dg.DagsterRunStatus.SUCCESS)
        )
    assert forget_old_runs(local, after(0), most=2) == 2
    assert left(local) == set(runs[2:])
    with dg.build_sensor_context(instance=local) as context:
        said = history_sensor(context)
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == "1 old run was removed"
    assert left(local) == set(runs[3:])
