"""The shortcuts of dbt's process: that this version of dbt still comes by them, and that they change nothing.

They change dbt for a whole process, so each test has one of its own: a fork of one that has imported dbt, and has not
taken the shortcuts.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.orchestration.warehouse.test_dbt import folder  # noqa: F401 - the fixture
from tests.support.duckdb_file import opened

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
        {name: (each.macro.unique_id, {**vars(each), "stack": None}) for name, each in flat.items()},
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

BUILD = """
import json, sys
from pathlib import Path
from orchestration.warehouse import dbt_shortcuts
import jinja2
from dbt_common import behavior_flags, dataclass_schema
from dbt_common.clients import agate_helper
asked = []


def counted(owner, name):
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **named: (asked.append(name), original(*args, **named))[1])


counted(jinja2.Environment, "_generate")
counted(dataclass_schema, "build_json_schema")
counted(behavior_flags.inspect, "stack")
from orchestration.warehouse import dbt_worker
from orchestration.warehouse.dbt import DbtProject
for name in ("empty_table", "build_type_tester"):
    counted(agate_helper, name)

project = DbtProject(*map(Path, sys.argv[1:4]))
manifest = dbt_worker.parse(project).result
results = dbt_worker.build(project, manifest, {"nodes": None, "vars": {}})["results"]
for path in project.compiled:
    dbt_worker.compiled.save(path, project.parse_key)
made = {name: asked.count(name) for name in ("_generate", "build_json_schema", "stack")}
print(json.dumps([[each["status"] for each in results], made, sorted(set(asked) - set(made))]))
"""
TESTERS = """
import json
from datetime import date
from orchestration.warehouse import dbt_shortcuts
from dbt_common.clients import agate_helper
rows = [{"a": "005", "b": 1, "c": date(2026, 11, 29), "d": None}, {"a": "x", "b": 2, "c": None, "d": True}]


def described():
    found = agate_helper.table_from_data_flat(rows, ["a", "b", "c", "d"])
    kinds = [type(kind).__name__ for kind in found.column_types]
    return [kinds, [str(list(row)) for row in found.rows], len(agate_helper.empty_table().columns)]


theirs = described()
dbt_shortcuts.take()
assert agate_helper.build_type_tester({"a"}) is agate_helper.build_type_tester(["a"])
assert agate_helper.build_type_tester({"a"}) is not agate_helper.build_type_tester({"a"}, string_null_values=())
assert agate_helper.empty_table() is agate_helper.empty_table()
print(json.dumps([described() == theirs, theirs[0]]))
"""
CONTEXTS = """
import json, sys
from pathlib import Path
from orchestration.warehouse import dbt_shortcuts
import dbt.compilation, dbt.task.run, dbt.task.test
from dbt.context.macros import MacroNamespaceBuilder
theirs = dbt.task.run.generate_runtime_model_context
from orchestration.warehouse import dbt_worker
from orchestration.warehouse.dbt import DbtProject

ours, seen, namespaces = dbt.task.run.generate_runtime_model_context, [], []
build_namespace = MacroNamespaceBuilder.build_namespace
MacroNamespaceBuilder.build_namespace = lambda *each: (namespaces.append(1), build_namespace(*each))[1]


def described(context):
    read = ("model", "compiled_code", "sql", "this", "database", "schema", "pre_hooks", "post_hooks", "_sql_results")
    return sorted(context), [json.dumps(context[name], default=str, sort_keys=True) for name in read]


def compared(step):
    def context_of(model, config, manifest):
        before = len(namespaces)
        found = ours(model, config, manifest)
        made = len(namespaces) - before
        is_same = described(found) == described(theirs(model, config, manifest))
        seen.append([step, model.name.split("_")[0], made, is_same, "ten" in str(found["compiled_code"])])
        return found
    return context_of


for step, module in (("compile", dbt.compilation), ("run", dbt.task.run), ("test", dbt.task.test)):
    assert module.generate_runtime_model_context is ours is not theirs
    module.generate_runtime_model_context = compared(step)
project = DbtProject(*map(Path, sys.argv[1:4]))
results = dbt_worker.build(project, dbt_worker.parse(project).result, {"nodes": None, "vars": {}})["results"]
print(json.dumps([[each["status"] for each in results], seen]))
"""
ASKED = """
import json, sys
from pathlib import Path
from orchestration.warehouse import dbt_worker
from orchestration.warehouse.dbt import DbtProject
from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper
asked, execute = [], DuckDBCursorWrapper.execute
DuckDBCursorWrapper.execute = lambda cursor, sql, *rest: (asked.append(sql), execute(cursor, sql, *rest))[1]

project = DbtProject(*map(Path, sys.argv[1:4]))
results = dbt_worker.build(project, dbt_worker.parse(project).result, {"nodes": None, "vars": {}})["results"]
for path in project.compiled:
    dbt_worker.compiled.save(path, project.parse_key)
described = [sql for sql in asked if "describe" in sql.lower()]
print(json.dumps([[[each["status"], each["message"]] for each in results], len(described)]))
"""
PROFILE = """
small:
  target: duckdb
  outputs:
    duckdb:
      {type: duckdb, path: "{{ env_var('HEADROOM_DATA', 'x') }}/warehouse.duckdb", settings: {TimeZone: "Asia/Kolkata"}}
"""
NOTHING_MADE = {"_generate": 0, "build_json_schema": 0, "stack": 0}


IMPORTED = """
import json, os, sys
from orchestration.warehouse import dbt_shortcuts
import dbt.adapters.duckdb, dbt.cli.main
for line in sys.stdin:
    script, *arguments = json.loads(line)
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.dup2(writing, 1)
        sys.argv[1:] = arguments
        try:
            exec(script, {})
            sys.stdout.flush()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        print(json.dumps(said.read()), flush=True)
    os.waitpid(child, 0)
