"""A message: decided once, for one audience, under one key. Plain data; `channels/` draws it.

The digest has a form of its own; everything else that is said to people is one of these.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LINES = 10
"""Of a section in the message itself; the others are in its thread."""


@dataclass(frozen=True)
class Line:
    """One fact, on one line."""

    text: str
    owner: str = ""
    """E-mail address of whoever should be called, where somebody should be."""


@dataclass(frozen=True)
class Section:
    heading: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Message:
    """What is said, before anybody knows how it looks."""

    key: str
    """Without the environment: weekly|2026-W47. It is never used for another message."""
    audience: str
    title: str
    headline: str
    """The sentence of the notification: who, what, what to do."""
    sections: Sequence[Section] = ()
    footer: Sequence[str] = ()
    table: Sequence[Mapping[str, Any]] = ()
    """All of it, for a file in the thread."""


def sections(groups: Mapping[str, Iterable[Line]]) -> list[Section]:
    """A section for each group with lines, its heading with their number."""
    listed = {heading: list(lines) for heading, lines in groups.items()}
    return [Section(f"{heading} ({len(lines):,})", lines) for heading, lines in listed.items() if lines]


def account_name(row: Mapping[str, Any]) -> str:
    """What people call the account."""
    return str(row["account_name"] or row["account_id"])
