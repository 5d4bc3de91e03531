"""A message as Teams shows it: an Adaptive Card.

Text runs of a RichTextBlock carry names as data; of all texts only that of a TextBlock is Markdown, and it is where a
mention works (the page "Format cards in Teams"). A message may have about 28 KB with all that it is made of (the page
"Microsoft Teams" of the connectors). The workflow puts the card as a string into another JSON and counts that: a card
of 24,453 bytes was refused as one of 28,897 (msteams-docs#11274), after the webhook had accepted it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.messages.message import Message
from orchestration.messages.outline import Kind, Row, arranged
from orchestration.messages.vendor import Drawn

BYTES = 26_000
"""Of a card as a string within JSON, below 28,672."""
VERSION = "1.4"
SCHEMA = "http://adaptivecards.io/schemas/adaptive-card.json"
_NOT_IN_A_NAME = re.compile(r"[^\w .,'-]|_")
"""Signs of Markdown and of the mention's own tag."""
Element = dict[str, Any]


def draw(message: Message, env: str, mentions: Mapping[str, str]) -> Drawn:
    """The payload. Nothing follows it: a webhook cannot reply. `mentions` are addresses of users by e-mail address."""
    rows, others = arranged(message, mentions, _fits)
    card = _card(rows)
    if message.body and others:
        card["body"].append(block(run("The letter goes on: it is too long for Teams.")))
    return {"card": card}, []


def block(*runs: Element, **style: Any) -> Element:
    return {"type": "RichTextBlock", "inlines": list(runs), **style}


def run(text: str, **style: Any) -> Element:
    return {"type": "TextRun", "text": text, **style}


def _card(rows: Sequence[Row]) -> Element:
    people = {row.mention: _person(row) for row in rows if row.mention}
    body = [_drawn(row) for row in rows if row.text or row.name]
    if people:
        tags = " ".join(f"<at>{name}</at>" for name in people.values())
        body.append({"type": "TextBlock", "text": tags, "wrap": True, "spacing": "Medium"})
    entities = [
        {"type": "mention", "text": f"<at>{name}</at>", "mentioned": {"id": address, "name": name}}
        for address, name in people.items()
    ]
    return {
        "$schema": SCHEMA,
        "type": "AdaptiveCard",
        "version": VERSION,
        "body": body,
        "msteams": {"width": "Full", **({"entities": entities} if entities else {})},
    }


def _person(row: Row) -> str:
    return _NOT_IN_A_NAME.sub("", row.owner).strip() or "owner"


def _drawn(row: Row) -> Element:
    match row.kind:
        case Kind.TITLE:
            return block(run(row.text, size="Large", weight="Bolder"))
        case Kind.HEADING:
            return block(run(row.text, weight="Bolder"), spacing="Medium")
        case Kind.FOOTER:
            return block(run(row.text, size="Small", isSubtle=True), spacing="Medium")
        case Kind.LINE:
            link = {"selectAction": {"type": "Action.OpenUrl", "url": row.url}} if row.url else {}
            named = [run(row.name, weight="Bolder", **link)] if row.name else []
            said = " · ".join(filter(None, [row.text, row.owner]))
            text = f" · {said}" if row.name and said else said
            return block(run("• "), *named, *([run(text)] if text else []), spacing="Small")
        case _:
            return block(run(row.text), spacing="Small")


def _fits(rows: Sequence[Row]) -> bool:
    return len(json.dumps(json.dumps(_card(rows)))) <= BYTES
