"""A message as rows of text, for channels that have no form of their own for it. They style rows and say what fits.

Names and texts are data here: on one line, cut, without what turns the direction of writing. Markup is the channel's.
"""

import re
import textwrap
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestration.messages.figures import one_line, short_name
from orchestration.messages.message import LINES, Line, Message, Section

TITLE_CHARACTERS = 200
HEADLINE_CHARACTERS = 600
HEADING_CHARACTERS = 200
LINE_CHARACTERS = 300
NAME_CHARACTERS = 60
FOOTER_CHARACTERS = 600
BODY_CHARACTERS = 1_000
"""Of one row of a body: a longer paragraph goes on in the next one."""
PARTS = 5
"""Messages that follow one at most, so that they do not flood a channel."""
ROWS = 120
"""Of one message at most."""
NAMELESS = "–"
REPETITION = "This may be a repetition."
"""What a channel that sends at least once says of a message whose earlier attempt had no answer."""


class Kind(StrEnum):
    TITLE = "title"
    HEADLINE = "headline"
    TEXT = "text"
    HEADING = "heading"
    LINE = "line"
    FOOTER = "footer"


@dataclass(frozen=True)
class Row:
    kind: Kind
    text: str
    """Of a line, what follows the account's name."""
    name: str = ""
    url: str = ""
    """Of the account's page: http:// or https://, or empty."""
    owner: str = ""
    """Name of the owner."""
    mention: str = ""
    """The channel's user to mention instead, at most once in a message."""


Fits = Callable[[Sequence[Row]], bool]
"""Whether a channel takes these rows as one message."""


def arranged(message: Message, users: Mapping[str, str], fits: Fits) -> tuple[list[Row], list[list[Row]]]:
    """The rows of the message, and of those that follow it.

    Of each section it has ten lines at most, or as many as there is room for; the messages that follow have the others.
    `users` are the channel's users by e-mail address.
    """
    title = Row(Kind.TITLE, one_line(message.title, TITLE_CHARACTERS) or NAMELESS)
    if message.body:
        (first, *others), _ = _packed([title, *_body(message.body)], fits)
        return first, others
    for most in range(LINES, -1, -1):
        rows = [title, *_rows(message, users, most)]
        if fits(rows):
            break
    else:
        [rows], _ = _packed(rows, fits, 1)
    return rows, _limited(_rest(message.sections, most), fits)


def _rows(message: Message, users: Mapping[str, str], most: int) -> list[Row]:
    headline = one_line(message.headline, HEADLINE_CHARACTERS)
    rows = [Row(Kind.HEADLINE, headline)] if headline else []
    mentioned: set[str] = set()
    for section in message.sections:
        rows += _heading(section.heading)
        for line in section.lines[:most]:
            user = users.get(line.owner, "")
            rows.append(_line(line, user, has_mention=user in mentioned))
            mentioned.add(user)
        if (left := len(section.lines) - most) > 0:
            rows.append(Row(Kind.TEXT, f"… and {left:,} more"))
    footer = one_line(" · ".join(message.footer), FOOTER_CHARACTERS)
    return [*rows, *([Row(Kind.FOOTER, footer)] if footer else [])]


def _rest(sections: Sequence[Section], most: int) -> list[Row]:
    """The lines that the message itself has no room for. Nobody is mentioned in them."""
    rows: list[Row] = []
    for section in sections:
        if lines := section.lines[most:]:
            rows += _heading(f"{section.heading}, continued" if most and section.heading else section.heading)
            rows += [_line(line) for line in lines]
    return rows


def _heading(text: str) -> list[Row]:
    heading = one_line(text, HEADING_CHARACTERS)
    return [Row(Kind.HEADING, heading)] if heading else []


def _line(line: Line, user: str = "", *, has_mention: bool = False) -> Row:
    mention = "" if has_mention else user
    return Row(
        Kind.LINE,
        one_line(line.text, LINE_CHARACTERS),
        name=one_line(short_name(line.name, NAME_CHARACTERS), NAME_CHARACTERS) or (NAMELESS if line.name else ""),
        url=line.url if re.fullmatch(r"https?://[!-~]+", line.url) else "",
        owner=one_line(line.owner_name),
        mention=mention,
    )


def _body(text: str) -> list[Row]:
    """Its lines, with the blank ones between paragraphs."""
    lines = [part for line in text.strip().splitlines() for part in textwrap.wrap(line, BODY_CHARACTERS) or [""]]
    return [Row(Kind.TEXT, one_line(line, BODY_CHARACTERS)) for line in lines]


def _packed(rows: Sequence[Row], fits: Fits, most: int | None = None) -> tuple[list[list[Row]], Sequence[Row]]:
    """The rows in as few messages as they fit into, in their order, and those for which `most` messages have no room.

    A row that fits into none has one of its own.
    """
    found: list[list[Row]] = []
    start = 0
    while start < len(rows) and len(found) != most:
        ends = range(start + 1, min(start + ROWS, len(rows)) + 1)
        start, before = start + max(bisect_left(ends, True, key=lambda end: not fits(rows[start:end])), 1), start
        found.append(list(rows[before:start]))
    return found, rows[start:]


def _limited(rows: Sequence[Row], fits: Fits) -> list[list[Row]]:
    """The rows in some messages; the last of them says how many lines are left out."""
    parts, others = _packed(rows, fits, PARTS)
    left = sum(row.kind is Kind.LINE for row in others)
    while left and not fits([*parts[-1], Row(Kind.TEXT, f"… and {left:,} more")]):
        left += parts[-1].pop().kind is Kind.LINE
    return [*parts[:-1], [*parts[-1], Row(Kind.TEXT, f"… and {left:,} more")]] if left else parts
