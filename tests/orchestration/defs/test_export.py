"""The asset that writes the pages as files: only where a folder is named, and after everything else."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.definitions import headroom
from orchestration.defs.export import pages_export
from orchestration.defs.resources import Project
from tests.support.pipeline import build_marts


def materialize() -> Any:
    return dg.materialize(
        [pages_export],
        resources={"project": Project()},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )


def test_pages_are_written_where_a_folder_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data / "pages"
    monkeypatch.setenv("HEADROOM_PAGES_EXPORT", str(folder))
    failed = materialize().failure_data_for_node("pages_export")
    assert "does not exist yet: `headroom run` builds" in failed.user_failure_data.description
    (data / "landing").mkdir(exist_ok=True)
    build_marts(data, data / "landing", NOW)
    result = materialize()
    [made] = result.asset_materializations_for_node("pages_export")
    assert made.metadata["accounts"].value == 0
    assert made.metadata["path"].value == str(folder)
    assert "There is no account yet." in (folder / "accounts.html").read_text()
    (folder / "mine.txt").touch()
    failed = materialize().failure_data_for_node("pages_export")
    assert "other files than an export, such as 'mine.txt'" in failed.user_failure_data.description


def test_digest_and_reports_do_not_wait_for_the_pages(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_PAGES_EXPORT", str(data / "pages"))
    definitions = headroom()
    for name in ("daily_job", "hourly_job"):
        job = definitions.resolve_job_def(name)
        assert dg.AssetKey("pages_export") in job.asset_layer.selected_asset_keys
        priorities = {node.name: int(node.tags.get("dagster/priority", 0)) for node in job.nodes}
        assert min(priorities, key=lambda node: priorities[node]) == "pages_export"
    for name in ("refresh_job", "alerts_job"):
        assert dg.AssetKey("pages_export") not in definitions.resolve_job_def(name).asset_layer.selected_asset_keys
    monkeypatch.delenv("HEADROOM_PAGES_EXPORT")
    assert dg.AssetKey("pages_export") not in headroom().resolve_job_def("daily_job").asset_layer.selected_asset_keys
