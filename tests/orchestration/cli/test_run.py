"""Dagster's home: whose configuration stands there, and where its storage is."""

import gc
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration import settings
from orchestration.cli import failures
from orchestration.cli import run as job
from orchestration.defs import interrupted
from orchestration.defs.event_log import EventLog
from tests.fakes.postgres import Postgres


def test_storage_of_dagster_follows_the_configuration(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = data / "dagster" / "dagster.yaml"
    job.make_dagster_home(settings.load())
    assert path.read_text() == job.DAGSTER_YAML + job.SQLITE_STORAGE
    assert f"max_runtime_seconds: {interrupted.MAX_RUNTIME.total_seconds():.0f}" in job.DAGSTER_YAML
    for earlier in (job.DAGSTER_YAML, *job.EARLIER_DAGSTER_YAML):
        path.write_text(earlier)
        job.make_dagster_home(settings.load())
        assert path.read_text() == job.DAGSTER_YAML + job.SQLITE_STORAGE

    monkeypatch.setenv("HEADROOM_DAGSTER_POSTGRES_URL", "postgresql://u:s3cr3t@host/db")
    job.make_dagster_home(settings.load())
    assert path.read_text() == job.DAGSTER_YAML + job.POSTGRES_STORAGE

    monkeypatch.delenv("HEADROOM_DAGSTER_POSTGRES_URL")
    job.make_dagster_home(settings.load())
    assert path.read_text() == job.DAGSTER_YAML + job.SQLITE_STORAGE


def test_configuration_of_their_own_stays_and_has_to_name_the_storage(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data / "dagster" / "dagster.yaml"
    path.parent.mkdir()
    path.write_text("telemetry: {enabled: false}\n")
    job.make_dagster_home(settings.load())
    assert path.read_text() == "telemetry: {enabled: false}\n"

    monkeypatch.setenv("HEADROOM_DAGSTER_POSTGRES_URL", "postgresql://u:s3cr3t@host/db")
    with pytest.raises(job.UnusableDagsterError, match="is your version and does not use it: add") as caught:
        job.make_dagster_home(settings.load())
    assert "s3cr3t" not in str(caught.value)

    path.write_text("telemetry: {enabled: false}\n" + job.POSTGRES_STORAGE)
    job.make_dagster_home(settings.load())


def test_runs_are_on_postgres_and_those_of_other_machines_are_left_alone(
    data: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_DAGSTER_POSTGRES_URL", postgres.database())
    monkeypatch.setenv("DAGSTER_HOME", str(data / "dagster"))
    gone = {job.PID_TAG: str(2**30)}
    with job._instance(settings.load()) as instance:
        assert type(instance.run_storage).__name__ == "PostgresRunStorage"
        for run_id, host in (("here", os.uname().nodename), ("there", "another")):
            instance.add_run(
                dg.DagsterRun(
                    "hourly_job", run_id=run_id, status=dg.DagsterRunStatus.STARTED, tags={**gone, job.HOST_TAG: host}
                )
            )

    with job._instance(settings.load()) as instance:
        statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses == {"here": dg.DagsterRunStatus.FAILURE, "there": dg.DagsterRunStatus.STARTED}


def test_storage_of_another_dagster_is_a_sentence(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(data / "dagster"))
    config = settings.load()
    job._instance(config).dispose()
    with closing(sqlite3.connect(data / "dagster" / "history" / "runs.db")) as connection:
        connection.execute("alter table runs rename column run_body to body")
    with pytest.raises(Exception, match="run_body") as caught:
        job._instance(config)
    words = failures.sentence_of(caught.value)
    assert words
    assert words.startswith(f"Dagster's storage in {config.dagster_home} is of another version of Dagster. Stop the")
    assert f"`DAGSTER_HOME={config.dagster_home} .venv/bin/dagster instance migrate`" in words


@pytest.mark.parametrize("is_loaded", [False, True])
def test_garbage_is_not_collected_while_dagster_loads(is_loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_loaded:
        monkeypatch.delitem(sys.modules, "dagster")
    frozen = gc.get_freeze_count()
    try:
        with pytest.raises(RuntimeError, match="broken"), job._without_collecting():
            assert gc.isenabled() is is_loaded
            raise RuntimeError("broken")
        assert gc.isenabled()
        assert (gc.get_freeze_count() > frozen) is not is_loaded
    finally:
        gc.unfreeze()


def test_storage_of_a_run_is_opened_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings.load()
    config.export()
    opened: list[str] = []
    make = EventLog.__init__

    def counting(storage: EventLog, base_dir: str, *rest: Any) -> None:
        opened.append(base_dir)
        make(storage, base_dir, *rest)

    monkeypatch.setattr(EventLog, "__init__", counting)
    with job._instance(config) as instance:
        assert type(instance.compute_log_manager).__name__ == "NoOpComputeLogManager"
        assert instance.root_directory == str(data / "dagster")
    assert opened == [str(data / "dagster" / "history" / "runs")]
