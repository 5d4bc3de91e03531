"""Telegram's Bot API on loopback, by the pages "sendMessage", "MessageEntity", "getChatMember", "ResponseParameters".

As Telegram does, it looks for mentions and addresses in any text, whatever entities come with it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.fakes.faults import Fault
from tests.fakes.loopback import Loopback

MAX_CHARACTERS = 4_096
MAX_ENTITIES = 100
MAX_ENTITIES_BYTES = 9_500
MENTION = re.compile(r"(?<!\w)@[A-Za-z]\w{3,31}", re.ASCII)
ADDRESS = re.compile(r"(?:https?://)?(?:[\w-]+\.)+(?:com|net|org|io|dev|example)\b[^\s]*", re.ASCII)
COMMAND = re.compile(r"(?<!\S)/[a-z]\w*", re.ASCII)
BOT = 110201543


class FakeTelegram(Loopback):
    """A bot in two groups."""

    name = "telegram"
    to = "-1001234567890"
    other_to = "-1009876543210"

    def __init__(self) -> None:
        super().__init__()
        self.token = f"{BOT}:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
        self.chats: dict[str, dict[str, Any]] = {
            **{each: {"id": int(each), "type": "supergroup"} for each in (self.to, self.other_to)},
            "@headroom_news": {"id": -1005550001111, "type": "channel"},
        }
        self.member: dict[str, Any] = {"status": "member", "can_post_messages": True}
        """What getChatMember says of the bot, in all chats."""
        self.moved: dict[str, int] = {}
        """Groups that have become supergroups: the new number by the old one."""
        self.known_users = {515: "Ana"}
        """Whom the bot may mention by number."""
        self.messages: list[dict[str, Any]] = []

    def environment(self, route: str) -> dict[str, str]:
        prefix = f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}"
        return {f"{prefix}_TOKEN": self.token, f"{prefix}_API_URL": self.url}

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """Text, chat, and what Telegram made of it: bold parts, links, whom it notifies."""
        return [self._shown(message) for message in self.messages]

    def _shown(self, message: Mapping[str, Any]) -> dict[str, Any]:
        text, entities = message["text"], message["entities"][:MAX_ENTITIES]
        parts = [(entity, _part(text, entity)) for entity in entities]
        named = [part for entity, part in parts if entity["type"] == "text_mention"]
        return {
            "text": text,
            "to": str(message["chat"]["id"]),
            "bold": [part for entity, part in parts if entity["type"] == "bold"],
            "links": {part: entity["url"] for entity, part in parts if entity["type"] == "text_link"},
            "pings": [*named, *MENTION.findall(text)],
            "found": [*ADDRESS.findall(text), *COMMAND.findall(text)],
            "reply_to": message["reply_to"],
            "is_silent": message["is_silent"],
        }

    def is_sending(self, method: str, path: str) -> bool:
        return path.endswith("/sendMessage")

    def worded(self, fault: Fault) -> Fault:
        if fault.status == 403:
            return replace(fault, body=json.dumps(_error(403, "Forbidden: bot was kicked from the supergroup chat")[1]))
        if fault.status == 429:
            wait = int((fault.headers or {}).get("Retry-After", "1"))
            said = _error(429, f"Too Many Requests: retry after {wait}")[1] | {"parameters": {"retry_after": wait}}
            return replace(fault, body=json.dumps(said), headers=None)
        return fault

    def apply(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        token, _, name = path.removeprefix("/bot").partition("/")
        if token != self.token:
            return _error(401, "Unauthorized")
        if name == "getMe":
            return _ok({"id": BOT, "is_bot": True, "first_name": "Headroom", "username": "headroom_bot"})
        chat = self.chats.get(str(body.get("chat_id")))
        if moved := self.moved.get(str(body.get("chat_id"))):
            said = _error(400, "Bad Request: group chat was upgraded to a supergroup chat")[1]
            return 400, {**said, "parameters": {"migrate_to_chat_id": moved}}
        if chat is None:
            return _error(400, "Bad Request: chat not found")
        if name == "getChat":
            return _ok(chat)
        if name == "getChatMember":
            return _ok({**self.member, "user": {"id": body["user_id"]}})
        if name == "sendMessage":
            return self.send(chat, body)
        return _error(404, "Not Found")

    def send(self, chat: Mapping[str, Any], body: Any) -> tuple[int, Any]:
        text, entities = body["text"], body.get("entities", [])
        if self.member["status"] in ("left", "kicked"):
            return _error(403, "Forbidden: bot is not a member of the supergroup chat")
        if not text.strip():
            return _error(400, "Bad Request: message text is empty")
        if _length(text) > MAX_CHARACTERS:
            return _error(400, "Bad Request: message is too long")
        if sum(len(entity.get("url", "").encode()) for entity in entities) > MAX_ENTITIES_BYTES:
            return _error(400, "Bad Request: ENTITIES_TOO_LONG")
        if any(entity["offset"] < 0 or entity["length"] < 1 or not _part(text, entity) for entity in entities):
            return _error(400, "Bad Request: entity is out of the text")
        replied = body.get("reply_parameters", {}).get("message_id")
        known = [entity for entity in entities if self._is_known(entity)]
        message = {"message_id": len(self.messages) + 1, "chat": chat, "text": text, "entities": known}
        own = {"reply_to": replied, "is_silent": body.get("disable_notification", False)}
        self.messages.append({**message, **own})
        return _ok(message)

    def _is_known(self, entity: Mapping[str, Any]) -> bool:
        return entity["type"] != "text_mention" or entity["user"]["id"] in self.known_users


def _ok(result: Any) -> tuple[int, Any]:
    return 200, {"ok": True, "result": result}


def _error(status: int, description: str) -> tuple[int, dict[str, Any]]:
    return status, {"ok": False, "error_code": status, "description": description}


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _part(text: str, entity: Mapping[str, Any]) -> str:
    start, end = entity["offset"] * 2, (entity["offset"] + entity["length"]) * 2
    return text.encode("utf-16-le")[start:end].decode("utf-16-le")
