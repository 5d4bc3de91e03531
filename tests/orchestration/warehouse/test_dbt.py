"""What dbt parsed serves every data folder, for as long as the project is the same."""

import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestration.warehouse.dbt import DbtProject, _Worker
from orchestration.warehouse.duckdb import DuckDbEngine
from tests.support.duckdb_file import opened

FILES = {
    "dbt_project.yml": "{name: small, version: '1.0.0', profile: small, flags: {send_anonymous_usage_stats: false}}",
    "profiles.yml": """
small:
  target: duckdb
  outputs: {duckdb: {type: duckdb, path: "{{ env_var('HEADROOM_DATA', '../data') }}/warehouse.duckdb"}}
""",
    "models/sources.yml": """
sources:
  - name: lake
    config: {meta: {folder: "{{ env_var('HEADROOM_DATA', '../data') | replace('[', '[[]') }}/lake"}}
    tables: [{name: calls, config: {meta: {external_location: "read_csv('{folder}/calls.csv')"}}}]
""",
    "models/counted.sql": "select count(*)::integer as calls from {{ source('lake', 'calls') }}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(content)
    return tmp_path / "project"


def project_of(folder: Path, data: Path, calls: int) -> DbtProject:
    """The project for a data folder with so many calls."""
    (data / "lake").mkdir(parents=True)
    (data / "lake" / "calls.csv").write_text("account\n" + "acme\n" * calls)
    engine = DuckDbEngine(data / "warehouse.duckdb", data / "published.duckdb")
    return DbtProject(folder, data / engine.dbt_folder, engine.warehouse, engine)


def is_parsed(project: DbtProject) -> bool:
    with project.parse_lock:
        return project.find_parse()


def test_second_data_folder_takes_the_parse_of_the_first(folder: Path, tmp_path: Path) -> None:
    first, second = project_of(folder, tmp_path / "first", 3), project_of(folder, tmp_path / "[second]", 5)
    assert not is_parsed(first)
    manifest = first.manifest()
    assert is_parsed(second)
    assert second.manifest() == manifest
    assert str(tmp_path / "first") not in json.dumps(manifest["sources"])

    for project, calls in ((first, 3), (second, 5)):
        results = project.build(datetime(2026, 11, 20, 8, tzinfo=UTC), "UTC")
        assert [(result.status, result.message) for result in results] == [("success", "OK")]
        with opened(project.warehouse, read_only=True) as connection:
            assert connection.execute("from counted").fetchall() == [(calls,)]


def test_parse_of_another_state_of_the_project_is_not_taken(folder: Path, tmp_path: Path) -> None:
    first, second = project_of(folder, tmp_path / "first", 3), project_of(folder, tmp_path / "second", 5)
    first.manifest()
    (folder / "models" / "more.sql").write_text("select 1 as one")
    assert not is_parsed(first)
    assert not is_parsed(second)

    assert "model.small.more" in second.manifest()["nodes"]
    assert "model.small.more" in first.manifest()["nodes"]
    assert len(list((folder / "target" / "dbt").iterdir())) == 1, "older ones go"


def test_project_that_cannot_be_written_is_parsed_in_each_data_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "target").write_text("in the way, as a read-only folder is")
    first, second = project_of(folder, tmp_path / "first", 3), project_of(folder, tmp_path / "second", 5)
    first.manifest()
    assert is_parsed(first)
    assert not is_parsed(second)
    assert second.manifest()["nodes"].keys() == {"model.small.counted"}


def test_fault_in_the_process_of_dbt_comes_with_its_traceback(folder: Path, tmp_path: Path) -> None:
    sources = folder / "models" / "sources.yml"
    without = [line for line in sources.read_text().splitlines() if "folder: " not in line]
    sources.write_text("\n".join(without))
    with pytest.raises(RuntimeError, match="KeyError: 'folder'") as caught:
        project_of(folder, tmp_path / "data", 3).build(datetime(2026, 11, 20, 8, tzinfo=UTC), "UTC")
    said = str(caught.value.__context__)
    assert "Traceback (most recent call last):" in said
    assert "/site-packages/dbt/" in said


def test_ctrl_c_in_the_imports_is_silent(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = project_of(folder, tmp_path / "data", 1)
    project.warm()
    [process] = [worker._process for worker in _Worker.waiting.values() if worker._project == project]
    process.send_signal(signal.SIGINT)

    process.communicate()
    assert process.returncode == -signal.SIGINT
    assert capfd.readouterr().err == ""
    _Worker.waiting.pop(project)
