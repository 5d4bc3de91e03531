"""A digest as Slack's payloads: the message that one reads standing up, and the replies in its thread. Sends nothing.

The message has at most a phone's screen of text: a line for each of the first accounts, and lines of names. Each owner
has one reply with the exact figures, and is mentioned there and nowhere else. Limits: rich.py.

There is no table block. A message may have one, of cells that are never empty, without mentions in the plain ones; on
a phone its columns are scrolled, not read. Clients that do not know it need a second payload, and a payload is frozen
once. What a table is good for, sorting all accounts, the file in the thread does.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestration.channels.slack import rich
from orchestration.channels.slack.files import chart_file, table_file
from orchestration.channels.slack.notices import CHARACTERS, context, header, notice_payloads
from orchestration.channels.slack.rich import message_text
from orchestration.messages import groups
from orchestration.messages.figures import short_name
from orchestration.messages.wording import DETAILED

__all__ = ["digest_message", "digest_payloads", "message_text", "notice_payloads"]

TEXT_CHARACTERS = 2_500
"""Of the message itself, its form not counted: about 40 lines of a phone."""
MAX_NEWS = 10
"""Accounts of the message itself that have a line; the others are in the thread."""
NAME_CHARACTERS = 40
"""Of a name in the message itself."""
NOTE_CHARACTERS = 750
"""Of one part of a note: even if each takes twelve as JSON, it has room in a message."""
MAX_ITEMS = 40
"""Blocks of one reply, below Slack's 50."""
Blocks = list[dict[str, Any]]


def digest_payloads(
    digest: Mapping[str, Any],
    table: Sequence[Mapping[str, Any]],
    env: str,
    mentions: Mapping[str, str],
    with_files: bool = True,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The payloads of a digest and of its replies; a quiet day has none.

    First a reply for each owner, then what needs nobody's action and what was known before, then the notes on the first
    accounts (an item's `notes`: texts of any length, such as a draft to its contact), their charts, and a file of
    `table`. Files come last, for they need a scope more; without `with_files` there is none.
    """
    message, more = digest_message(digest, mentions)
    more += [reply for item in digest["items"][:DETAILED] for reply in _notes(item)]
    replies = [_payload(reply) for reply in more]
    if with_files:
        replies += [{"file": file} for file in _files(digest, table, f"usage-digest-{env}-{digest['date']}")]
    return {"audience": "sales", "digest": digest, "message": message, "about": _subjects(digest["items"])}, replies


def digest_message(
    digest: Mapping[str, Any], mentions: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The digest as message (text for notifications and screen readers, and blocks), and the messages that reply to
    it, each with the accounts that it is `about`. `mentions` are the Slack users of owners.
    """
    text = rich.cut(digest["notification"], 600)
    return {"text": text, "blocks": _fitting_message(digest)}, [*_owners(digest, mentions), *_others(digest)]


# The message


def _fitting_message(digest: Mapping[str, Any]) -> Blocks:
    """With as many accounts as there is room for: names are left out first, then lines."""
    news = min(len(digest["items"]), MAX_NEWS)
    tries = [(news, names) for names in (5, 3, 2)] + [(fewer, 1) for fewer in range(news, -1, -1)]
    for lines, names in tries:
        blocks = _message(digest, lines, names)
        size = sum(map(len, message_text({"blocks": blocks}).splitlines()))
        if size <= TEXT_CHARACTERS and len(json.dumps(blocks)) <= CHARACTERS:
            break
    return blocks


def _message(digest: Mapping[str, Any], most: int, names: int) -> Blocks:
    lead = rich.section(rich.plain(rich.cut(digest["headline"], 600)))
    extra = [rich.section(rich.plain(rich.cut(line, 600))) for line in digest.get("notices", ())]
    top = [] if _is_quiet(digest) else [header(digest["title"])]
    blocks, shown = [*top, rich.block(lead, *extra)], 0
    for group in digest["groups"]:
        items = [item for item in digest["items"] if item["group"] == group["key"]]
        title = rich.bold(groups.heading(group))
        if group["is_action"]:
            drawn = items[: max(most - shown, 0)]
            lines = [rich.listed([_line(item) for item in drawn], shown)] if drawn else []
            left = group["count"] - len(drawn)
            also = f"… and {left:,} more in the thread" if drawn else f"{left:,} in the thread"
            more = [rich.section(rich.plain(also))] if left else []
            blocks.append(rich.block(rich.section(title), *lines, *more))
            shown += len(drawn)
        else:
            blocks.append(rich.block(rich.section(title, rich.plain("  "), *_names(group, names))))
    if alerted := digest.get("alerted"):
        blocks.append(rich.block(rich.section(*_alerted(alerted, names))))
    return [*blocks, *_footer(digest)]


def _is_quiet(digest: Mapping[str, Any]) -> bool:
    return not digest["groups"]


def _line(item: Mapping[str, Any]) -> rich.Element:
    """One account: name, figures, what was crossed, what is ahead, who does what."""
    said = rich.cut(" · ".join(filter(None, [*item["facts"], item["todo"]])), 400)
    return rich.section(rich.name(item["name"], item["url"], NAME_CHARACTERS), rich.plain(rich.whole(f" · {said}")))


def _names(group: Mapping[str, Any], most: int) -> list[rich.Element]:
    elements: list[rich.Element] = []
    for brief in group["briefs"][:most]:
        elements += [rich.plain(" · ")] if elements else []
        shown = rich.cut(short_name(brief["name"], NAME_CHARACTERS)) or rich.NAMELESS
        link = {"type": "link", "url": brief["url"], "text": shown} if brief["url"] else rich.plain(shown)
        elements += [link, rich.plain(rich.whole(f" {rich.cut(brief['text'], 120)}"))]
    left = group["count"] - min(len(group["briefs"]), most)
    return [*elements, rich.plain(f" · {left:,} more" if elements else f"{left:,}")] if left > 0 else elements


def _alerted(lines: Sequence[str], most: int) -> list[rich.Element]:
    shown = " · ".join(rich.cut(line, 150) for line in lines[:most])
    more = f" · {len(lines) - most:,} more" if len(lines) > most else ""
    return [rich.bold(f"Alerted before this digest ({len(lines):,})"), rich.plain(f"  {shown}{more}")]


def _footer(digest: Mapping[str, Any]) -> Blocks:
    blocks = [context(rich.cut(" · ".join(digest["footer"]), 600))]
    if links := [f"<{link['url']}|{link['text']}>" for link in digest.get("links", ())]:
        # mrkdwn, made of the configuration's address and our words alone
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(links)}]})
    return blocks


