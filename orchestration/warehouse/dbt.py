"""The dbt project as the rest sees it: its manifest, and a build of its models and tests.

dbt runs in a process of its own (`dbt_worker.py`), one invocation a build. It can be started ahead with `warm`: it
then imports and parses (2 s of CPU) on the other core while Dagster loads. Which node is which Dagster asset is not
known here.

What dbt parsed says nothing of the data folder, so it is kept beside the project for the next one: a first parse takes
five times as long. `dbt clean` removes it.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from filelock import FileLock

from orchestration.warehouse.engine import Engine
from orchestration.warehouse.engines import engine_of

if TYPE_CHECKING:
    from orchestration.settings import Settings

PARSED = ("manifest.json", "partial_parse.msgpack")
"""What dbt writes when it parses."""
COMPILED = "compiled.marshal"
"""What `dbt_compiled.py` keeps of a build for the next one."""
VERSIONS = ("dbt-core", "dbt-common", "dbt-adapters", "jinja2", "mashumaro")
"""What has a part in them: of another version they may be others."""
# Of a worker that Ctrl-C ends, Python's tracker of semaphores would say so on the terminal.
QUIET = {"PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker"}


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
    """The dbt project, the folder for what dbt writes beside the warehouse, the warehouse file, and the engine.

    Of another engine than DuckDB's file only the lock beside the file is used. None: the environment says which.
    """

    folder: Path
    target: Path
    warehouse: Path
    engine: Engine | None = None

    @classmethod
    def of(cls, config: "Settings") -> "DbtProject":
        engine = engine_of(config)
        return cls(config.dbt_project, config.data / engine.dbt_folder, config.warehouse, engine)

    @property
    def parse_lock(self) -> FileLock:
        """Held while the manifest is written or read."""
        self.target.mkdir(parents=True, exist_ok=True)
        return FileLock(self.target / ".lock")

    @property
    def parse_key(self) -> str:
        """Of the manifest, while it describes the project: another one for each state of it."""
        return (self.target / "manifest.key").read_text()

    @property
    def compiled(self) -> tuple[Path, Path]:
        """Where dbt's compiled templates are kept: the data folder's own, and those for other data folders."""
        return self.target / COMPILED, self._kept / self.parse_key / COMPILED

    def find_parse(self) -> bool:
        """Whether the manifest describes the project as it is now, or one that does was kept beside the project.

        Hold `parse_lock`, for `keep_parse`, too.
        """
        key = self._fingerprint()
        stamp = self.target / "manifest.key"
        if stamp.exists() and stamp.read_text() == key:
            return True
        stamp.unlink(missing_ok=True)  # from here on the manifest may be half of this and half of that
        try:
            for name in PARSED:
                shutil.copyfile(self._kept / key / name, self.target / name)
        except OSError:
            return False
        with suppress(OSError):  # nothing was built yet
            shutil.copyfile(self._kept / key / COMPILED, self.target / COMPILED)
        stamp.write_text(key)
        return True

    def keep_parse(self) -> None:
        """Note that the manifest describes the project, and keep it for other data folders, in place of older ones."""
        key = self._fingerprint()
        (self.target / "manifest.key").write_text(key)
        try:
            self._kept.mkdir(parents=True, exist_ok=True)
            older = list(self._kept.iterdir())
            copy = Path(tempfile.mkdtemp(dir=self._kept))
            for name in PARSED:
                shutil.copyfile(self.target / name, copy / name)
            copy.rename(self._kept / key)
        except OSError:
            return  # the project's folder is read-only, or another process was first
        for folder in older:
            shutil.rmtree(folder, ignore_errors=True)

    def manifest(self) -> dict[str, Any]:
        """The parsed project, parsed first where a file of it changed since the last time.

        :raises RuntimeError: dbt cannot parse it.
        """
        with self.parse_lock:
            is_parsed = self.find_parse()
        if not is_parsed:
            warm = _Worker.waiting.get(self)
            worker = warm or _Worker(self)
            worker.wait_until_ready()
            if not warm:
                worker.end()
        with self.parse_lock:
            content: dict[str, Any] = json.loads((self.target / "manifest.json").read_bytes())
        return content

    def published_columns(self) -> dict[str, dict[str, str]]:
        """DuckDB's type of each column of what is published, by table: of everything whose columns have types."""
        nodes = [node for node in self.manifest()["nodes"].values() if node["resource_type"] in ("model", "seed")]
        typed = {
            node["name"]: node["config"].get("column_types")
            or {name: column["data_type"] for name, column in node["columns"].items()}
            for node in nodes
        }
        return {name: columns for name, columns in sorted(typed.items()) if columns and all(columns.values())}

    def warm(self) -> None:
        """Start dbt ahead of `build`, which this process will call soon. It ends with this process."""
        if self not in _Worker.waiting:
            _Worker.waiting[self] = _Worker(self)

    def build(
        self, now: datetime, timezone: str, nodes: Sequence[str] | None = None, bill_sampled: bool = False
    ) -> list[NodeResult]:
        """Build or test the named `nodes` (all by default) as of `now`, in the business zone `timezone`.

        Waits while another process writes the warehouse. A failed test skips what depends on its model.

        :raises RuntimeError: dbt could not start building (a broken project, an unusable warehouse file).
        """
        self.warm()
        worker = _Worker.waiting.pop(self)
        variables = {"now": now.isoformat(), "timezone": timezone, "bill_sampled": bill_sampled}
        request = {"vars": variables, "nodes": nodes}
        return [NodeResult(**result) for result in worker.build(request)]

    @property
    def _kept(self) -> Path:
        return self.folder / "target" / self.target.name

    def _fingerprint(self) -> str:
        versions = (sys.version, *(f"{name} {version(name)}" for name in VERSIONS))
        digest = hashlib.sha256("\n".join(versions).encode())
        for path in sorted(self.folder.rglob("*")):
            inside = path.relative_to(self.folder)
            is_written_by_dbt = inside.parts[0] in ("target", "logs", "dbt_packages")  # by hand
            if path.suffix in (".sql", ".yml", ".csv", ".md") and path.is_file() and not is_written_by_dbt:
                digest.update(os.fsencode(inside) + b"\0" + path.read_bytes())
        return digest.hexdigest()


