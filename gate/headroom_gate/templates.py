"""Route templates: from the path of a request to the endpoint that weights are set for, before any framework routes.

Understood are `/items/{id}`, `{id:int}`, `{rest:path}`, `<int:id>`, `<path:rest>` and `/items/:id`; other kinds match
all but a slash. A path without parameters goes before one with them, and an earlier template before a later one.
"""

import re
from collections.abc import Iterable

_BRACES = {"int": "[0-9]+", "path": ".*"}
_ANGLES = {"int": "[0-9]+", "path": ".+"}
"""Kinds, as Starlette and as Werkzeug match them."""
_PARAMETER = re.compile(r"\{(?P<a>[^{}]*)\}|<(?P<b>[^<>]*)>|(?<=/):(?P<c>\w+)")


class Templates:
    """An immutable set of templates."""

    def __init__(self, templates: Iterable[str]) -> None:
        patterns: dict[str, str] = {}
        literals = set()
        for template in templates:
            if _PARAMETER.search(template):
                patterns.setdefault(template, _pattern(template))
            else:
                literals.add(template)
        self._literals = frozenset(literals)
        self._names = tuple(patterns)
        self._pattern = re.compile("|".join(f"({pattern})" for pattern in patterns.values())) if patterns else None

    def match(self, path: str) -> str | None:
        """The template of a path without its query; None if it is none of them."""
        if path in self._literals:
            return path
        found = self._pattern.fullmatch(path) if self._pattern else None
        return self._names[found.lastindex - 1] if found and found.lastindex else None


def _pattern(template: str) -> str:
    parts, end = [], 0
    for found in _PARAMETER.finditer(template):
        parts.append(re.escape(template[end : found.start()]))
        of_braces = _BRACES.get((found["a"] or "").rpartition(":")[2])
        of_angles = _ANGLES.get((found["b"] or "").partition(":")[0])
        parts.append(of_braces or of_angles or "[^/]+")
        end = found.end()
    return "".join([*parts, re.escape(template[end:])])
