"""A digest as Slack's payloads: a message, and the replies in its thread, within Slack's limits. Sends nothing.

Every text is plain_text: names are data, which cannot ping, link or format there, and read as they are. The
exceptions are a mention, which is made of a user id alone, and links, which are made of the configuration's address.

There is no table block. A message may have one, of cells that are never empty, without mentions in the plain ones; on
a phone its columns are scrolled, not read. Clients that do not know it need a second payload, and a payload is frozen
once. What a table is good for, sorting all accounts, the file in the thread does.
"""

import base64
import io
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestration.channels.slack import chart
from orchestration.messages.message import LINES, Message, Section
from orchestration.messages.wording import DETAILED
from orchestration.usage.spreadsheet import SpreadsheetWriter

CHARACTERS = 10_000
"""Of all blocks together, as JSON: above some 13,000 Slack answers msg_blocks_too_long, whatever else is respected."""
MAX_BLOCKS = 50
"""Slack's, of one message."""
NOTE_CHARACTERS = 750
"""Of one section of a note: even if each takes twelve as JSON, it has room in a message."""
LINE_CHARACTERS = 280
"""Of a line of a notice: ten of them, with a heading, are below Slack's 3,000 of a section."""
MAX_ITEMS = 40
"""Blocks of one message; with header, headline and footer below Slack's 50."""
MAX_NEWS = 10
"""Accounts of the message itself: what one reads on a phone before the coffee is cold. The others are in the thread."""
LIST_CHARACTERS = 3_000
"""Of the lists below the news, as JSON; those that do not fit are in the thread."""
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Unicode's embeddings, overrides and isolates of writing direction: one that is not closed turns a line's figures."""


def digest_payloads(
    digest: Mapping[str, Any], table: Sequence[Mapping[str, Any]], env: str, mentions: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The payloads of a digest and of its replies; a quiet day has none.

    First the accounts for which the message has no room, then the notes on the first accounts (an item's `notes`: texts
    of any length, such as a draft to its contact), their charts, and a file of `table`. Files come last, for they need
    a scope more.
    """
    message, more = digest_message(digest, mentions)
    more += [reply for item in digest["items"][:DETAILED] for reply in _notes(item)]
    replies: list[dict[str, Any]] = [{"message": reply} for reply in more]
    name = f"usage-digest-{env}-{digest['date']}"
    replies += [
        {"file": chart_file(f"{name}-{number}.png", item)}
        for number, item in enumerate(digest["items"][:DETAILED], 1)
        if any(item["calls"])
    ]
    if digest["items"] and table:
        replies.append({"file": table_file(f"{name}.csv", f"All accounts at a threshold, {digest['date']}", table)})
    return {"audience": "sales", "digest": digest, "message": message}, replies


