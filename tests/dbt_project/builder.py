"""dbt in a process of its own that builds as often as it is told to, in any data folder: the worker of production ends
after one build. It is started once in a test process, because to import dbt and to parse the project takes longer than
most builds.

Run as a program it is that process; `Builder` asks it. What it builds is the real project, by the worker's own code.
"""

import atexit
import gc
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from orchestration.warehouse.dbt import DbtProject, NodeResult
from orchestration.warehouse.duckdb import DuckDbEngine

PROJECT = Path(__file__).parents[2] / "dbt_project"
COUNTED = (
    *("+stg_api_calls", "+stg_meter_values", "hourly_usage", "hourly_usage_by_endpoint", "daily_usage"),
    *("hourly_usage_by_property", "event_values", "daily_usage_by_endpoint", "daily_usage_by_property"),
    *("calls_are_distinct", "daily_usage_adds_up_to_the_calls", "endpoints_add_up_to_daily_usage"),
)
"""What takes part in counting, and its tests."""


class Builder:
    """Builds into `data`/warehouse.duckdb from `data`/lake; both may be replaced between two builds."""

    def __init__(self, data: Path, project: Path = PROJECT) -> None:
        self.warehouse = data / "warehouse.duckdb"
        self._data, self._project = data, project

    def build(self, now: datetime, *nodes: str, full_refresh: bool = False) -> dict[str, str]:
        """Status by name of the built models and tests: `nodes`, or those that take part in counting."""
        results = self.results(now, nodes or COUNTED, full_refresh=full_refresh)
        for result in results:
            if result.status == "error":
                sys.stderr.write(f"{result.unique_id}: {result.message}\n")
        return {result.unique_id.split(".")[2]: result.status for result in results}

    def results(
        self,
        now: datetime,
        nodes: Sequence[str] | None = None,
        timezone: str = "UTC",
        full_refresh: bool = False,
        bill_sampled: bool = False,
    ) -> list[NodeResult]:
        """What became of `nodes`, or of all that production builds."""
        request = {
            "data": str(self._data),
            "nodes": nodes,
            "vars": {"now": now.isoformat(), "timezone": timezone, "bill_sampled": bill_sampled},
            "options": ["--full-refresh"] * full_refresh,
        }
        process = _process(self._project)
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert "results" in answer, answer
        return [NodeResult(**result) for result in answer["results"]]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query or a change in the warehouse, between two builds."""
        with duckdb.connect(str(self.warehouse)) as connection:
            return connection.execute(sql).fetchall()


def project_with(folder: Path, **seeds: str) -> Path:
    """A copy of the project in the folder, with these seeds in the place of its own."""
    project = folder / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs", "__pycache__"))
    for name, rows in seeds.items():
        (project / "seeds" / f"{name}.csv").write_text(rows)
    return project


@cache
def _process(project: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dbt_project.builder", str(project)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT.parent,
    )
    atexit.register(process.communicate)
    return process


def main(target: Path, folder: Path) -> None:
    from orchestration.warehouse import dbt_worker

    answers, sys.stdout = sys.stdout, sys.stderr
    real, project = (DbtProject(path, target, target / "warehouse.duckdb") for path in (PROJECT, folder))
    with real.parse_lock:
        real.find_parse()  # of a project with other seeds dbt then parses those alone
    parsed = dbt_worker.parse(project)
    assert parsed.success, parsed.exception
    manifest: Any = parsed.result
    gc.freeze()
    gc.enable()  # which the worker, ending after one build, does without
    for line in sys.stdin:
        request = json.loads(line)
        data = Path(request["data"])
        project = DbtProject(folder, target, data / "warehouse.duckdb")
        answer = dbt_worker.build(project, manifest, request, *request["options"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(
            Path(folder) / DuckDbEngine.dbt_folder, Path(sys.argv[1])
        )  # what was parsed is kept under that name, for all that build
