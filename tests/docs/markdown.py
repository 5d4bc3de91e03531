"""Markdown that a program writes: cells, tables, and how a page says that it was made."""

import re
from collections.abc import Iterable, Iterator, Sequence

COMMAND = "make reference"
_REFERENCE = re.compile(r"docs/((?:[\w-]+/)*[\w-]+\.md)#([\w-]+)")


def made_from(source: str) -> Iterator[str]:
    yield f"<!-- Made from {source} by `{COMMAND}`: change that, not this page. -->"
    yield ""


def cell(text: str) -> str:
    """A text in a cell of a table: one line, and no mark of HTML or of a table in it."""
    shown = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"`[^`]*`|<", lambda match: "&lt;" if match[0] == "<" else match[0], shown)


def linked(text: str) -> str:
    """References such as docs/meaning/definitions.md#days-to-cap as links, for a page in a folder of docs/."""
    return _REFERENCE.sub(lambda match: f"[{match[2].replace('-', ' ')}](../{match[1]}#{match[2]})", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell(each) for each in row)} |"
    yield ""
