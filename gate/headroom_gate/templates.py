"""Route templates: from the path of a request to the endpoint that weights are set for, before any framework routes.

Understood are `/items/{id}`, `{id:int}`, `{rest:path}`, `<int:id>`, `<path:rest>` and `/items/:id`; other kinds match
all but a slash. A path without parameters goes before one with them, and an earlier template before a later one.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import zip_longest

_BRACES = {"int": "[0-9]+", "path": ".*"}
_ANGLES = {"int": "[0-9]+", "path": ".+"}
"""Kinds, as Starlette and as Werkzeug match them."""
_SEGMENT = "[^/]+"
_PARAMETER = re.compile(r"\{(?P<a>[^{}]*)\}|<(?P<b>[^<>]*)>|(?<=/):(?P<c>\w+)")


class Templates:
    """An immutable set of templates. Those with parameters are found by the folder that they begin with."""

    def __init__(self, templates: Iterable[str]) -> None:
        literals, folders = set[str](), dict[str, dict[str, int]]()
        for place, template in enumerate(templates):
            if parameter := _PARAMETER.search(template):
                folder = template[: template.rfind("/", 0, parameter.start()) + 1]
                folders.setdefault(folder, {}).setdefault(template, place)
            else:
                literals.add(template)
        self._literals = frozenset(literals)
        self._folders = {folder: _Alternatives(places) for folder, places in folders.items()}
        self._depth = max((folder.count("/") for folder in folders), default=0)

    def match(self, path: str) -> str | None:
        """The template of a path without its query; None if it is none of them."""
        if path in self._literals:
            return path
        found, end = list[tuple[int, str]](), 0
        for _ in range(self._depth + 1):
            if alternatives := self._folders.get(path[:end]):
                found += alternatives.match(path)
            end = path.find("/", end) + 1
            if not end:
                break
        return min(found)[1] if found else None


class _Alternatives:
    """Templates of one folder, with their places among all."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self._found = [(place, template) for template, place in places.items()]
        self._pattern = re.compile("|".join(f"({_pattern(template)})" for template in places))

    def match(self, path: str) -> list[tuple[int, str]]:
        """The first that matches, if any does."""
        found = self._pattern.fullmatch(path)
        return [self._found[found.lastindex - 1]] if found and found.lastindex else []


def _pattern(template: str) -> str:
    """In time that grows with the path alone: parameters of one segment never give back what they took."""
    found = list(_PARAMETER.finditer(template))
    parts = [re.escape(template[: found[0].start()])]
    for parameter, following in zip_longest(found, found[1:]):
        text = template[parameter.end() : following.start() if following else None]
        kind = _kind(parameter)
        is_followed = following and "/" not in text and kind == _SEGMENT
        parts.append(f"(?>{kind}?{re.escape(text)})" if is_followed else kind + re.escape(text))
    return "".join(parts)


def _kind(parameter: re.Match[str]) -> str:
    of_braces = _BRACES.get((parameter["a"] or "").rpartition(":")[2])
    return of_braces or _ANGLES.get((parameter["b"] or "").partition(":")[0]) or _SEGMENT
