"""dbt in a process of its own that builds as often as it is told to: the worker of production ends after one build.

Run as a program it is that process; `Builder` starts it. What it builds is the real project.
"""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

PROJECT = Path(__file__).parents[2] / "dbt_project"
COUNTED = (
    *("+stg_api_calls", "hourly_usage", "daily_usage_by_endpoint", "daily_usage"),
    *("calls_are_distinct", "daily_usage_adds_up_to_the_calls", "endpoints_add_up_to_daily_usage"),
)
"""What takes part in counting, and its tests."""


class Builder:
    """Builds into `data`/warehouse.duckdb from `data`/lake; both may be replaced between two builds."""

    def __init__(self, data: Path) -> None:
        self.warehouse = data / "warehouse.duckdb"
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HEADROOM_DATA": str(data)},
        )

    def build(self, now: datetime, *nodes: str, full_refresh: bool = False) -> dict[str, str]:
        """Status by name of the built models and tests: `nodes`, or those that take part in counting."""
        assert self._process.stdin
        assert self._process.stdout
        request = {"now": now.isoformat(), "nodes": nodes or COUNTED, "full_refresh": full_refresh}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, str] = json.loads(self._process.stdout.readline())
        return answer

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query or a change in the warehouse, between two builds."""
        with duckdb.connect(str(self.warehouse)) as connection:
            return connection.execute(sql).fetchall()

    def end(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def main(data: str) -> None:
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    answers, sys.stdout = sys.stdout, sys.stderr
    arguments = ["--quiet", "--log-level", "none", "--log-level-file", "none"]
    for name, place in (("project-dir", PROJECT), ("profiles-dir", PROJECT), ("target-path", f"{data}/target")):
        arguments += [f"--{name}", str(place)]
    parsed = dbtRunner().invoke(["parse", *arguments])
    assert parsed.success, parsed.exception
    for line in sys.stdin:
        request = json.loads(line)
        built = dbtRunner(manifest=parsed.result).invoke(  # type: ignore[arg-type]
            [
                *("build", *arguments, "--exclude-resource-type", "unit_test", "--indirect-selection", "empty"),
                *("--select", *request["nodes"], "--vars", json.dumps({"now": request["now"]})),
                *(["--full-refresh"] if request["full_refresh"] else []),
            ]
        )
        DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
        assert built.result, built.exception
        results = built.result.results  # type: ignore[union-attr]
        statuses = {result.node.name: str(result.status) for result in results}
        for result in results:
            if result.status == "error":
                sys.stderr.write(f"{result.node.name}: {result.message}\n")
        answers.write(json.dumps(statuses) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
