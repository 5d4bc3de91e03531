"""A message as Discord shows it: a line of text with the mentions, and an embed with the rest.

Limits, by the pages "Message Resource" and "Threads" of Discord's documentation: 2,000 characters of content; of an
embed 256 of its title, 4,096 of its description, 2,048 of its footer; 6,000 of all embeds together; 100 of a thread's
name. Only content pings, and only the users whom `allowed_mentions` names; an embed never does.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.messages.figures import one_line
from orchestration.messages.message import Message
from orchestration.messages.outline import Kind, Row, arranged
from orchestration.messages.vendor import Drawn, Payload

DESCRIPTION = 4_000
EMBED = 5_500
"""Of all its texts, so that the reference in the footer has room, too."""
CONTENT = 1_900
TITLE = 100
"""Before it is escaped, which doubles it at most."""
THREAD_NAME = 90
USERS = 100
_MARKUP = re.compile(r"[\\*_~`|<\[\]]|^[#>]")
_JOINER = "\u2060"
"""A sign without width: what it parts is no longer a mention or an address."""


def draw(message: Message, env: str, mentions: Mapping[str, str]) -> Drawn:
    """The payload, and those of the messages in its thread. `mentions` are user ids by e-mail address."""
    rows, others = arranged(message, mentions, _fits)
    replies: list[Payload] = [{"message": _message(part)} for part in others]
    return {"message": _message(rows), "thread": one_line(rows[0].text, THREAD_NAME)}, replies


def escaped(text: str) -> str:
    """Data on one line, so that none of it is markup, a mention or a link."""
    plain = _MARKUP.sub(r"\\\g<0>", text)
    return plain.replace("@", f"@{_JOINER}").replace("://", f":{_JOINER}//")


def length(text: str) -> int:
    """In UTF-16 units, in which an emoji counts twice: Discord does not say how it counts."""
    return len(text.encode("utf-16-le")) // 2


def _message(rows: Sequence[Row]) -> dict[str, Any]:
    """The body of a request, without nonce. `content` has the first sentence: a locked phone shows no embed."""
    texts = {row.kind: row.text for row in rows if row.kind in (Kind.TITLE, Kind.HEADLINE, Kind.FOOTER)}
    users = [row.mention for row in rows if row.mention]
    content = "\n".join(filter(None, [escaped(texts.get(Kind.HEADLINE, "")), " ".join(f"<@{user}>" for user in users)]))
    embed = {
        "title": escaped(one_line(texts.get(Kind.TITLE, ""), TITLE)),
        "description": "\n".join(_drawn(row) for row in rows if row.kind not in texts).strip("\n"),
        "footer": {"text": texts[Kind.FOOTER]} if Kind.FOOTER in texts else None,
    }
    return {
        **({"content": content} if content else {}),
        "embeds": [{name: value for name, value in embed.items() if value}],
        "allowed_mentions": {"parse": [], **({"users": users} if users else {})},
    }


def _drawn(row: Row) -> str:
    match row.kind:
        case Kind.HEADING:
            return f"**{escaped(row.text)}**"
        case Kind.LINE:
            who = f"<@{row.mention}>" if row.mention else escaped(row.owner)
            return "• " + " · ".join(filter(None, [_named(row), escaped(row.text), who]))
        case _:
            return escaped(row.text)


def _named(row: Row) -> str:
    if not row.name:
        return ""
    name = f"**{escaped(row.name)}**"
    return f"[{name}](<{row.url.replace('>', '%3E').replace('<', '%3C')}>)" if row.url else name


def _fits(rows: Sequence[Row]) -> bool:
    message = _message(rows)
    embed = message["embeds"][0]
    texts = [embed.get("title", ""), embed.get("description", ""), embed.get("footer", {}).get("text", "")]
    return (
        length(texts[1]) <= DESCRIPTION
        and sum(map(length, texts)) <= EMBED
        and length(message.get("content", "")) <= CONTENT
        and len(message["allowed_mentions"].get("users", ())) <= USERS
    )
