"""Slack's rich_text block, built from data, and the text that a message has without its form.

What Slack's documentation says (docs.slack.dev/reference/block-kit/blocks/rich-text-block and the pages of its
elements): a block has `elements`, each a rich_text_section, _list, _preformatted or _quote. A section is one paragraph
of text, link and user elements; a list has sections, style bullet or ordered, an `offset` from which it counts, and an
`indent` of 0 to 8. `style` makes a text bold or italic. "It is strongly preferred" to mrkdwn, for a name in a text
element is only text: it cannot ping, link or format. Only a user element mentions somebody, only a link element links.

What it does not say, and people have seen: an empty element or text is refused with invalid_blocks
(Slack.NetStandard#100), and all blocks of a message together may have some 12,000 characters, else Slack answers
msg_blocks_too_long (bolt-js#2509; in #2867 it refused 11,341 of them). No limit of characters or elements of one block
is known; ours stay below the 3,000 of a section.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from orchestration.messages.figures import one_line, short_name

Element = dict[str, Any]
NAMELESS = "–"
"""In place of a text of which nothing can be seen."""
LINE_CHARACTERS = 300
_UNIT = re.compile(r"(?<=\d) (?=(%|k|M|bn)(?!\w))")
JSON_CHARACTERS = 900
"""Of one text, as JSON: a letter of another script takes six there, an emoji twelve."""


def cut(text: str, characters: int = LINE_CHARACTERS) -> str:
    """On one line, no longer than that, however long its letters are as JSON."""
    shown = one_line(text, characters)
    while len(json.dumps(shown)) > JSON_CHARACTERS:
        shown = f"{shown[: len(shown) * 3 // 4]}…"
    return shown


def whole(text: str) -> str:
    """With blanks within figures at which no line ends."""
    return _UNIT.sub("\u00a0", text)


def plain(text: str) -> Element:
    return {"type": "text", "text": text or NAMELESS}


def bold(text: str) -> Element:
    return {"type": "text", "text": text or NAMELESS, "style": {"bold": True}}


def name(text: str, url: str = "", characters: int = 80) -> Element:
    """A name in bold, as a link where it has an address. A long one keeps the meter in brackets at its end."""
    shown = cut(short_name(text, characters), characters) or NAMELESS
    return {"type": "link", "url": url, "text": shown, "style": {"bold": True}} if url else bold(shown)


def user(user_id: str) -> Element:
    """A mention: the one element that pings."""
    return {"type": "user", "user_id": user_id}


def section(*elements: Element) -> Element:
    return {"type": "rich_text_section", "elements": list(elements)}


def listed(sections: Sequence[Element], offset: int | None = None) -> Element:
    """A bullet list, or one with numbers that goes on after `offset` others."""
    if offset is None:
        return {"type": "rich_text_list", "style": "bullet", "elements": list(sections)}
    counts_on = {"offset": offset} if offset else {}
    return {"type": "rich_text_list", "style": "ordered", **counts_on, "elements": list(sections)}


def quoted(text: str) -> Element:
    """A text as it is, with its line ends."""
    return {"type": "rich_text_quote", "elements": [plain(text)]}


def block(*parts: Element) -> Element:
    return {"type": "rich_text", "elements": list(parts)}


def lines(texts: Iterable[str]) -> list[Element]:
    """Each text as a section of a list, without the empty ones."""
    return [section(plain(shown)) for text in texts if (shown := cut(text))]


def message_text(message: dict[str, Any]) -> str:
    """What a message says, without its form."""
    texts = [line for each in message.get("blocks", ()) for line in _lines_of(each)]
    return "\n".join(texts or [message["text"]]).replace("\u00a0", " ")


def _lines_of(element: Element) -> list[str]:
    match element["type"]:
        case "rich_text":
            return [line for each in element["elements"] for line in _lines_of(each)]
        case "rich_text_list":
            start = element.get("offset", 0) + 1
            is_ordered = element["style"] == "ordered"
            return [
                f"{f'{number}.' if is_ordered else '•'} {_inline(each)}"
                for number, each in enumerate(element["elements"], start)
            ]
        case "rich_text_section" | "rich_text_quote" | "rich_text_preformatted":
            return [_inline(element)]
        case _:  # header, section and context have text objects
            return [text["text"] for text in element.get("elements") or [element.get("text") or {}] if "text" in text]


def _inline(element: Element) -> str:
    return "".join(
        f"@{each['user_id']}" if each["type"] == "user" else each.get("text") or each.get("url", "")
        for each in element["elements"]
    )
