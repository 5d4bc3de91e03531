"""A message: decided once, for one audience, under one key. Plain data; `channels/` draws it.

The digest has a form of its own; everything else that is said to people is one of these.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestration.messages.figures import one_line

LINES = 10
"""Of a section in the message itself; the others are in its thread."""
KEPT = 200
"""Of a section in the ledger; the file of the thread has all."""
CHARACTERS = 200
"""Of an account's name in the data of a message; who draws it cuts it shorter."""


@dataclass(frozen=True)
class Line:
    """One fact, on one line."""

    text: str
    owner: str = ""
    """E-mail address of the owner, for a mention; it is not printed."""
    owner_name: str = ""
    """Who that is, where nobody is mentioned."""
    name: str = ""
    """The account that the line is about, before its text."""
    url: str = ""
    """Of the account's page."""
    account_id: str = ""
    """Of the account, for routes that are for some; empty where the line is about none."""
    meter: str = ""

    def words(self) -> str:
        """The line without its form."""
        return " · ".join(filter(None, [self.name, self.text, self.owner_name]))


@dataclass(frozen=True)
class Section:
    heading: str
    lines: Sequence[Line]
    more: int = 0
    """Lines that the ledger has left out."""


@dataclass(frozen=True)
class Message:
    """What is said, before anybody knows how it looks."""

    key: str
    """Without the environment: weekly|2026-W47. It is never used for another message."""
    audience: str
    title: str
    headline: str
    """The first line: who, what, what to do."""
    sections: Sequence[Section] = ()
    footer: Sequence[str] = ()
    table: Sequence[Mapping[str, Any]] = ()
    """All of it, for a file in the thread."""
    notification: str = ""
    """The sentence on a locked phone, where it is another one than the first line."""
    body: str = ""
    """A whole text as its template wrote it, such as a letter to a customer; then there are no sections."""
    charts: Sequence[Mapping[str, Any]] = ()
    """Figures to draw: see charts.py."""
    digest: Mapping[str, Any] | None = None
    """The digest that this is, with all that a channel with a form of its own for it draws: see digest.py."""
    is_test: bool = False
    """Somebody tries a route: the title says so."""
    reply_to: str = ""
    """E-mail address that answers go to."""
    unsubscribe: str = ""
    """Where a customer says that they want no more of these: mailto:… or https://…"""
    severity: str = ""
    """critical, high, warm or watch, where the channel has such a thing."""

    @property
    def lines(self) -> list[str]:
        """The message as plain lines, for logs and the terminal: of each section as many as a message shows."""
        said = [self.headline] if self.headline else []
        for section in self.sections:
            said += [*([section.heading] if section.heading else []), *(line.words() for line in section.lines[:LINES])]
            left = max(len(section.lines) - LINES, 0) + section.more
            said += [f"… and {left:,} more"] if left else []
        return [*said, *self.body.splitlines(), *self.footer]


def to_json(message: Message) -> dict[str, Any]:
    """The message as the ledger keeps it: the first `KEPT` lines of each section, and neither its table nor its charts,
    which are in the deliveries that show them.
    """
    parts = [replace(part, lines=part.lines[:KEPT], more=max(len(part.lines) - KEPT, 0)) for part in message.sections]
    plain = asdict(replace(message, sections=parts, table=(), charts=()))
    kept: dict[str, Any] = json.loads(json.dumps(plain, default=str))
    return kept


def of_json(content: Mapping[str, Any]) -> Message:
    """The message that `to_json` kept."""
    parts = [
        Section(part["heading"], [Line(**line) for line in part["lines"]], part["more"]) for part in content["sections"]
    ]
    return Message(**{**content, "sections": parts})


def sections(groups: Mapping[str, Iterable[Line]]) -> list[Section]:
    """A section for each group with lines, its heading with their number."""
    listed = {heading: list(lines) for heading, lines in groups.items()}
    return [Section(f"{heading} ({len(lines):,})", lines) for heading, lines in listed.items() if lines]


def by_account(rows: Iterable[Mapping[str, Any]], word: str, order: Sequence[str]) -> list[list[Mapping[str, Any]]]:
    """The rows of each account together, whatever the meter: that whose `word` comes first in `order` first, then that
    of the main meter. Accounts stay in the order of `rows`.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["account_id"], []).append(row)
    return [
        sorted(each, key=lambda row: (order.index(row[word]), not row["is_main"], row["meter"]))
        for each in found.values()
    ]


def account_name(row: Mapping[str, Any]) -> str:
    """What people call the account, on one line; its id where it has no name that can be seen."""
    names = (one_line(row[column], CHARACTERS) for column in ("account_name", "account_id"))
    return next(filter(None, names), "account without a name")
