"""A message as Telegram shows it: plain text, and entities that say which part of it is bold, a link or a mention.

Limits: 4,096 characters of text (the page "sendMessage" of the Bot API); entities count in UTF-16 units, and so does
this module. Its maintainers say that entities may have some 9,500 bytes together (telegram-bot-api#165); of more than
100 the others have no effect.

No markup is parsed, so that a name needs no escapes. But Telegram looks for mentions, addresses, tags and commands in
any text: a sign without width parts those of the data.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.messages.message import Message
from orchestration.messages.outline import Kind, Row, arranged
from orchestration.messages.vendor import Drawn, Payload

CHARACTERS = 4_000
"""Of a message, so that the note of a repetition has room, too."""
ENTITIES = 90
ENTITIES_BYTES = 6_000
_JOINER = "\u2060"
"""A sign without width, at which Telegram ends an address or a name."""
_FOUND = re.compile(r"[@#](?=\w)|\$(?=[A-Z])|/(?=\w)|(?<=\w)\.(?=[^\W\d_])|(?<=\d)\.(?=\d+\.\d)|:(?=//)")
"""After these a mention, a tag, a command or an address would go on."""
_PING = re.compile(r"(?<!\w)@(?=\w)")


def draw(message: Message, env: str, mentions: Mapping[str, str]) -> Drawn:
    """The payload, and those of the replies. `mentions` are numbers of users by e-mail address.

    The body of a letter keeps the addresses in it: its template has written them.
    """
    has_links = bool(message.body)
    rows, others = arranged(message, mentions, lambda found: _fits(found, has_links=has_links))
    replies: list[Payload] = [_drawn(part, has_links=has_links) for part in others]
    return _drawn(rows, has_links=has_links), replies


def length(text: str) -> int:
    """In UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2


def plain(text: str) -> str:
    """Data, so that Telegram finds nothing in it."""
    return _FOUND.sub(rf"\g<0>{_JOINER}", text)


class _Text:
    """A text that grows, with its entities."""

    def __init__(self) -> None:
        self.text, self._length = "", 0
        self.entities: list[dict[str, Any]] = []

    def add(self, text: str, *styles: Mapping[str, Any]) -> None:
        size = length(text)
        self.entities += [{"offset": self._length, "length": size, **style} for style in styles if size]
        self.text, self._length = self.text + text, self._length + size


BOLD = {"type": "bold"}


def _drawn(rows: Sequence[Row], *, has_links: bool) -> Payload:
    drawn = _Text()
    for number, row in enumerate(rows):
        if number:
            drawn.add(
                "\n\n" if row.kind in (Kind.HEADING, Kind.FOOTER) or rows[number - 1].kind is Kind.TITLE else "\n"
            )
        match row.kind:
            case Kind.TITLE | Kind.HEADING:
                drawn.add(plain(row.text), BOLD)
            case Kind.LINE:
                _add_line(drawn, row)
            case Kind.TEXT if has_links:
                drawn.add(_PING.sub(f"@{_JOINER}", row.text))
            case _:
                drawn.add(plain(row.text))
    return {"text": drawn.text, "entities": drawn.entities}


def _add_line(drawn: _Text, row: Row) -> None:
    drawn.add("• ")
    if row.name:
        drawn.add(plain(row.name), BOLD, *([{"type": "text_link", "url": row.url}] if row.url else []))
    if row.text:
        drawn.add(f"{' · ' if row.name else ''}{plain(row.text)}")
    if row.mention:
        drawn.add(" · ")
        user = {"id": int(row.mention), "is_bot": False, "first_name": row.owner or "owner"}
        drawn.add(plain(row.owner) or "owner", {"type": "text_mention", "user": user})
    elif row.owner:
        drawn.add(f" · {plain(row.owner)}")


def _fits(rows: Sequence[Row], *, has_links: bool) -> bool:
    drawn = _drawn(rows, has_links=has_links)
    size = sum(len(entity.get("url", "").encode()) + 20 for entity in drawn["entities"])
    return length(drawn["text"]) <= CHARACTERS and len(drawn["entities"]) <= ENTITIES and size <= ENTITIES_BYTES
