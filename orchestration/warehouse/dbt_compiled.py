"""What dbt works out of texts and of its own classes alone, kept for its next process. Imported before dbt, as
`dbt_shortcuts.py` is, which puts it in the place of what works it out.

That is the code of 500 Jinja templates, and JSON schemas: a fifth of dbt's time. It is kept beside the parsed
project, for exactly that project and those versions. A process that can write there can run code here, as with Python's
own `__pycache__`.
"""

import hashlib
import json
import marshal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbt_common.clients.jinja import MacroFuzzEnvironment
from dbt_common.dataclass_schema import dbtClassMixin

_compile, _json_schema = MacroFuzzEnvironment.compile, dbtClassMixin.json_schema.__func__  # type: ignore[attr-defined]


class Compiled:
    """By kind, and by text or name. Empty until `load`."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}
        self._is_new = False

    def load(self, path: Path, key: str) -> None:
        """What an earlier process kept under the same key; nothing where the file is damaged."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        body = content[len(_head(key, b"")) :]
        if content.startswith(_head(key, body)):
            self._known = marshal.loads(body)  # noqa: S302 - as Python's own __pycache__

    def save(self, path: Path, key: str) -> bool:
        """Keep what is known for the next process. False: there is nothing new."""
        if self._is_new:
            body = marshal.dumps(self._known)
            part = path.with_suffix(".part")
            part.write_bytes(_head(key, body) + body)
            part.rename(path)
        return self._is_new

    def get(self, kind: str, name: str, make: Callable[[], Any]) -> Any:
        known = self._known.get((kind, name))
        if known is None:
            known = self._known[kind, name] = make()
            self._is_new = True
        return known


def _head(key: str, body: bytes) -> bytes:
    return f"{key} {hashlib.sha256(body).hexdigest()}\n".encode()


compiled = Compiled()


def template(environment: MacroFuzzEnvironment, source: Any, *rest: Any, **named: Any) -> Any:
    """Jinja's `compile`. dbt's environments of one class are set alike, so a text has one code in all of them."""
    if rest or named or not isinstance(source, str):
        return _compile(environment, source, *rest, **named)
    return compiled.get(type(environment).__qualname__, source, lambda: _compile(environment, source))


def json_schema(cls: type[dbtClassMixin]) -> Any:
    """dbt's own of a class that it checks configuration by, as plain JSON: defaults, which check nothing, as text."""

    def make() -> Any:
        return json.loads(json.dumps(_json_schema(cls), default=str))

    return compiled.get("schema", f"{cls.__module__}.{cls.__qualname__}", make)
