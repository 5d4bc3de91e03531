"""The shortcuts of dbt's process: that this version of dbt still comes by them, and that they change nothing.

They change dbt for a whole process, so each test has one of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.orchestration.warehouse.test_dbt import folder  # noqa: F401 - the fixture

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


def run(script: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_event_is_made_when_somebody_reads_it() -> None:
    assert run(EVENTS) == [["plain", "plain", "heard", "an error"], ["heard", "error"]]


def test_json_schemas_of_mashumaro_are_not_compiled_at_import() -> None:
    assert "mashumaro.jsonschema.models" in run(POSTPONED_AT_IMPORT)


def test_macros_have_the_names_that_dbt_gives_them(folder: Path) -> None:  # noqa: F811
    (folder / "macros").mkdir()
    (folder / "macros" / "clock.sql").write_text("{% macro current_timestamp() %} now() {% endmacro %}")
    ours = "macro.small.current_timestamp"
    assert run(NAMESPACES, str(folder)) == [ours, ours, "macro.dbt.current_timestamp"]
