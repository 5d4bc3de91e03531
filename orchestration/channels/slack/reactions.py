"""What people answered in a thread: reactions to its messages, and texts.

Slack's documentation of a message object: `reactions` has, for each emoji, its name, a count, and its users. "The users
array may not always contain all users that have reacted", so an emoji on a message is one answer.
conversations.replies gives the message and all replies with their reactions, and needs no other scope than its history.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestration.messages.dispositions import Answer

EMOJI = {"eyes": "👀", "white_check_mark": "✅", "x": "❌", "zzz": "💤"}
"""By Slack's names, which reactions have, and texts between colons."""
_NAMES = re.compile(rf":({'|'.join(EMOJI)}):")


def answers(channel: str, thread: Iterable[Mapping[str, Any]]) -> Iterator[Answer]:
    """The answers in a thread, as conversations.replies gives its messages: first the one that it is on."""
    top = ""
    for message in thread:
        here = f"{channel}/{message['ts']}"
        top = top or here
        for reaction in message.get("reactions", ()):
            name, users = str(reaction["name"]), reaction.get("users", ())
            if name in EMOJI:
                by = str(users[0]) if users else ""
                yield Answer(f"{here} :{name}:", here, by, None, EMOJI[name], is_reaction=True)
        if message.get("user") and not message.get("bot_id") and here != top:
            written = (message.get("edited") or {}).get("ts") or message["ts"]
            at = datetime.fromtimestamp(float(written), UTC)
            yield Answer(here, top, str(message["user"]), at, _text(str(message.get("text", ""))))


def _text(text: str) -> str:
    """As it was typed: Slack escapes three signs, and has the names of emoji."""
    found = _NAMES.sub(lambda match: EMOJI[match[1]], text)
    return found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