class WorkerTraceback(Exception):  # noqa: N818 - it is no error, but says where one was
    """Where a program failed in the process of dbt: Dagster and `--debug` show it above the error."""

    def __str__(self) -> str:
        return f"in the process of dbt:\n{self.args[0]}"


class _Worker:
    """A dbt process: says that it is ready, takes one request, answers with results."""

    waiting: ClassVar[dict[DbtProject, "_Worker"]] = {}
    ending: ClassVar[list["subprocess.Popen[str]"]] = []

    def __init__(self, project: DbtProject) -> None:
        places = [str(place) for place in (project.folder, project.target, project.warehouse)]
        self._project = project
        self._is_ready = False
        # A Ctrl-C reaches it once it knows what to do with one, and not in the middle of its imports.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestration.warehouse.dbt_worker", *places],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **QUIET, **(project.engine.dbt_environment if project.engine else {})},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def wait_until_ready(self) -> None:
        if not self._is_ready:
            try:
                next(self._answers())
            except RuntimeError:
                self.end()
                raise
            self._is_ready = True

    def build(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        self.wait_until_ready()
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        try:
            results: list[dict[str, Any]] = next(self._answers())["results"]
        finally:
            self.end()
        return results

    def end(self) -> None:
        """Let go of the process. Its orderly end takes a second that nobody needs to wait for."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        _Worker.ending = [process for process in _Worker.ending if process.poll() is None] + [self._process]

    def _answers(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                error = RuntimeError(f"dbt could not work on {self._project.folder}: {answer['error']}")
                try:
                    if "traceback" in answer:
                        raise WorkerTraceback(answer["traceback"])
                except WorkerTraceback:
                    raise error  # noqa: B904 - with the traceback as its context: the cause stays this error
                raise error
            yield answer
        raise RuntimeError(f"dbt ended without an answer (exit status {self._process.wait()})")
