"""What assets work with: settings that are read once, and again where they changed."""

from pathlib import Path

import dagster as dg
import pytest

from orchestration import settings
from orchestration.definitions import headroom
from orchestration.defs.resources import MODELS_STEP, Project
from orchestration.settings import Settings
from orchestration.warehouse.dbt import DbtProject


def test_settings_are_read_again_only_where_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    monkeypatch.delenv("HEADROOM_TIMEZONE", raising=False)
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    loads: list[None] = []
    load = settings.load
    monkeypatch.setattr(settings, "load", lambda: loads.append(None) or load())
    project = Project()

    assert [project.settings.timezone for _ in range(3)] == ["UTC"] * 3
    assert len(loads) == 1
    (tmp_path / ".env").write_text("HEADROOM_TIMEZONE=Europe/Berlin")
    assert project.settings.timezone == "Europe/Berlin"
    (tmp_path / ".env").write_text("HEADROOM_TIMEZONE=Europe/Vienna")
    assert project.settings.timezone == "Europe/Vienna"
    monkeypatch.setenv("HEADROOM_TIMEZONE", "Asia/Tokyo")
    assert project.settings.timezone == "Asia/Tokyo"
    assert len(loads) == 4


def test_dbt_starts_with_a_run_that_comes_to_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    told: list[str] = []
    monkeypatch.setattr(DbtProject, "warm", lambda _project: told.append("warm"))

    @dg.asset
    def ingest(project: Project) -> None:
        told.append("ingest")
        raise OSError("disk full")

    @dg.asset(deps=[ingest])
    def models(project: Project) -> None: ...

    job = dg.define_asset_job("some_job", "*")
    definitions = dg.Definitions([ingest, models], jobs=[job], resources={"project": Project()})
    found = definitions.resolve_job_def("some_job")
    assert not found.execute_in_process(raise_on_error=False).success
    assert told == ["warm", "ingest"]
    told.clear()
    found.execute_in_process(asset_selection=[ingest.key], raise_on_error=False)
    assert told == ["ingest"]


def test_models_are_the_step_of_that_name() -> None:
    job = headroom().resolve_job_def("hourly_job")
    assert MODELS_STEP in {node.name for node in job.nodes}
