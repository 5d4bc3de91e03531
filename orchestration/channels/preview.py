"""The channel without credentials: sends nothing, shows what would have been sent, in the words and order of Slack."""

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import Promise
from orchestration.messages import groups
from orchestration.messages.figures import short_name
from orchestration.usage.formatting import printable

SEVERITY_STYLES = {"critical": "bold red", "high": "red", "warm": "yellow", "watch": "cyan"}
COLUMNS = 100
"""Of a line at most, however wide the terminal is."""
NAME_CHARACTERS = 40


class PreviewChannel:
    """Stands in for a channel whose credentials are not set."""

    is_preview = True
    promise = Promise.EXACTLY_ONCE

    def __init__(self, name: str) -> None:
        self.name = f"{name} (preview)"

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        return ""

    def send(self, delivery: Delivery) -> str:
        raise AssertionError("a preview is recorded, never sent")

    def find(self, delivery: Delivery) -> str | None:
        return None


def accounts_in(digest: Mapping[str, Any]) -> int:
    """How many crossings a digest announces; those that earlier versions froze list them all."""
    return int(digest["accounts"]) if "accounts" in digest else len(digest["items"])


def print_digest(console: Console, digest: Mapping[str, Any]) -> None:
    """The digest as it would appear: the same facts as at Slack, on lines of at most 100 columns."""
    width = min(console.width, COLUMNS)
    if "groups" not in digest:
        lines = _former(digest)
    else:
        lines = _digest(digest)
    for style, indent, parts in lines:
        for number, line in enumerate(wrapped([printable(part) for part in parts], width, indent)):
            console.print(Text(line, style if number == 0 or not indent else ""), soft_wrap=True)


def digest_text(digest: Mapping[str, Any], width: int = COLUMNS) -> str:
    """The same as plain text, for logs and for the asset's page."""
    stream = StringIO()
    print_digest(Console(file=stream, width=width, color_system=None), digest)
    return stream.getvalue()


Line = tuple[str, int, Sequence[str]]
"""Style of its first line, columns by which the others are indented, and parts that are kept whole where they fit."""


def _digest(digest: Mapping[str, Any]) -> Iterator[Line]:
    yield "bold", 0, [digest["title"]]
    yield "", 0, [digest["headline"]]
    for line in digest.get("notices", ()):
        yield "", 0, [line]
    number = 0
    for group in digest["groups"]:
        yield "", 0, [""]
        yield "bold", 0, [groups.heading(group)]
        items = [item for item in digest["items"] if item["group"] == group["key"]] if group["is_action"] else []
        for item in items:
            number += 1
            parts = [f"{number:2}. {short_name(item['name'], NAME_CHARACTERS)}", *item["facts"], item["todo"]]
            yield "", 4, parts
        if items and (left := group["count"] - len(items)):
            yield "", 4, [f"    … and {left:,} more in the file"]
        if group["briefs"]:
            more = group["count"] - len(group["briefs"])
            briefs = [f"{short_name(brief['name'], NAME_CHARACTERS)} {brief['text']}" for brief in group["briefs"]]
            yield "", 4, [f"    {briefs[0]}", *briefs[1:], *([f"{more:,} more"] if more > 0 else [])]
    if alerted := digest.get("alerted"):
        yield "", 0, [""]
        yield "bold", 0, [f"Alerted before this digest ({len(alerted):,})"]
        yield "", 4, [f"    {alerted[0]}", *alerted[1:]]
    yield from _bottom(digest)


def _bottom(digest: Mapping[str, Any]) -> Iterator[Line]:
    yield "", 0, [""]
    yield "dim", 0, digest["footer"]
    for link in digest.get("links", ()):
        yield "dim", 0, [f"{link['text']}: {link['url']}"]


def _former(digest: Mapping[str, Any]) -> Iterator[Line]:
    """A digest that an earlier version froze: it had tables, lists and no groups."""
    yield "bold", 0, [f"Usage digest {digest['date']}"]
    yield "", 0, [digest["headline"]]
    for item in digest["items"]:
        # before thresholds could be a number of units they were a percentage
        threshold = item["threshold"] if "threshold" in item else f"{item['threshold_pct']} %"
        used = f"{item['used']} / {item['quota']} ({item['pct']})"
        yield (
            "",
            4,
            [
                short_name(item["name"], NAME_CHARACTERS),
                used,
                f"crossed {threshold} {item['crossed_at']}",
                item["hits_cap"],
            ],
        )
    for section in digest.get("sections", ()):
        yield "bold", 0, [section["title"]]
        more = [f"… and {section['more']:,} more"] if section["more"] else []
        yield from (("", 4, [f"  {line}"]) for line in (*section["lines"], *more))
    yield from (("", 0, [line]) for line in digest.get("told", ()))
    yield from _bottom(digest)


def wrapped(parts: Sequence[str], width: int, indent: int = 0) -> list[str]:
    """The parts with a dot between them, on lines of that width: a part is broken only where it fits no line, so that
    figures stay whole.
    """
    lines = [""]
    for part in parts:
        if lines == [""]:
            candidate = part
        else:
            candidate = f"{lines[-1]} · {part}"
        if cell_len(candidate) <= width:
            lines[-1] = candidate
            continue
        if lines != [""]:
            lines.append(" " * indent + part)
        else:
            lines[-1] = part
        while cell_len(lines[-1]) > width:
            head = _head(lines[-1], width, indent)
            lines[-1:] = [lines[-1][:head].rstrip(), " " * indent + lines[-1][head:].lstrip()]
    return lines


def _head(line: str, width: int, indent: int) -> int:
    """How many characters of a line fit: up to its last blank, or all that there is room for."""
    room = next(end for end in range(len(line), 0, -1) if cell_len(line[:end]) <= width)
    blank = line.rfind(" ", indent + 1, room + 1)
    return blank if blank > indent else max(room, indent + 1)
