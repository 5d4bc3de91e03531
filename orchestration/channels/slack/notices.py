"""A notice as Slack's payloads: the weekly, monthly, critical, failure and billing messages, in the digest's form."""

import json
from collections.abc import Mapping
from typing import Any

from orchestration.channels.slack import rich
from orchestration.channels.slack.files import table_file
from orchestration.messages.message import LINES, Message, Section

CHARACTERS = 10_000
"""Of all blocks together, as JSON: above some 12,000 characters Slack answers msg_blocks_too_long."""
MAX_BLOCKS = 50
"""Slack's, of one message."""
HEADER_CHARACTERS = 150
"""Slack's, of a header block; its text is plain."""


def notice_payloads(
    notice: Message, env: str, mentions: Mapping[str, str], with_files: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The payloads of a notice and of the file in its thread. `mentions` are the Slack users of owners.

    Of each section as many lines as there is room for, ten at most; the file has all. An owner is mentioned once.
    """
    headline = rich.cut(notice.headline) or rich.cut(notice.title) or rich.NAMELESS
    top = [header(notice.title), rich.block(rich.section(rich.plain(headline)))]
    footer = rich.cut(" · ".join(notice.footer), 1000)
    bottom = [context(footer)] if footer else []
    for most in range(LINES, -1, -1):
        told: set[str] = set()
        drawn = [_section(section, mentions, most, told) for section in notice.sections]
        blocks = [*top, *drawn, *bottom]
        if len(blocks) <= MAX_BLOCKS and len(json.dumps(blocks)) <= CHARACTERS:
            break
    replies = []
    if notice.table and with_files:
        name = f"{notice.key.replace('|', '-')}-{env}.csv"
        replies.append({"file": table_file(name, f"{notice.title}: all accounts", notice.table)})
    text = rich.cut(notice.notification, 300) or headline
    subjects = [(line.account_id, line.meter) for section in notice.sections for line in section.lines]
    about = [list(each) for each in dict.fromkeys(subjects) if each[0]]
    payload = {"audience": notice.audience, "message": {"text": text, "blocks": blocks}}
    return {**payload, "about": about} if about else payload, replies


def header(text: str) -> dict[str, Any]:
    return {"type": "header", "text": _plain(rich.cut(text, HEADER_CHARACTERS) or rich.NAMELESS)}


def context(text: str) -> dict[str, Any]:
    """Small print. A context block has at most ten texts or images; this is one."""
    return {"type": "context", "elements": [_plain(text)]}


def _section(section: Section, mentions: Mapping[str, str], most: int, told: set[str]) -> dict[str, Any]:
    """The heading in bold, and its lines as a list."""
    lines = []
    for line in section.lines[:most]:
        user = mentions.get(line.owner)
        mention = [rich.plain(" · "), rich.user(user)] if user and user not in told else []
        named_owner = rich.cut(line.owner_name, 60)
        owner = [rich.plain(f" · {named_owner}")] if named_owner and not mention else []
        told |= {user} if user else set()
        named = [rich.name(line.name, line.url), rich.plain(" · ")] if line.name else []
        lines.append(rich.section(*named, rich.plain(rich.whole(rich.cut(line.text))), *mention, *owner))
    left = len(section.lines) - most
    heading = rich.cut(section.heading)
    parts = [rich.section(rich.bold(heading))] if heading else []
    parts += [rich.listed(lines)] if lines else []
    parts += [rich.section(rich.plain(f"… and {left:,} more"))] if left > 0 else []
    return rich.block(*parts)


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}
