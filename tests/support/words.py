"""Every sentence that people read: string literals, docstrings that become help or pages, descriptions in YAML.

Judging them is in `tests/test_words.py`. Not here: comments and ordinary docstrings, which only programmers read.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

SHOWN = {"asset", "multi_asset", "asset_check", "command", "callback", "sensor", "schedule", "op", "job"}
"""Decorators that show a function's docstring to people: Dagster's UI, and the help of a command."""

_SQL = re.compile(
    r"(?m)^\s*(select|with|insert|create|update|delete|copy|attach|drop|alter|and|from|join|where)\b[^.]*$"
)
_PROSE = re.compile(r"[A-Za-z][a-z']*,? [a-z']+,? [a-z']+")


@dataclass(frozen=True)
class Text:
    """What is said, and where: a value that is put in is `{}`, a count `{n}`."""

    path: str
    line: int
    words: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.words}"


def _spoken(node: ast.AST) -> str | None:
    """A literal as people read it; None for what is not one."""
    match node:
        case ast.Constant(value=str() as value):
            return value
        case ast.JoinedStr(values=parts):
            return "".join(_spoken(part) or "{}" for part in parts)
        case ast.FormattedValue(format_spec=ast.JoinedStr(values=[ast.Constant(value=",")])):
            return "{n}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = _spoken(left), _spoken(right)
            return None if first is None and second is None else f"{first or '{}'}{second or '{}'}"
    return None


def _is_shown(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in SHOWN:
            return True
    return False


def _docstrings(tree: ast.Module) -> tuple[set[int], list[ast.Constant]]:
    """The ids of all strings that are statements, and those of them that people are shown."""
    silent, shown = set(), []
    for node in ast.walk(tree):
        for number, statement in enumerate(
            getattr(node, "body", None) if isinstance(getattr(node, "body", None), list) else []
        ):
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                silent.add(id(statement.value))
                function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                if number == 0 and function and _is_shown(node):
                    shown.append(statement.value)
    return silent, shown


def of_module(module: Path, root: Path) -> Iterator[Text]:
    """The sentences of a module of Python."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    path = str(module.relative_to(root))
    silent, shown = _docstrings(tree)
    for docstring in shown:
        yield Text(path, docstring.lineno, str(docstring.value))
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        words = _spoken(node)
        if words is None:
            waiting.extend(reversed([*ast.iter_child_nodes(node)]))
            continue
        if id(node) not in silent and _PROSE.search(words) and not _SQL.search(words):
            yield Text(path, node.lineno, words)
        # a value that is put in may be words as well
        waiting.extend(part.value for part in ast.walk(node) if isinstance(part, ast.FormattedValue))


def of_yaml(file: Path, root: Path) -> Iterator[Text]:
    """The descriptions of a YAML file of dbt."""
    path = str(file.relative_to(root))

    def walk(node: yaml.Node | None) -> Iterator[Text]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == "description" and isinstance(value, yaml.ScalarNode):
                    yield Text(path, value.start_mark.line + 1, value.value)
                else:
                    yield from walk(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from walk(item)

    yield from walk(yaml.compose(file.read_text(encoding="utf-8")))


_CODE = re.compile(r"`[^`]*`|<[^>]*>|\{[^{}]*\}")
_END = re.compile(r"(?<=[.!?…])[)\"']*\s+|\n\s*\n|\n(?=\s*(?:-|\d\.) )")
_GRAIN = re.compile(r"^(One row per [^:.]*):", re.MULTILINE)


def sentences(words: str) -> list[str]:
    """The sentences of a text; a code span or a value that is put in counts as one word."""
    plain = _GRAIN.sub(r"\1.", _CODE.sub("X", words))
    return [" ".join(part.split()) for part in _END.split(plain) if part and part.strip()]


def length(sentence: str) -> int:
    """Its words: what has a letter or a digit."""
    return sum(any(character.isalnum() for character in word) for word in sentence.split())
