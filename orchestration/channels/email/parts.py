"""What a letter says, in the order in which it is read: a message or a digest, cut to what a mail program shows.

A letter has no thread, so what other channels reply with is part of it: exact figures, notes, charts. Texts are
cleaned here; their form is drawing.py's.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestration.messages import groups
from orchestration.messages.figures import one_line, short_name
from orchestration.messages.message import Message, Section

NAME_CHARACTERS = 80
TEXT_CHARACTERS = 400
NOTE_CHARACTERS = 6_000
MOST_PARTS = 60
_LINKABLE = re.compile(r"(?<=\w)\.(?=[^\W\d_]{2})|(?<=:)(?=//)")
_SCHEMES = ("https://", "http://", "mailto:")


@dataclass(frozen=True)
class Fact:
    """One line: an account, or something else that is so."""

    text: str
    name: str = ""
    url: str = ""
    details: Sequence[str] = ()
    """Exact figures, below it."""
    chart: Mapping[str, Any] | None = None
    cid: str = ""
    """Names the picture of the chart within the letter."""


@dataclass(frozen=True)
class Part:
    heading: str = ""
    facts: Sequence[Fact] = ()
    more: int = 0
    """Facts that are left out."""
    is_line: bool = False
    """All facts on one line: names of whom nobody has to do anything about."""
    quote: str = ""
    """A text as it is, with its line ends."""
    mailto: str = ""
    """Opens the quote as an e-mail."""


def clean(text: object, characters: int = TEXT_CHARACTERS) -> str:
    """On one line, no longer than that, without signs that break a header or a page."""
    return one_line(printable(str(text or "")), characters)


def printable(text: str) -> str:
    """Without control characters and halves of characters; line ends stay."""
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cs"))


def inert(text: str) -> str:
    """With a word joiner, which nobody sees, where a mail program would make a link of what only looks like one."""
    return _LINKABLE.sub(lambda found: f"{found[0]}\u2060", text)


def safe_url(url: str) -> str:
    """The address, if it is one that a link may have; else nothing."""
    return url if url.startswith(_SCHEMES) and not re.search(r"[\s<>\"\x00-\x1f\x7f]", url) else ""


def parts(message: Message, most: int) -> list[Part]:
    """With so many facts of each part at most."""
    if message.digest is not None:
        drawn = list(_digest(message.digest, most))
    else:
        drawn = [_section(section, most) for section in message.sections]
        drawn += [Part(facts=[_chart(number, chart)]) for number, chart in enumerate(message.charts, 1)]
    return drawn[:MOST_PARTS]


def _section(section: Section, most: int) -> Part:
    facts = [
        _fact(" · ".join(filter(None, [line.text, line.owner_name])), line.name, line.url)
        for line in section.lines[:most]
    ]
    return Part(clean(section.heading), facts, len(section.lines) - len(facts))


def _digest(digest: Mapping[str, Any], most: int) -> Iterable[Part]:
    actions = {group["key"] for group in digest["groups"] if group["is_action"]}
    items = [(item, _item(item, number)) for number, item in enumerate(digest["items"], 1)]
    for group in digest["groups"]:
        heading = clean(groups.heading(group))
        if group["is_action"]:
            drawn = [fact for item, fact in items if item["group"] == group["key"]][:most]
            yield Part(heading, drawn, group["count"] - len(drawn))
        else:
            briefs = [_fact(brief["text"], brief["name"], brief["url"]) for brief in group["briefs"]]
            yield Part(heading, briefs, max(group["count"] - len(briefs), 0), is_line=True)
    if alerted := digest.get("alerted"):
        yield _lines(f"Alerted before this digest ({len(alerted):,})", alerted, most)
    if others := [fact for item, fact in items if item["group"] not in actions]:
        yield Part("No action needed", others[:most], len(others[most:]))
    for known in digest.get("known", ()):
        yield _lines(known["title"], known["lines"], most, known["more"])
    for item, fact in items:
        for note in item.get("notes", ()):
            quote = printable(note["text"])
            quote = quote if len(quote) <= NOTE_CHARACTERS else f"{quote[:NOTE_CHARACTERS]}…"
            mailto = safe_url(note.get("mailto") or "")
            yield Part(f"{fact.name} · {clean(note['title'])}", quote=quote, mailto=mailto)


def _item(item: Mapping[str, Any], number: int) -> Fact:
    said = _fact(" · ".join(filter(None, [*item["facts"], item["todo"]])), item["name"], item["url"])
    details = [inert(clean(line)) for line in item["details"]]
    chart = item.get("chart")
    return replace(said, details=details, chart=chart, cid=f"chart-{number}" if chart else "")


def _chart(number: int, chart: Mapping[str, Any]) -> Fact:
    return replace(_fact("", chart["name"]), chart=chart, cid=f"chart-{number}")


def _lines(heading: str, lines: Sequence[str], most: int, more: int = 0) -> Part:
    return Part(clean(heading), [_fact(line) for line in lines[:most]], more + len(lines[most:]))


def _fact(text: str, name: str = "", url: str = "") -> Fact:
    shown = short_name(clean(name, 2 * NAME_CHARACTERS), NAME_CHARACTERS)
    return Fact(inert(clean(text)), inert(shown), safe_url(url))
