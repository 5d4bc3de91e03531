"""The shortcuts of dbt's process: that this version of dbt still comes by them, and that they change nothing.

They change dbt for a whole process, so each test has one of its own.
"""

import hashlib
import json
import marshal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.warehouse.dbt import DbtProject
from tests.orchestration.warehouse.test_dbt import folder, project_of  # noqa: F401 - the fixture

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
POSTPONED_AT_IMPORT = """
import json
from mashumaro.core.meta.code.builder import CodeBuilder
postponed, postpone = [], CodeBuilder._add_unpack_method_lines_lazy
CodeBuilder._add_unpack_method_lines_lazy = lambda builder, name: (
    postponed.append(builder.cls.__module__), postpone(builder, name))
from orchestration.warehouse import dbt_worker
print(json.dumps(postponed))
"""
EVENTS = """
import json
from dbt_common.events.base_types import BaseEvent, EventLevel
from dbt_common.events.types import Note
from orchestration.warehouse import dbt_shortcuts
from dbt_common.events.event_manager_client import get_event_manager
from dbt_common.events.functions import fire_event
from dbt_common.exceptions.events import EventCompilationError

plain = Note(msg="plain").to_dict()
made, initialize = [], BaseEvent.__init__
dbt_shortcuts._initialize = lambda event, **fields: (made.append(fields["msg"]), initialize(event, **fields))[1]
dbt_shortcuts.take()
dbt_shortcuts.take()
manager = get_event_manager()
manager.loggers.clear()
fire_event(Note(msg="for nobody"))
later = Note(msg="plain")
later.msg += "!"
assert later.to_dict() == {"msg": "plain!"} and later.message() == "plain!"
assert Note(msg="plain").to_dict() == plain
heard = []
manager.add_callback(lambda message: heard.append(message.info.msg))
fire_event(Note(msg="heard"))
manager.callbacks.clear()
manager.warn_error = True
try:
    fire_event(Note(msg="an error"), level=EventLevel.WARN, force_warn_or_error_handling=True)
except EventCompilationError as error:
    heard.append(str(error).split()[-1])
print(json.dumps([made, heard]))
"""
NAMESPACES = """
import json, sys
from pathlib import Path
from orchestration.warehouse import dbt_shortcuts
from dbt.clients.jinja import MacroStack
from dbt.context.macros import MacroNamespaceBuilder
theirs = MacroNamespaceBuilder.build_namespace
from orchestration.warehouse import dbt_worker
from orchestration.warehouse.dbt import DbtProject

used, ours = [], MacroNamespaceBuilder.build_namespace
MacroNamespaceBuilder.build_namespace = lambda *each: (used.append(1), ours(*each))[1]
folder = Path(sys.argv[1])
manifest = dbt_worker.parse(DbtProject(folder, folder.parent / "dbt", folder.parent / "warehouse.duckdb")).result
packages = manifest.get_macros_by_package()


def described(build, package):
    builder = MacroNamespaceBuilder("small", package, MacroStack(), ["duckdb_first", "dbt_duckdb", "dbt"], None)
    found = build(builder, packages, {"a": "context"})
    flat = {name: each for name, each in dict(found).items() if not isinstance(each, dict)}
    return [
        {name: (each.macro.unique_id, each.context) for name, each in flat.items()},
        {name: sorted(each) for name, each in dict(found).items() if isinstance(each, dict)},
        [getattr(found.get_from_package(place, "current_timestamp"), "macro", None) and
         found.get_from_package(place, "current_timestamp").macro.unique_id for place in (None, "small", "dbt")],
        [sorted(getattr(found, place)) for place in ("local_namespace", "global_namespace")],
    ]


assert used and ours is not theirs
for package in ("small", "dbt_duckdb", "dbt"):
    assert described(ours, package) == described(theirs, package), package
print(json.dumps(described(ours, "small")[2]))
"""
ENUMERATION = """
import json, marshal, sys
from enum import StrEnum
from pathlib import Path
from orchestration.warehouse import dbt_shortcuts

Kind = StrEnum("Kind", ["A"])
dbt_shortcuts._once("plain", lambda: {"enum": ["a"]})
dbt_shortcuts._once("not plain", lambda: {"enum": [Kind.A]})
dbt_shortcuts.keep([Path(sys.argv[1]), Path(sys.argv[1]) / "kept"])
[path] = (Path(sys.argv[1]) / "kept").iterdir()
print(json.dumps(marshal.loads(path.read_bytes()[32:])))
"""


def run(script: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def build(project: DbtProject) -> None:
    assert [result.status for result in project.build(NOW, "UTC")] == ["success"]


def kept_in(target: Path) -> Path:
    [path] = target.glob("shortcuts-*")
    return path


def test_second_process_makes_nothing_again(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    first, second = project_of(folder, tmp_path / "first", 3), project_of(folder, tmp_path / "second", 5)
    build(first)
    build(first)  # to replace a table takes other macros
    kept = kept_in(first.target)
    names = list(marshal.loads(kept.read_bytes()[32:]))
    assert sum(name.startswith("template ") for name in names) > 50
    assert "schema dbt.contracts.project.Project" in names

    shared, inode = kept_in(folder / "target" / first.target.name), kept.stat().st_ino
    assert shared.read_bytes() == kept.read_bytes()
    build(first)
    assert kept.stat().st_ino == inode
    build(second)  # it finds what the first left beside the project
    assert list(second.target.glob("shortcuts-*")) == []


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_file_that_was_cut_short_is_made_again(folder: Path, tmp_path: Path, damage: bytes | None) -> None:  # noqa: F811
    project = project_of(folder, tmp_path / "data", 3)
    build(project)
    build(project)
    whole = kept_in(project.target).read_bytes()
    kept_in(folder / "target" / project.target.name).unlink()
    kept_in(project.target).write_bytes(whole[:-100] if damage is None else damage)
    build(project)
    again = kept_in(project.target).read_bytes()
    assert hashlib.sha256(again[32:]).digest() == again[:32]
    assert set(marshal.loads(again[32:])) < set(marshal.loads(whole[32:])), "what this build needed"


def test_event_is_made_when_somebody_reads_it() -> None:
    assert run(EVENTS) == [["plain", "plain", "heard", "an error"], ["heard", "error"]]


def test_json_schemas_of_mashumaro_are_not_compiled_at_import() -> None:
    assert "mashumaro.jsonschema.models" in run(POSTPONED_AT_IMPORT)


def test_macros_have_the_names_that_dbt_gives_them(folder: Path) -> None:  # noqa: F811
    (folder / "macros").mkdir()
    (folder / "macros" / "clock.sql").write_text("{% macro current_timestamp() %} now() {% endmacro %}")
    ours = "macro.small.current_timestamp"
    assert run(NAMESPACES, str(folder)) == [ours, ours, "macro.dbt.current_timestamp"]


def test_what_cannot_be_kept_is_left_out(tmp_path: Path) -> None:
    assert run(ENUMERATION, str(tmp_path)) == {"plain": {"enum": ["a"]}}
