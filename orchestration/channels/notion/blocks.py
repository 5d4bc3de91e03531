"""A message as a row of a Notion database: its title and its kind, and the blocks of its page.

Limits, by Notion's page "Request limits": 2,000 characters of a text or a link, 100 texts of a block, 100 blocks of a
request, 500 KB. Notion counts an emoji as two characters; ours stay below half of its limits. Names are data there: a
text has no markup, and only a link object links.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from orchestration.messages.figures import one_line, short_name
from orchestration.messages.message import Line, Message

Block = dict[str, Any]
BLOCKS = 100
"""Notion's, of one request."""
PARTS = 10
"""A message takes so many requests at most; what is left over is counted."""
LINE_CHARACTERS = 500
NAME_CHARACTERS = 80
TEXT_CHARACTERS = 1000
URL = re.compile("https?://[!-~]{1,1900}")
UNTITLED = "Message without a title"


def draw(message: Message, env: str, mentions: Mapping[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The payload of the row, and those of the further parts of its page. Owners are named."""
    blocks = _blocks(message)
    room = PARTS * (BLOCKS - 1)
    if len(blocks) > room:
        blocks = [*blocks[: room - 1], _paragraph(f"… and {len(blocks) - room + 1:,} more")]
    first, left = blocks[:BLOCKS], blocks[BLOCKS:]
    parts = [left[start : start + BLOCKS - 1] for start in range(0, len(left), BLOCKS - 1)]
    row = {
        "title": one_line(message.title, LINE_CHARACTERS) or UNTITLED,
        "kind": message.key.partition("|")[0],
        "blocks": first,
    }
    return row, [_part(number, blocks) for number, blocks in enumerate(parts, 2)]


def _part(number: int, blocks: list[Block]) -> dict[str, Any]:
    """`heading` is the first block's text, by which the part is found in its page."""
    heading = f"Continued ({number})"
    return {"heading": heading, "blocks": [_paragraph(heading), *blocks]}


def plain_text(block: Mapping[str, Any]) -> str:
    """What a block says, as Notion gives it back."""
    texts = block.get(block.get("type", ""), {}).get("rich_text", [])
    return "".join(text.get("plain_text", "") for text in texts)


def _blocks(message: Message) -> list[Block]:
    if message.body:
        return [_paragraph(part) for part in _in_pieces(message.body)]
    headline = one_line(message.headline, LINE_CHARACTERS)
    blocks = [_block("paragraph", [_text(headline, is_bold=True)])] if headline else []
    for section in message.sections:
        heading = one_line(section.heading, LINE_CHARACTERS)
        blocks += [_block("heading_2", [_text(heading)])] if heading else []
        blocks += [_block("bulleted_list_item", _line(line)) for line in section.lines]
    return [*blocks, *(_paragraph(text) for text in message.footer if one_line(text))]


def _line(line: Line) -> list[dict[str, Any]]:
    name = one_line(short_name(line.name, NAME_CHARACTERS), NAME_CHARACTERS)
    facts = " · ".join(filter(None, (one_line(line.text, LINE_CHARACTERS), one_line(line.owner_name))))
    if not name:
        return [_text(facts or "–")]
    return [_text(name, line.url, is_bold=True), *([_text(f" · {facts}")] if facts else [])]


def _in_pieces(text: str) -> Iterable[str]:
    """Its lines, those that are too long in pieces."""
    for line in text.splitlines():
        for start in range(0, max(len(line), 1), TEXT_CHARACTERS):
            yield line[start : start + TEXT_CHARACTERS]


def _paragraph(text: str) -> Block:
    return _block("paragraph", [_text(text[:TEXT_CHARACTERS])] if text else [])


def _block(kind: str, texts: list[dict[str, Any]]) -> Block:
    return {"object": "block", "type": kind, kind: {"rich_text": texts}}


def _text(content: str, url: str = "", *, is_bold: bool = False) -> dict[str, Any]:
    text: dict[str, Any] = {"content": content}
    if URL.fullmatch(url):
        text["link"] = {"url": url}
    annotations = {"annotations": {"bold": True}} if is_bold else {}
    return {"type": "text", "text": text, **annotations}
