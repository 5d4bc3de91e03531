"""The text of a message that is only kept as Slack got it: of digests from before there were routes."""

from collections.abc import Iterator, Mapping
from typing import Any

MOST = 500
"""Lines."""


def texts(payload: Mapping[str, Any]) -> list[str]:
    """Its texts in their order, a line each; where there are no blocks, the sentence for a locked phone."""
    message = payload.get("message", payload)
    blocks = message.get("blocks") if isinstance(message, Mapping) else None
    lines = [line for block in blocks or [] if (line := " ".join("".join(_parts(block)).split()))]
    fallback = str(message.get("text", "")) if isinstance(message, Mapping) else ""
    return (lines or [line for line in fallback.splitlines() if line.strip()])[:MOST]


def _parts(node: Any) -> Iterator[str]:
    """The texts of a block; a link without words is its address, and a section is apart from the next one."""
    if isinstance(node, Mapping):
        text = node.get("text")
        if isinstance(text, str):
            yield text
        elif node.get("type") == "link":
            yield str(node.get("url", ""))
        for name in ("text", "fields", "elements"):
            if isinstance(node.get(name), Mapping | list):
                yield from _parts(node[name])
        if node.get("type") in ("rich_text_section", "rich_text_quote", "mrkdwn", "plain_text"):
            yield " "
    elif isinstance(node, list):
        for each in node:
            yield from _parts(each)