"""
Process = subprocess.Popen[str]


@pytest.fixture(scope="module")
def imported() -> Iterator[Process]:
    """Runs scripts, each in a fork."""
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.communicate()


def run(imported: Process, script: str, *arguments: str) -> Any:
    """What the script printed, as JSON."""
    assert imported.stdin
    assert imported.stdout
    imported.stdin.write(json.dumps([script, *arguments]) + "\n")
    imported.stdin.flush()
    return json.loads(json.loads(imported.stdout.readline()))


def test_event_is_made_when_somebody_reads_it(imported: Process) -> None:
    assert run(imported, EVENTS) == [["plain", "plain", "heard", "an error"], ["heard", "error"]]


def test_json_schemas_of_mashumaro_are_not_compiled_at_import() -> None:
    said = subprocess.check_output([sys.executable, "-c", POSTPONED_AT_IMPORT], text=True, timeout=120)
    assert "mashumaro.jsonschema.models" in json.loads(said)


def test_macros_have_the_names_that_dbt_gives_them(imported: Process, folder: Path) -> None:  # noqa: F811
    (folder / "macros").mkdir()
    (folder / "macros" / "clock.sql").write_text("{% macro current_timestamp() %} now() {% endmacro %}")
    ours = "macro.small.current_timestamp"
    assert run(imported, NAMESPACES, str(folder)) == [ours, ours, "macro.dbt.current_timestamp"]


def test_node_runs_in_the_context_that_it_was_compiled_in(
    imported: Process,
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (folder / "models" / "sources.yml").unlink()
    (folder / "models" / "counted.sql").unlink()
    asks = "{% if execute %}{% call statement('found', fetch_result=true) %} select 1 {% endcall %}{% endif %}"
    (folder / "models" / "ten.sql").write_text(asks + "select 10 as ten")
    (folder / "models" / "ten.yml").write_text("models: [{name: ten, columns: [{name: ten, data_tests: [unique]}]}]")
    statuses, seen = run(imported, CONTEXTS, str(folder), str(tmp_path / "dbt"), str(tmp_path / "warehouse.duckdb"))
    assert statuses == ["success", "pass"]
    assert seen == [
        ["compile", "ten", 1, True, False],
        ["run", "ten", 0, True, True],
        ["compile", "unique", 1, True, False],
        ["test", "unique", 0, True, True],
    ]


def test_contract_is_described_once_and_settings_are_those_of_all_cursors(
    imported: Process,
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (folder / "profiles.yml").write_text(PROFILE)
    (folder / "models" / "sources.yml").unlink()
    (folder / "models" / "counted.sql").unlink()
    model = folder / "models" / "zone.sql"
    columns = "{name: zone, data_type: varchar}, {name: amount, data_type: 'decimal(18,2)'}"
    model.with_suffix(".yml").write_text(
        f"models: [{{name: zone, columns: [{columns}], config: {{materialized: table, contract: {{enforced: true}}}}}}]"
    )

    def build(amount: str) -> Any:
        model.write_text(f"select current_setting('TimeZone') as zone, {amount} as amount")
        return run(imported, ASKED, str(folder), str(tmp_path / "dbt"), str(tmp_path / "warehouse.duckdb"))

    right = "cast(1 as decimal(18, 2))"
    assert build(right) == [[["success", "OK"]], 2]
    assert build(right) == [[["success", "OK"]], 1], "the contract is known by its text"
    with opened(tmp_path / "warehouse.duckdb", read_only=True) as connection:
        assert connection.execute("from zone").fetchall() == [("Asia/Kolkata", 1)]
    [[status, message]], described = build("'1'")
    assert (status, described) == ("error", 2)
    assert "data type mismatch" in message
    assert "DECIMAL(18,2)" in message


def test_second_process_takes_the_templates_and_schemas_of_the_first(
    imported: Process,
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (folder / "models" / "ten.sql").write_text(
        "{% set ten = 10 %}select {{ ten }} as ten, '{{ var('now', 'x') }}' as x"
    )
    (folder / "models" / "ten.yml").write_text("models: [{name: ten, columns: [{name: ten, data_tests: [unique]}]}]")
    (folder / "models" / "sources.yml").unlink()
    (folder / "models" / "counted.sql").unlink()

    def build(data: Path) -> Any:
        return run(imported, BUILD, str(folder), str(data / "dbt"), str(data / "warehouse.duckdb"))

    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    statuses, made, used = build(tmp_path / "first")
    assert statuses == ["success", "pass"]
    assert made["_generate"] > 0 < made["build_json_schema"]
    assert made["stack"] == 0
    assert used == ["build_type_tester", "empty_table"], "this version of dbt still asks for them"

    build(tmp_path / "first")  # which replaces tables, by macros that the first build of them does not need
    assert build(tmp_path / "first") == [statuses, NOTHING_MADE, used]
    assert build(tmp_path / "second") == [statuses, NOTHING_MADE, used], "those beside the project"

    [kept] = folder.glob("target/dbt/*/compiled.marshal")
    for path in (kept, tmp_path / "first" / "dbt" / "compiled.marshal"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert build(tmp_path / "first")[1]["_generate"] > 10, "a damaged file is as none"
    assert build(tmp_path / "first") == [statuses, NOTHING_MADE, used]

    (folder / "models" / "ten.sql").write_text("select {{ 10 }} as ten")
    assert build(tmp_path / "first")[1]["_generate"] > 0, "of another state of the project they may be others"


def test_tables_of_results_have_the_types_that_dbt_gives_them(imported: Process) -> None:
    assert run(imported, TESTERS) == [True, ["Text", "Integer", "Date", "Boolean"]]