# The thread


def _owners(digest: Mapping[str, Any], mentions: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A reply for each owner of an account that needs action, in the order of the message; one ping each."""
    actions = {group["key"] for group in digest["groups"] if group["is_action"]}
    by_owner: dict[str, list[Mapping[str, Any]]] = {}
    for item in digest["items"]:
        if item["group"] in actions:
            by_owner.setdefault(item["owner"], []).append(item)
    for owner, items in by_owner.items():
        name = rich.cut(items[0]["owner_name"], 60)
        count = f"{len(items):,} account{'' if len(items) == 1 else 's'}"
        who = rich.user(mentions[owner]) if owner in mentions else rich.bold(name)
        parts = [_details(item) for item in items]
        yield from _replies(f"{name}: {count}", [who, rich.plain(f": {count}")], parts, _subjects(items))


def _others(digest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What needs nobody's action: the news of it, and what was known before."""
    actions = {group["key"] for group in digest["groups"] if group["is_action"]}
    items = [item for item in digest["items"] if item["group"] not in actions]
    if items:
        title, parts = "No action needed", [_details(item, item["owner_name"]) for item in items]
        yield from _replies(title, [rich.bold(title)], parts, _subjects(items))
    for known in digest.get("known", ()):
        more = [f"… and {known['more']:,} more"] if known["more"] else []
        parts = [rich.block(rich.listed([line])) for line in rich.lines([*known["lines"], *more])]
        yield from _replies(known["title"], [rich.bold(known["title"])], parts)
    if digest.get("alerted"):
        parts = [rich.block(rich.listed([line])) for line in rich.lines(digest["alerted"])]
        yield from _replies("Alerted before this digest", [rich.bold("Alerted before this digest")], parts)


def _details(item: Mapping[str, Any], owner_name: str = "") -> dict[str, Any]:
    title = [rich.name(item["name"], item["url"])]
    title += [rich.plain(f" · {rich.cut(owner_name, 60)}")] if owner_name else []
    title += [rich.plain(f"  {item['sparkline']}")] if item["sparkline"] else []
    lines = rich.lines(item["details"])
    return rich.block(rich.section(*title), *([rich.listed(lines)] if lines else []))


def _replies(
    text: str, title: list[rich.Element], parts: Sequence[dict[str, Any]], about: Sequence[list[str]] = ()
) -> Iterator[dict[str, Any]]:
    """Messages with all parts, as many in each as there is room for. Only the first has the title, and so the ping.

    `about` are the account and meter of each part.
    """
    start = 0
    while start < len(parts):
        top = [rich.block(rich.section(*title) if not start else rich.section(rich.plain(f"{text}, continued")))]
        end = start + max(_fitting(parts[start:], top), 1)
        yield {"text": text, "blocks": [*top, *parts[start:end]], "about": list(about[start:end])}
        start = end


def _fitting(parts: Sequence[dict[str, Any]], others: Blocks) -> int:
    """How many of the parts have room in one message beside the other blocks."""
    room = CHARACTERS - len(json.dumps(others))
    for number, part in enumerate(parts[:MAX_ITEMS]):
        room -= len(json.dumps(part)) + 2
        if room < 0:
            return number
    return min(len(parts), MAX_ITEMS)


def _notes(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The notes on an account, whole and with their line breaks."""
    for note in item.get("notes", ()):
        parts = [rich.block(rich.quoted(part)) for part in _split(note["text"]) if part.strip()]
        title = [rich.name(item["name"], item["url"]), rich.plain(f" · {note['title']}")]
        if note.get("mailto"):
            title += [rich.plain(" · "), {"type": "link", "url": note["mailto"], "text": "open as e-mail"}]
        about = _subjects([item] * len(parts))
        yield from _replies(f"{rich.cut(item['name'], 80)} · {note['title']}", title, parts, about)


def _subjects(items: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Account and meter of each, for those who read what people answer."""
    return [[item["account_id"], item["meter"]] for item in items]


def _payload(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Of a reply, what Slack gets and beside it what it is about; an account once."""
    about = [list(each) for each in dict.fromkeys(map(tuple, reply["about"]))]
    message = {name: part for name, part in reply.items() if name != "about"}
    return {"message": message, "about": about} if about else {"message": message}


def _split(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        NOTE_CHARACTERS,
        expand_tabs=False,
        replace_whitespace=False,
        drop_whitespace=False,
        break_on_hyphens=False,
    )


def _files(digest: Mapping[str, Any], table: Sequence[Mapping[str, Any]], name: str) -> Iterator[dict[str, str]]:
    for number, item in enumerate(digest["items"][:DETAILED], 1):
        if item.get("chart"):
            yield chart_file(f"{name}-{number}.png", item["chart"])
    if digest["items"] and table:
        yield table_file(f"{name}.csv", f"All accounts at a threshold, {digest['date']}", table)
