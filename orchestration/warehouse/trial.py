"""A copy of the warehouse in which changed seeds are tried: the models that follow from them are built there as a run
would build them, with the clock of the published figures, and nobody else sees it.

It is a DuckDB file, also where ClickHouse builds the marts: the published copy is one, and both engines give the same.
"""

import csv
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock

from orchestration.lake import in_memory
from orchestration.settings import Settings
from orchestration.warehouse import seeds
from orchestration.warehouse.dbt import DbtProject
from orchestration.warehouse.duckdb import DuckDbEngine
from orchestration.warehouse.engines import engine_of
from orchestration.warehouse.published_copy import rows_of


class TrialError(RuntimeError):
    """The seeds cannot be tried. The message says why and what to do."""


def seed_rows(config: Settings, names: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of these seeds as their files have them now, in the types of the project.

    :raises TrialError: a file cannot be read.
    """
    nodes = _project(config).manifest()["nodes"]
    wanted = [name for name, node in nodes.items() if node["resource_type"] == "seed" and node["name"] in names]
    files = seeds.types_of(nodes, wanted)
    if problems := seeds.examine(config.dbt_project, files).problems:
        raise TrialError(" ".join(problems))
    found = {}
    with in_memory.engine() as connection:
        for file, types in files.items():
            path = config.dbt_project / file
            kinds = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items() if name in _header(path))
            read = f"from read_csv(?, header = true, delim = ',', types = {{{kinds}}})"
            found[path.stem] = rows_of(connection, read, [str(path)])
    return found


@contextmanager
def tried(config: Settings, changed: Collection[str], outputs: Collection[str], now: datetime) -> Iterator[Path]:
    """A warehouse file in which `outputs`, models that follow from the `changed` seeds, are as these would make them.

    :raises TrialError: nothing was built yet, or a check of the seeds fails.
    """
    is_duckdb = isinstance(engine_of(config), DuckDbEngine)
    built = config.warehouse if is_duckdb else config.published
    if not built.exists():
        raise TrialError("there is no warehouse yet: the first `headroom run` makes it")
    dbt = _project(config)
    manifest = dbt.manifest()
    wanted = _between(manifest, changed, outputs)
    with tempfile.TemporaryDirectory(dir=config.data, prefix=".rules-") as folder:
        scratch = Path(folder, config.warehouse.name)
        Path(folder, "lake").symlink_to(config.lake)
        with FileLock(config.build_lock):
            if is_duckdb:
                duckdb.connect(str(built)).close()  # what a killed build had committed is in the file then
            shutil.copyfile(built, scratch)
        nodes = [manifest["nodes"][node]["name"] for node in _with_missing_parents(manifest, wanted, scratch)]
        results = DbtProject(dbt.folder, dbt.target, scratch, dbt.engine).build(
            now, config.timezone, nodes, config.bill_sampled
        )
        if bad := [each for each in results if each.status in ("error", "fail", "runtime error")]:
            raise TrialError("; ".join(f"{each.unique_id.split('.')[2]}: {each.message}" for each in bad))
        yield scratch


def _project(config: Settings) -> DbtProject:
    """As DuckDB builds it, whatever builds the marts."""
    engine = DuckDbEngine(config.warehouse, config.published)
    return DbtProject(config.dbt_project, config.data / engine.dbt_folder, config.warehouse, engine)


def _between(manifest: Mapping[str, Any], changed: Collection[str], outputs: Collection[str]) -> list[str]:
    """The changed seeds, their tests, and the models on the way from them to the outputs."""
    nodes, children, parents = manifest["nodes"], manifest["child_map"], manifest["parent_map"]
    starts = [name for name, node in nodes.items() if node["resource_type"] == "seed" and node["name"] in changed]
    ends = [name for name, node in nodes.items() if node["resource_type"] == "model" and node["name"] in outputs]
    after, before = _reached(starts, children), _reached(ends, parents)
    built = {name for name in after & before if name in nodes and nodes[name]["resource_type"] in ("seed", "model")}
    tests = {
        name
        for seed in starts
        for name in children[seed]
        if name.startswith("test.") and _seeds_alone(parents[name], nodes)
    }
    return sorted(built | tests)


def _with_missing_parents(manifest: Mapping[str, Any], wanted: Collection[str], file: Path) -> list[str]:
    """With the models that these read and that the file lacks: a published copy has no views of the lake."""
    with duckdb.connect(str(file), read_only=True) as connection:
        there = {name for (name,) in connection.execute("select table_name from information_schema.tables").fetchall()}
    found, waiting = set(wanted), list(wanted)
    while waiting:
        parents = {name for name in manifest["parent_map"][waiting.pop()] if name.startswith(("model.", "seed."))}
        missing = {name for name in parents - found if manifest["nodes"][name]["name"] not in there}
        found |= missing
        waiting += missing
    return sorted(found)


def _seeds_alone(names: Collection[str], nodes: Mapping[str, Any]) -> bool:
    return all(name in nodes and nodes[name]["resource_type"] == "seed" for name in names)


def _reached(names: Collection[str], edges: Mapping[str, Collection[str]]) -> set[str]:
    found, waiting = set(names), list(names)
    while waiting:
        new = set(edges.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])
