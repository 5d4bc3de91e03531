"""dbt in a process of its own that builds as often as it is told to, in any data folder: the worker of production ends
after one build. It is started once in a test process, because to import dbt and to parse the project takes longer than
most builds.

Run as a program it is that process; `Builder` asks it. What it builds is the real project or an edited copy, by the
worker's own code.
"""

import atexit
import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from orchestration.warehouse.dbt import DbtProject, NodeResult
from orchestration.warehouse.duckdb import DuckDbEngine

PROJECT = Path(__file__).parents[2] / "dbt_project"
COUNTED = (
    *(
        "+stg_api_calls",
        "+stg_refused_calls",
        "+stg_meter_values",
        "hourly_usage",
        "hourly_usage_by_endpoint",
        "daily_usage",
    ),
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
        unit_tests: bool = False,
    ) -> list[NodeResult]:
        """What became of `nodes`, or of all that production builds; with `unit_tests` also of those, beside all."""
        request = {
            "data": str(self._data),
            "project": str(self._project),
            "nodes": nodes,
            "vars": {"now": now.isoformat(), "timezone": timezone, "bill_sampled": bill_sampled},
            "options": ["--full-refresh"] * full_refresh,
            "left_out": [*["unit_test"] * (not unit_tests), "exposure"],
        }
        process = _process()
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
def _process() -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dbt_project.builder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT.parent,
    )
    atexit.register(process.communicate)
    return process


def main(place: Path) -> None:
    from orchestration.warehouse import dbt_worker

    answers, sys.stdout = sys.stdout, sys.stderr
    gc.enable()  # which the worker, ending after one build, does without
    gc.set_threshold(100_000, 20)  # a build makes a million objects that go by themselves

    @cache
    def parsed(project: DbtProject) -> Any:
        with project.parse_lock:
            replace(project, folder=PROJECT).find_parse()  # of an edited copy dbt then parses what was edited
        result = dbt_worker.parse(project)
        assert result.success, result.exception
        gc.freeze()
        return result.result

    for line in sys.stdin:
        request = json.loads(line)
        folder, data = Path(request["project"]), Path(request["data"])
        # Each has its target. It is under the name of production's, where the real project keeps what it parsed.
        target = place / hashlib.sha256(os.fsencode(folder)).hexdigest() / DuckDbEngine.dbt_folder
        manifest = parsed(DbtProject(folder, target, place / "warehouse.duckdb"))
        project = DbtProject(folder, target, data / "warehouse.duckdb")
        answer = dbt_worker.build(project, manifest, request, *request["options"], left_out=request["left_out"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
