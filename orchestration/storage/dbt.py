"""Running the dbt project inside this process: prepare its manifest, build models and tests, report each node.

In process, because starting dbt costs more than the work: `dbt build` as a command takes 4 to 6 s around one second
of SQL, a call from here 1.3 s. Which node is which Dagster asset is not known here.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest


@dataclass(frozen=True)
class NodeResult:
    """What became of one model, seed or test."""

    unique_id: str
    status: str
    """success, error or skipped for models and seeds; pass, fail, warn, error or skipped for tests."""
    message: str
    failures: int | None
    """Rows that failed a test; None for models, and for tests that did not run."""
    seconds: float


@dataclass(frozen=True)
class DbtProject:
    """The dbt project and the folder for what dbt writes beside the warehouse: its manifest and compiled SQL."""

    folder: Path
    target: Path
    warehouse: Path

    def manifest(self) -> dict[str, Any]:
        """The parsed project, prepared first where a file of it changed since the last time."""
        key = self._fingerprint()
        path, stamp = self.target / "manifest.json", self.target / "manifest.key"
        self.target.mkdir(parents=True, exist_ok=True)
        with FileLock(self.target / ".lock"):
            if not (path.exists() and stamp.exists() and stamp.read_text() == key):
                self._parse()
                stamp.write_text(key)
            content: dict[str, Any] = json.loads(path.read_bytes())
        return content

    def build(self, now: datetime, timezone: str, nodes: Sequence[str] | None = None) -> Iterator[NodeResult]:
        """Build `nodes` by name (all by default) with their tests, as of `now`, in the business zone `timezone`.

        Waits while another process writes the warehouse. A failed test skips what depends on its model.

        :raises RuntimeError: dbt could not start building (a broken project, an unusable warehouse file).
        """
        from dbt.cli.main import dbtRunner

        variables = json.dumps({"now": now.isoformat(), "timezone": timezone})
        selection = ["--select", *nodes, "--indirect-selection", "cautious"] if nodes is not None else []
        # The lock dies with its process; a slot of a Dagster pool outlives a killed run and blocks the next one.
        with FileLock(self.warehouse.with_suffix(".lock")):
            try:
                outcome = dbtRunner(manifest=self._parse("--no-write-json")).invoke(
                    ["build", *self._arguments(), "--no-write-json", "--vars", variables]
                    + ["--exclude-resource-type", "unit_test", *selection]
                )
            finally:
                _release_warehouse()
        if outcome.exception or outcome.result is None:
            raise RuntimeError(f"dbt could not build {self.folder}: {outcome.exception}")
        for result in outcome.result.results:  # type: ignore[union-attr]
            yield NodeResult(
                unique_id=result.node.unique_id,
                status=str(result.status),
                message=result.message or "",
                failures=result.failures,
                seconds=result.execution_time,
            )

    def _parse(self, *flags: str) -> "Manifest":
        from dbt.cli.main import dbtRunner

        outcome = dbtRunner().invoke(["parse", *self._arguments(), *flags])
        if outcome.exception or not outcome.success:
            raise RuntimeError(f"dbt could not parse {self.folder}: {outcome.exception}")
        return outcome.result  # type: ignore[return-value]

    def _arguments(self) -> list[str]:
        quiet = ["--quiet", "--log-level", "none", "--log-level-file", "none"]
        places = {"project-dir": self.folder, "profiles-dir": self.folder, "target-path": self.target}
        return quiet + [part for name, path in places.items() for part in (f"--{name}", str(path))]

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.warehouse).encode())
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in (".sql", ".yml", ".csv") and path.is_file():
                digest.update(os.fsencode(path.relative_to(self.folder)) + b"\0" + path.read_bytes())
        return digest.hexdigest()


def _release_warehouse() -> None:
    # dbt keeps the DuckDB file open, and thereby locked for every other process, until told otherwise.
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()