def digest_message(
    digest: Mapping[str, Any], mentions: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The digest as message (text for notifications and screen readers, and blocks), and the messages that reply to
    it: the accounts for which it has no room. `mentions` are the Slack users of owners.
    """
    headline = _cut(digest["headline"], 600)
    top = [{"type": "header", "text": _plain(f"Usage digest {digest['date']}")}, _section(headline)]
    lists = [_section(_listed(section)) for section in digest.get("sections", ())]
    kept = _fitting(lists, [], LIST_CHARACTERS)
    told = [_section(_lines("Told when it happened", digest["told"]))] if digest.get("told") else []
    bottom = [*lists[:kept], *told, *_footer(digest)]
    items = [_item(item, mentions) for item in digest["items"]]
    shown = min(_fitting(items, [*top, *bottom]), MAX_NEWS)
    more = [_section(f"… and {len(items) - shown:,} more in the thread")] if shown < len(items) else []
    message = {"text": headline, "blocks": [*top, *items[:shown], *more, *bottom]}
    replies = []
    while shown < len(items):
        start, shown = shown, shown + max(_fitting(items[shown:], []), 1)
        text = f"Usage digest {digest['date']}: accounts {start + 1:,} to {shown:,} of {len(items):,}"
        replies.append({"text": text, "blocks": [_section(text), *items[start:shown]]})
    replies += [{"text": digest["sections"][n]["title"], "blocks": [lists[n]]} for n in range(kept, len(lists))]
    return message, replies


def notice_payloads(
    notice: Message, env: str, mentions: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The payloads of a notice and of the file in its thread. `mentions` are the Slack users of owners.

    Of each section as many lines as there is room for, ten at most; the file has all.
    """
    headline = _cut(notice.headline, 300)
    top = [{"type": "header", "text": _plain(_cut(notice.title, 150))}, _section(headline)]
    footer = _cut(" · ".join(notice.footer), 1000)
    bottom = [{"type": "context", "elements": [_plain(footer)]}] if footer else []
    for most in range(LINES, -1, -1):
        drawn = [block for section in notice.sections for block in _notice_section(section, mentions, most)]
        blocks = [*top, *drawn, *bottom]
        if len(blocks) <= MAX_BLOCKS and len(json.dumps(blocks)) <= CHARACTERS:
            break
    replies = []
    if notice.table:
        name = f"{notice.key.replace('|', '-')}-{env}.csv"
        replies.append({"file": table_file(name, f"{notice.title}: all accounts", notice.table)})
    return {"audience": notice.audience, "message": {"text": headline, "blocks": blocks}}, replies


def message_text(message: Mapping[str, Any]) -> str:
    """What a message says, without its form."""
    blocks = message.get("blocks", ())
    texts = [text["text"] for block in blocks for text in block.get("elements") or [block["text"]]]
    return "\n".join(texts or [message["text"]])


def chart_file(name: str, item: Mapping[str, Any]) -> dict[str, str]:
    """A picture of an account's calls, day by day. `name` is its name at Slack, unique in the thread."""
    calls = item["calls"]
    title = f"{_cut(item['name'], 80)}: calls by day, at most {max(calls):,}"
    spoken = f"{title}. From the first day on: {', '.join(f'{value:,}' for value in calls)} so far."
    return {
        "name": name,
        "title": title,
        "alt_text": spoken,
        "base64": base64.b64encode(chart.bars(calls)).decode(),
    }


def table_file(name: str, title: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A CSV file, one line for each of `rows`. `name` is its name at Slack, unique in the thread.

    It begins with a byte order mark: without, Excel takes it for the machine's old encoding.
    """
    stream = io.StringIO()
    SpreadsheetWriter(stream).write([list(rows[0]), *(row.values() for row in rows)])
    return {"name": name, "title": title, "content": f"\ufeff{stream.getvalue()}"}


def _notice_section(section: Section, mentions: Mapping[str, str], most: int) -> list[dict[str, Any]]:
    """Its lines as one text; each as a block of its own where somebody is mentioned."""
    if not any(line.owner in mentions for line in section.lines):
        return [_section(_lines(section.heading, [line.text for line in section.lines], most))]
    blocks = [_section(section.heading)] if section.heading else []
    for line in section.lines[:most]:
        block, user = _section(_cut(line.text, LINE_CHARACTERS)), mentions.get(line.owner)
        blocks.append({**block, "fields": [{"type": "mrkdwn", "text": f"<@{user}>"}]} if user else block)
    left = len(section.lines) - most
    return [*blocks, _section(f"… and {left:,} more")] if left > 0 else blocks


def _lines(heading: str, lines: Sequence[str], most: int = LINES) -> str:
    more = [f"… and {len(lines) - most:,} more"] if len(lines) > most else []
    return "\n".join([*filter(None, [heading]), *(_cut(line, LINE_CHARACTERS) for line in lines[:most]), *more])


def _notes(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The notes on an account as messages, whole and with their line breaks."""
    title = _section(_cut(item["name"], 80))
    parts = [part for note in item.get("notes", ()) for part in _split(note)]
    sections = [_section(part) for part in parts if part.strip()]
    while sections:
        fitting = _fitting(sections, [title])
        yield {"text": title["text"]["text"], "blocks": [title, *sections[:fitting]]}
        sections = sections[fitting:]


def _split(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        NOTE_CHARACTERS,
        expand_tabs=False,
        replace_whitespace=False,
        drop_whitespace=False,
        break_on_hyphens=False,
    )


def _fitting(
    sections: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], characters: int = CHARACTERS
) -> int:
    """How many of the sections have room in one message beside the other blocks, and a line about what is left."""
    room = characters - len(json.dumps(others))
    for number, section in enumerate(sections):
        room -= len(json.dumps(section))
        if room < 0 or number == MAX_ITEMS:
            return number
    return len(sections)


def _item(item: Mapping[str, Any], mentions: Mapping[str, str]) -> dict[str, Any]:
    user = mentions.get(item["owner"])
    facts = [_cut(item["name"], 80), item["severity"], f"{item['used']} / {item['quota']} ({item['pct']})"]
    facts += [f"hits cap: {item['hits_cap']}", f"projected {item['projected']}"]
    todo = [item.get("action", ""), *([] if user else [_cut(item["owner"], 80)])]
    todo += [f"MRR {item['mrr']}"] if item["mrr"] else []
    todo += [f"renews {item['renewal']}"] if item.get("renewal") else []
    notes = [f"Note: {'; '.join(item['caveats'])}"] if item.get("caveats") else []
    lines = [" · ".join(facts), " · ".join(filter(None, todo)), *item.get("details", ()), *notes, item["sparkline"]]
    section = _section("\n".join(_cut(line, 400) for line in lines if line))
    return {**section, "fields": [{"type": "mrkdwn", "text": f"<@{user}>"}]} if user else section


def _listed(section: Mapping[str, Any]) -> str:
    more = [f"… and {section['more']:,} more"] if section["more"] else []
    # a letter of other scripts may take twelve characters as JSON
    lines = [_cut(line, 300 if line.isascii() else 150) for line in section["lines"]]
    return "\n".join([section["title"], *(f"- {line}" for line in lines), *more])


def _footer(digest: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks = [{"type": "context", "elements": [_plain(_cut(" · ".join(digest["footer"]), 1000))]}]
    if links := [f"<{link['url']}|{link['text']}>" for link in digest.get("links", ())]:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(links)}]})
    return blocks


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _plain(text)}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _cut(text: str, characters: int) -> str:
    """On one line, no longer than that, and without what would turn the text behind it around."""
    text = " ".join(_TURNS.sub("", text).split())
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
