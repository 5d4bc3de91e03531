"""What dbt does for nobody: done later, or not at all.

Import it before dbt. Each shortcut stands in for a function of dbt, or of a library that dbt is made of, and has the
same effect. The tests of this module fail where a newer version no longer calls that function. The process of dbt
(`dbt_worker.py`) takes the shortcuts; a dbt that somebody starts by hand is left as it is.
"""

import copy
import functools
import threading
from collections.abc import Iterable
from typing import Any, cast

from mashumaro.config import BaseConfig

# dbt's own classes are set like this. Those of mashumaro's JSON schemas would be compiled at import: 0.2 s.
BaseConfig.lazy_compilation = True

import dbt.compilation
import dbt.task.run
import dbt.task.test
from dbt.adapters.duckdb.column import DuckDBColumn
from dbt.adapters.duckdb.environments import Environment
from dbt.adapters.duckdb.impl import DuckDBAdapter
from dbt.adapters.duckdb.utils import escape_sql_string
from dbt.clients.jinja import MacroGenerator
from dbt.context.macros import MacroNamespace, MacroNamespaceBuilder
from dbt.context.providers import ModelContext, RuntimeProvider
from dbt.include.global_project import PROJECT_NAME as GLOBAL_PROJECT_NAME
from dbt.tracking import track_behavior_change_warn
from dbt_common.behavior_flags import BehaviorFlagRendered
from dbt_common.clients import agate_helper
from dbt_common.clients.jinja import MacroFuzzEnvironment
from dbt_common.dataclass_schema import dbtClassMixin
from dbt_common.events.base_types import BaseEvent, EventLevel
from dbt_common.events.event_manager import EventManager

from orchestration.warehouse import dbt_compiled

_initialize, _fire = BaseEvent.__init__, EventManager.fire_event
_open, _cursor = Environment.initialize_db.__func__, Environment.initialize_cursor.__func__  # type: ignore[attr-defined]
_describe = DuckDBAdapter.get_column_schema_from_query
_empty_table = agate_helper.empty_table
_make_type_tester = functools.cache(agate_helper.build_type_tester)


def take() -> None:
    """Take all of them in this process, from now on. A second call changes nothing."""
    for owner, name, ours in (
        (BaseEvent, "__init__", _note),
        (BaseEvent, "pb_msg", _Message()),
        (EventManager, "fire_event", _fire_if_read),
        (MacroNamespaceBuilder, "build_namespace", _namespace),
        *(
            (module, "generate_runtime_model_context", _context)
            for module in (dbt.compilation, dbt.task.run, dbt.task.test)
        ),
        (Environment, "initialize_db", classmethod(_opened)),
        (Environment, "initialize_cursor", classmethod(_unset_cursor)),
        (DuckDBAdapter, "get_column_schema_from_query", _columns),
        (MacroFuzzEnvironment, "compile", dbt_compiled.template),
        (dbtClassMixin, "json_schema", classmethod(dbt_compiled.json_schema)),
        (BehaviorFlagRendered, "_default_source", staticmethod(lambda: "dbt")),
        (agate_helper, "empty_table", functools.cache(_empty_table)),
        (agate_helper, "build_type_tester", _type_tester),
    ):
        setattr(owner, name, ours)


class _Message:
    """dbt makes protobuf messages of the 3,000 events of a build. Here one is made when somebody reads it."""

    def __get__(self, event: Any, _owner: type) -> Any:
        if event is None:
            return self
        args, fields = event.__dict__["fields"]
        _initialize(event, *args, **fields)  # which puts the message in this one's place
        return event.__dict__["pb_msg"]


def _note(event: BaseEvent, *args: Any, **fields: Any) -> None:
    event.__dict__["fields"] = args, fields


def _fire_if_read(
    manager: EventManager,
    e: BaseEvent,
    level: EventLevel | None = None,
    node: Any = None,
    force_warn_or_error_handling: bool = False,
) -> None:
    """Without a log, events are for nobody, but for warnings that may be errors."""
    is_warning = force_warn_or_error_handling or (level or e.level_tag()) == EventLevel.WARN
    if is_warning or manager.loggers or any(each is not track_behavior_change_warn for each in manager.callbacks):
        _fire(manager, e, level, node, force_warn_or_error_handling)


def _type_tester(text_columns: Iterable[str], string_null_values: Iterable[str] | None = ("null", "")) -> Any:
    """One for each set of columns: it makes five parsers of dates. dbt shares that of no columns as well."""
    return _make_type_tester(frozenset(text_columns), None if string_null_values is None else tuple(string_null_values))


class _Macro(MacroGenerator):
    """dbt's, without the three constructors of its parents: a build makes 200,000."""

    def __init__(self, macro: Any, context: dict[str, Any], node: Any, stack: Any) -> None:
        self.macro, self.context, self.node, self.stack = macro, context, node, stack


class _Namespace(dict[str, Any]):
    """dbt's MacroNamespace, with each name looked up already."""

    def __init__(self, packages: dict[str, Any], internal: dict[str, Any], local: Any, root: Any) -> None:
        self.packages, self.global_project_namespace = packages, internal
        self.local_namespace, self.global_namespace = local, root
        super().__init__({**internal, GLOBAL_PROJECT_NAME: internal, **packages, **root, **local})

    get_from_package = cast(Any, MacroNamespace.get_from_package)


def _namespace(
    builder: MacroNamespaceBuilder, macros_by_package: dict[str, dict[str, Any]], ctx: dict[str, Any]
) -> Any:
    """The 700 macros as each of 280 contexts of a build has them: dbt looks in five places for each."""
    node, stack = builder.node, builder.thread_ctx
    made = {
        package: {name: _Macro(macro, ctx, node, stack) for name, macro in macros.items()}
        for package, macros in macros_by_package.items()
    }
    internal: dict[str, Any] = {}
    for package in reversed(builder.internal_package_names_order):  # of the same name, that of the first one wins
        internal |= made.pop(package, {})
    local = made.get(builder.search_package, {})
    root = {} if builder.root_package == builder.search_package else made.get(builder.root_package, {})
    return _Namespace(made, internal, local, root)


_latest = threading.local()


def _context(model: Any, config: Any, manifest: Any) -> dict[str, Any]:
    """dbt makes the context of a node twice, to compile it and to run it. The thread that has compiled the node fills
    that one again: it is the macros that take long.
    """
    made = getattr(_latest, "made", None)
    if made is not None and made.model is model and made.config is config and made.manifest is manifest:
        made.sql_results.clear()
        made._ctx.clear()
    else:
        made = ModelContext(model, config, manifest, RuntimeProvider(), None)
    _latest.made = made
    return made.to_dict()


def _opened(environment: Any, credentials: Any, *rest: Any) -> Any:
    """dbt makes the settings in each of 145 cursors of a build. Here they are those of the database."""
    connection = _open(environment, credentials, *rest)
    for name, value in (credentials.settings or {}).items():
        connection.execute(f"set global {name} = '{escape_sql_string(value)}'")
    return connection


def _unset_cursor(environment: Any, credentials: Any, *rest: Any) -> Any:
    without = copy.copy(credentials)
    without.settings = None
    return _cursor(environment, without, *rest)


def _columns(adapter: Any, sql: str) -> list[Any]:
    """Names and types of a query. dbt asks those of each contract, a query that reads nothing."""
    if sql.count("from") > 1 or "cast(null as" not in sql:
        return cast(list[Any], _describe(adapter, sql))

    def make() -> Any:
        return [[column.column, column.dtype] for column in _describe(adapter, sql)]

    return [DuckDBColumn(*each) for each in dbt_compiled.compiled.get("columns", sql, make)]
