"""A message as an event of PagerDuty's: what the person on call reads on a phone, and the details below it.

PagerDuty's page "Send an Alert Event": a summary of at most 1,024 characters, one of four severities, `custom_details`
of any form, links; its overview: 512 KB in all. Everything is text there; no name can call or link.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestration.messages.figures import one_line, short_name
from orchestration.messages.message import Line, Message

SUMMARY_CHARACTERS = 1024
SEVERITIES = {"critical": "critical", "high": "error", "warm": "warning", "watch": "info"}
"""PagerDuty's, by ours."""
LINES = 100
"""Of all sections together: with the longest texts, in letters of four bytes, some 250 KB."""
LINKS = 20
LINE_CHARACTERS = 500
NAME_CHARACTERS = 80
UNNAMED = "Accounts"
"""In place of an empty heading."""


def draw(message: Message, env: str, mentions: Mapping[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The payload, without replies. Whom it calls is PagerDuty's business: nobody is mentioned."""
    kind = message.key.partition("|")[0]
    severity = SEVERITIES.get(message.severity, "critical" if kind == "critical" else "warning")
    details: dict[str, Any] = {"title": one_line(message.title, LINE_CHARACTERS)}
    details |= _sections(message)
    if message.body:
        details["text"] = message.body[: 20 * LINE_CHARACTERS]
    if footer := [one_line(text, LINE_CHARACTERS) for text in message.footer]:
        details["notes"] = footer
    summary = one_line(message.headline, SUMMARY_CHARACTERS) or one_line(message.title, SUMMARY_CHARACTERS)
    payload = {
        "summary": summary or "Message without a title",
        "severity": severity,
        "source": f"headroom {env}",
        "class": kind,
        "custom_details": details,
    }
    return {"event": {"payload": payload, "links": list(_links(message))[:LINKS]}}, []


def _sections(message: Message) -> dict[str, list[str]]:
    """The lines by heading, one hundred at most; how many are left out of each."""
    found: dict[str, list[str]] = {}
    room = LINES
    for section in message.sections:
        lines = [_words(line) for line in section.lines[:room]]
        left = len(section.lines) - len(lines)
        room -= len(lines)
        lines += [f"… and {left:,} more"] if left else []
        found.setdefault(one_line(section.heading, NAME_CHARACTERS) or UNNAMED, []).extend(lines)
    return found


def _words(line: Line) -> str:
    name = one_line(short_name(line.name, NAME_CHARACTERS), NAME_CHARACTERS)
    texts = (name, one_line(line.text, LINE_CHARACTERS), one_line(line.owner_name))
    return " · ".join(filter(None, texts))


def _links(message: Message) -> Iterator[dict[str, str]]:
    """Accounts' pages, each once."""
    seen = set()
    for line in (line for section in message.sections for line in section.lines):
        if re.fullmatch(r"https?://\S{1,2000}", line.url) and line.url not in seen:
            seen.add(line.url)
            yield {"href": line.url, "text": one_line(line.name, NAME_CHARACTERS) or "Account"}
