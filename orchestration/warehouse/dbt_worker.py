"""The process that dbt runs in. Started by `warehouse/dbt.py`; speaks JSON lines on stdin and stdout.

It parses, says so, waits for one request, builds, answers and ends; it also ends when its starter does. The lock of
the warehouse is taken here, so that after a kill of the starter the next build waits for this one.
"""

import gc

gc.disable()  # a short-lived process: collecting while dbt loads costs half a second

import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestration.warehouse import dbt_shortcuts  # isort: skip - before dbt

from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt_common.exceptions import DbtBaseException
from filelock import FileLock
from jinja2 import Template

from orchestration.warehouse.dbt import DbtProject
from orchestration.warehouse.dbt_compiled import compiled

dbt_shortcuts.take()


def main() -> None:
    # Ctrl-C ends it without a traceback, at once or where it was held back until now; its starter says what happened.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    folder, target, warehouse = (Path(argument) for argument in sys.argv[1:4])
    project = DbtProject(folder, target, warehouse)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever dbt prints must not look like an answer

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    parsed = parse(project)
    if not parsed.success:
        answer(_failure(parsed.exception))
        return
    answer({"ready": True})
    line = sys.stdin.readline()
    if line:
        key = project.parse_key
        answer(build(project, parsed.result, json.loads(line)))
        for path in project.compiled:
            with suppress(OSError):  # that of a project that is read-only, or was changed
                compiled.save(path, key)
        os._exit(0)  # an orderly end takes dbt's objects apart one by one: 0.3 s


def parse(project: DbtProject) -> dbtRunnerResult:
    """The manifest, the same for every installation: what differs comes with the request to build."""
    names = ("HEADROOM_DATA", "HEADROOM_TIMEZONE", "HEADROOM_BILL_SAMPLED")
    set_aside = {name: os.environ.pop(name) for name in names if name in os.environ}
    with project.parse_lock:
        is_fresh = project.find_parse()
        if is_fresh:
            compiled.load(project.compiled[0], project.parse_key)
        parsed = dbtRunner().invoke(["parse", *_arguments(project), *(["--no-write-json"] if is_fresh else [])])
        if parsed.success and not is_fresh:
            project.keep_parse()
    os.environ.update(set_aside)
    return parsed


def build(
    project: DbtProject,
    manifest: Any,
    request: dict[str, Any],
    *options: str,
    left_out: Sequence[str] = ("unit_test", "exposure"),
) -> dict[str, Any]:
    """Build what the request names, without nodes of the kinds that are left out; the answer to it."""
    os.environ["HEADROOM_DATA"] = str(project.warehouse.parent)
    _place_sources(manifest)
    selection = [] if request["nodes"] is None else ["--select", *request["nodes"], "--indirect-selection", "empty"]
    # A lock dies with its process; a slot of a Dagster pool outlives a killed run and blocks the next one.
    with FileLock(project.warehouse.with_suffix(".lock")):
        built = dbtRunner(manifest=manifest).invoke(
            [
                *("build", *_arguments(project), *selection, "--no-write-json", *options),
                *("--exclude-resource-type", *left_out),
                *("--vars", json.dumps(request["vars"])),
            ]
        )
        results = [] if built.result is None else [_result(result) for result in built.result.results]  # type: ignore[union-attr]
        # dbt keeps the DuckDB file open, and thereby locked for every other process, until told otherwise
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
    if built.exception or built.result is None:
        return _failure(built.exception)
    return {"results": results}


def _place_sources(manifest: Any) -> None:
    """Put the lake of this data folder into the manifest, by the rule of the file that declares the sources."""
    for name, source in manifest.sources.items():
        groups = manifest.files[source.file_id].dict_from_yaml["sources"]
        rule = next(group["config"]["meta"]["folder"] for group in groups if group["name"] == source.source_name)
        folder = Template(rule).render(env_var=os.environ.get)
        for meta in (source.meta, source.config.meta, manifest.flat_graph["sources"][name]["meta"]):
            meta["folder"] = folder


def _arguments(project: DbtProject) -> list[str]:
    places = {"project-dir": project.folder, "profiles-dir": project.folder, "target-path": project.target}
    quiet = ["--quiet", "--log-level", "none", "--log-level-file", "none"]
    return quiet + [part for name, path in places.items() for part in (f"--{name}", str(path))]


def _result(result: Any) -> dict[str, Any]:
    return {
        "unique_id": result.node.unique_id,
        "status": str(result.status),
        "message": (result.message or "") + (_failed_rows(result.node) if str(result.status) == "fail" else ""),
        "failures": result.failures,
        "seconds": result.execution_time,
    }


def _failed_rows(test: Any) -> str:
    """The first rows that a test found, in order: dbt itself says only how many there are."""
    from dbt.adapters.factory import FACTORY

    adapter: Any = next(iter(FACTORY.adapters.values()))  # of dbt's two protocols for it neither is complete
    with adapter.connection_named("failed_rows"):
        ordered = f"select * from (\n{test.compiled_code}\n) as found order by all limit 3"
        _, rows = adapter.execute(ordered, fetch=True)
    adapter.cleanup_connections()
    return "".join(f"\n  {', '.join(str(value) for value in row)}" for row in rows.rows)


def _failure(error: BaseException | None) -> dict[str, Any]:
    """The answer that no results are. dbt's own errors say what to correct; of a program's fault it is the place."""
    said = str(error or "no reason given").strip()
    if error is None or isinstance(error, DbtBaseException):
        return {"error": said}
    return {"error": f"{type(error).__name__}: {said}", "traceback": "".join(traceback.format_exception(error))}


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # its starter has ended, and said why
        os._exit(1)
    except Exception as error:  # noqa: BLE001 - its starter says what to do
        assert sys.__stdout__
        sys.__stdout__.write(json.dumps(_failure(error)) + "\n")
