"""A digest as a message, for channels that have no form of their own for it: groups as sections, accounts as lines."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestration.messages import groups
from orchestration.messages.message import Line, Message, Section


def digest_message(digest: Mapping[str, Any], table: Sequence[Mapping[str, Any]]) -> Message:
    """The message of a digest's content (`wording.digest_content`); `table` are all accounts at a threshold."""
    return Message(
        key=f"digest|{digest['date']}",
        audience="sales",
        title=digest["title"],
        headline=digest["headline"],
        sections=list(_sections(digest)),
        footer=digest["footer"],
        table=table if digest["items"] else (),
        notification=digest["notification"],
        charts=[item["chart"] for item in digest["items"] if item.get("chart")],
        digest=digest,
    )


def _sections(digest: Mapping[str, Any]) -> Iterator[Section]:
    if notices := digest.get("notices"):
        yield Section("", [Line(line) for line in notices])
    for group in digest["groups"]:
        items = [item for item in digest["items"] if item["group"] == group["key"]]
        lines = [_line(item) for item in items] if group["is_action"] else []
        if not group["is_action"]:
            lines = [_brief(brief) for brief in group["briefs"]]
        left = group["count"] - len(lines)
        yield Section(groups.heading(group), [*lines, *([Line(f"… and {left:,} more")] if left > 0 else [])])
    if alerted := digest.get("alerted"):
        yield Section(f"Alerted before this digest ({len(alerted):,})", [Line(line) for line in alerted])


def _brief(brief: Mapping[str, Any]) -> Line:
    """Digests of before 0.2 name these accounts without their ids."""
    about = {"account_id": brief.get("account_id", ""), "meter": brief.get("meter", "")}
    return Line(brief["text"], name=brief["name"], url=brief["url"], **about)


def _line(item: Mapping[str, Any]) -> Line:
    said = " · ".join(filter(None, [*item["facts"], item["todo"]]))
    return Line(said, item["owner"], "", item["name"], item["url"], item["account_id"], item["meter"])
