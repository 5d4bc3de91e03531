"""Dagster's migrations are read once, and a home that is made so is one of Dagster's own."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from orchestration.cli import run as job
from orchestration.defs import dagster_migrations
from orchestration.defs.dagster_migrations import _read


def make_home(folder: Path, patch: pytest.MonkeyPatch, storage: str = "") -> dict[str, str]:
    """The version of each database of a home in which something ran."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text(job.DAGSTER_YAML + storage)
    patch.setenv("DAGSTER_HOME", str(folder))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        run = dg.materialize([counted], instance=instance).run_id
    files = {path.stem.replace(run, "run"): path for path in folder.rglob("*.db")}
    return {name: version(path) for name, path in files.items()}


@dg.asset
def counted() -> None:
    """Of nothing."""


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        [(found,)] = connection.execute("select version_num from alembic_version")
    return str(found)


def test_new_home_has_the_versions_that_dagster_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()

    def count(cls: type[ScriptDirectory], config: Config) -> ScriptDirectory:
        read[str(config.get_main_option("script_location"))] += 1
        found: ScriptDirectory = _read(cls, config)
        return found

    monkeypatch.setattr(ScriptDirectory, "from_config", classmethod(count))
    theirs = make_home(tmp_path / "theirs", monkeypatch)
    assert set(theirs) == {"runs", "schedules", "index", "run"}
    [(place, often)] = read.items()
    assert often > 4, "this version of Dagster still reads them for each database"

    monkeypatch.setattr(dagster_migrations, "_read", count)
    monkeypatch.setattr(dagster_migrations, "_kept", {})
    dagster_migrations.keep()
    read.clear()
    assert make_home(tmp_path / "ours", monkeypatch, job.SQLITE_STORAGE) == theirs
    assert read == {place: 1}


def test_migrations_of_others_are_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptDirectory, "from_config", ScriptDirectory.from_config)  # as it is afterwards
    dagster_migrations.keep()
    config = Config()
    config.set_main_option("script_location", str(tmp_path))

    assert ScriptDirectory.from_config(config) is not ScriptDirectory.from_config(config)
