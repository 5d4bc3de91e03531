"""Landing folder to published marts without Dagster, for tests of the figures."""

from datetime import datetime
from pathlib import Path

from orchestration import settings
from orchestration.lake.account_files import ACCOUNTS_FILES
from orchestration.lake.lake import Lake
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import Folder
from orchestration.warehouse import duckdb, seeds
from orchestration.warehouse.dbt import NodeResult
from tests.dbt_project.builder import Builder


def build_marts(data: Path, landing: Path, now: datetime, *nodes: str, timezone: str = "UTC") -> Path:
    """The published copy of what is in `landing`, with data/accounts.csv and its like where they are there.

    Of all models, or of `nodes` and their tests alone: all take 10 s of CPU.
    """
    config = settings.load()
    assert config.data == data
    ingest(data, landing, now)
    assert_built(Builder(data).results(now, nodes or None, timezone=timezone))
    duckdb.publish(config.warehouse, config.published)
    return config.published


def ingest(data: Path, landing: Path, now: datetime, project: Path | None = None) -> None:
    """Of the events that the meters of that dbt project count; None: of the one that is set."""
    lake, known = Lake(data / "lake"), dict[str, LandedFile]()
    meters = seeds.read_meters(project or settings.load().dbt_project)
    with lake.writing():
        while (outcome := lake.ingest(Folder(landing), known, now, meters=meters))[0]:
            known.update({file.path: file for file in outcome[0].files})
        for kind in ACCOUNTS_FILES:
            path = data / f"{kind.name}.csv"
            lake.write_accounts(kind, path if path.exists() else None, rejected_at=now)


def assert_built(results: list[NodeResult]) -> None:
    assert results
    bad = [f"{result.unique_id}: {result.message}" for result in results if result.status not in ("success", "pass")]
    assert not bad, "\n".join(bad)
