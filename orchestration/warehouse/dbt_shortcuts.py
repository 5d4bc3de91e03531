"""What dbt does again in each process, or for nobody: taken from an earlier process, done later, or not at all.

Import it before dbt. Each shortcut stands in for a function of dbt, or of a library that dbt is made of, and has the
same effect. The tests of this module fail where a newer version no longer calls that function. The process of dbt
(`dbt_worker.py`) takes the shortcuts; a dbt that somebody starts by hand is left as it is.
"""

import hashlib
import marshal
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from mashumaro.config import BaseConfig

# dbt's own classes are set like this. Those of mashumaro's JSON schemas would be compiled at import: 0.2 s.
BaseConfig.lazy_compilation = True

from dbt.clients.jinja import MacroGenerator
from dbt.context.macros import MacroNamespace, MacroNamespaceBuilder
from dbt.include.global_project import PROJECT_NAME as GLOBAL_PROJECT_NAME
from dbt.tracking import track_behavior_change_warn
from dbt_common.dataclass_schema import dbtClassMixin
from dbt_common.events.base_types import BaseEvent, EventLevel
from dbt_common.events.event_manager import EventManager
from jinja2 import Environment

MAKERS = ("dbt-core", "dbt-common", "dbt-adapters", "dbt-duckdb", "dbt-clickhouse", "jinja2", "mashumaro")
"""What is kept is good for these versions of them."""
MOST_KEPT = 2_000
"""Where more is kept, that of earlier versions of the project goes. One version has some 500."""

_known: dict[str, Any] = {}
_used: set[str] = set()
_new: set[str] = set()
_initialize, _fire, _compile = BaseEvent.__init__, EventManager.fire_event, Environment.compile
_schema = cast(Any, dbtClassMixin.json_schema).__func__


def take() -> None:
    """Take all of them in this process, from now on. A second call changes nothing."""
    for owner, name, ours in (
        (BaseEvent, "__init__", _note),
        (BaseEvent, "pb_msg", _Message()),
        (EventManager, "fire_event", _fire_if_read),
        (Environment, "compile", _compile_once),
        (dbtClassMixin, "json_schema", classmethod(_schema_once)),
        (MacroNamespaceBuilder, "build_namespace", _namespace),
    ):
        setattr(owner, name, ours)


def read_kept(folders: Sequence[Path]) -> None:
    """Take over what an earlier process kept, from the first folder that has it whole."""
    for folder in folders:
        with suppress(OSError):
            content = (folder / _file_name()).read_bytes()
            digest, kept = content[:32], content[32:]
            if hashlib.sha256(kept).digest() == digest:  # a file that was cut short could end the process
                _known.update(marshal.loads(kept))  # noqa: S302 - ours; who can write here can change the SQL, too
                return


def keep(folders: Sequence[Path]) -> None:
    """Keep it for the next process, where something was made here. A folder that cannot be written goes without."""
    if not _new:
        return
    names = _used if len(_known) > MOST_KEPT else _known
    kept = marshal.dumps({name: _known[name] for name in names if _can_be_kept(_known[name])})
    for folder in folders:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(kept).digest() + kept)
            Path(path).replace(folder / _file_name())
    _new.clear()


def _can_be_kept(value: Any) -> bool:
    """Not the few schemas that have enumerations of dbt's in them: only a parse of changed files needs those."""
    try:
        marshal.dumps(value)
    except ValueError:
        return False
    return True


@cache
def _file_name() -> str:
    versions = [sys.version]
    for name in MAKERS:
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    return f"shortcuts-{hashlib.sha256(' '.join(versions).encode()).hexdigest()[:16]}"


def _once(name: str, make: Callable[[], Any]) -> Any:
    if name not in _known:
        _known[name] = make()
        _new.add(name)
    _used.add(name)
    return _known[name]


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


def _compile_once(environment: Environment, source: Any, name: Any = None, filename: Any = None, *rest: Any) -> Any:
    """Jinja would compile 450 macros, models and settings in each process: 0.4 s."""
    if not isinstance(source, str) or name is not None or filename is not None or any(rest):
        return _compile(environment, source, name, filename, *rest)
    kind = type(environment)
    what = (kind.__module__, kind.__qualname__, sorted(environment.extensions), environment.optimized, source)
    key = hashlib.sha256(repr(what).encode("utf-8", "surrogatepass")).hexdigest()
    return _once(f"template {key}", lambda: _compile(environment, source))


def _schema_once(kind: type[Any]) -> Any:
    """The shapes of settings, against which dbt validates them: 0.3 s for seven classes."""
    return _once(f"schema {kind.__module__}.{kind.__qualname__}", lambda: _schema(kind))


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
    """The 660 macros as each of 280 contexts of a build has them: dbt looks in five places for each."""
    node, stack = builder.node, builder.thread_ctx
    made = {
        package: {name: MacroGenerator(macro, ctx, node, stack) for name, macro in macros.items()}
        for package, macros in macros_by_package.items()
    }
    internal: dict[str, Any] = {}
    for package in reversed(builder.internal_package_names_order):  # of the same name, that of the first one wins
        internal |= made.pop(package, {})
    local = made.get(builder.search_package, {})
    root = {} if builder.root_package == builder.search_package else made.get(builder.root_package, {})
    return _Namespace(made, internal, local, root)
