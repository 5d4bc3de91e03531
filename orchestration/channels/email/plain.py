"""A letter as text: lines of at most 78 columns (RFC 5322, 2.1.1), for programs and people that show no HTML."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestration.channels.email.parts import Fact, Part
from orchestration.messages import charts

COLUMNS = 78
_ADDRESSES = ("https://", "http://", "mailto:")


def notice(frame: Mapping[str, Any], drawn: Sequence[Part]) -> str:
    """Title, headline, parts and footer of drawing.py."""
    blocks = [[frame["title"]], frame["headline"]]
    blocks += [list(_part(part)) for part in drawn]
    blocks += [frame["footer"], [f"{each['text']}: {each['url']}" for each in frame["links"]]]
    return letter("\n\n".join("\n".join(block) for block in blocks if block), frame["unsubscribe"])


def letter(body: str, unsubscribe: str) -> str:
    """A whole text, its lines cut, and where to unsubscribe."""
    lines = [line for text in body.splitlines() for line in wrapped(text)]
    lines += ["", "Unsubscribe:", unsubscribe] if unsubscribe else []
    return "\n".join(lines) + "\n"


def wrapped(text: str) -> list[str]:
    """Cut between words, and within one that is too long itself, but for an address. A list's lines are indented."""
    indent = " " * (len(text) - len(text.lstrip(" ")))
    hanging = f"{indent}  " if text.lstrip(" ").startswith("- ") else indent
    lines, line, is_empty = [], indent, True
    for word in text.split():
        rest = word
        while rest:
            joined = f"{line}{rest}" if is_empty else f"{line} {rest}"
            if _columns(joined) <= COLUMNS or (is_empty and rest.startswith(_ADDRESSES)):
                line, rest, is_empty = joined, "", False
                continue
            if is_empty:
                head = _head(rest, COLUMNS - _columns(line))
                line, rest = f"{line}{head}", rest[len(head) :]
            lines.append(line)
            line, is_empty = hanging, True
    return lines if is_empty and lines else [*lines, line.rstrip()]


def _part(part: Part) -> Iterator[str]:
    if part.heading:
        yield part.heading
    if part.is_line:
        said = [" ".join(filter(None, [_isolated(fact.name), fact.text])) for fact in part.facts]
        yield " · ".join([*said, *([f"{part.more:,} more"] if part.more else [])])
        return
    for fact in part.facts:
        yield from _fact(fact)
    if part.more > 0:
        yield f"… and {part.more:,} more"
    yield from part.quote.splitlines()


def _fact(fact: Fact) -> Iterator[str]:
    yield f"- {' · '.join(filter(None, [_isolated(fact.name), fact.text]))}"
    if fact.url:
        yield f"  {fact.url}"
    yield from (f"  {line}" for line in fact.details)
    if fact.chart:
        yield f"  {charts.alternative(fact.chart)}"


def _isolated(name: str) -> str:
    """A name that is written from right to left, so that it does not turn the figures after it."""
    is_turned = any(unicodedata.bidirectional(sign) in ("R", "AL") for sign in name)
    return f"\u2068{name}\u2069" if is_turned else name


def _columns(text: str) -> int:
    return sum(map(_width, text))


def _width(sign: str) -> int:
    if unicodedata.combining(sign) or unicodedata.category(sign) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _head(word: str, room: int) -> str:
    """As much of the word as has room, and at least one sign."""
    taken = 0
    for number, sign in enumerate(word):
        taken += _width(sign)
        if taken > room and number:
            return word[:number]
    return word
