"""Discord's API on loopback, by the pages "Message Resource", "Channels Resource", "Permissions" and "Rate Limits".

A nonce is remembered for NONCE_SECONDS ("the past few minutes") and is not in a listing: people who looked for it there
did not find it. Who may not read the history is shown no messages.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.faults import Fault
from tests.fakes.loopback import Loopback

NONCE_SECONDS = 180
EPOCH = datetime(2015, 1, 1, tzinfo=UTC).timestamp()
LIMITS = {"title": 256, "description": 4_096, "footer": 2_048}
MAX_EMBEDS, MAX_EMBED_CHARACTERS, MAX_CONTENT, MAX_NONCE = 10, 6_000, 2_000, 25
EVERYTHING = sum(1 << bit for bit in (10, 11, 14, 16, 35, 38))
VIEW, SEND, HISTORY, THREADS, IN_THREADS = 1 << 10, 1 << 11, 1 << 16, 1 << 35, 1 << 38
GUILD, BOT = "100000000000000001", "200000000000000002"


class FakeDiscord(Loopback):
    """A server with two channels and a bot, whose permissions come from the role that everybody has."""

    name = "discord"
    to = "300000000000000003"
    other_to = "300000000000000004"
    direct = "300000000000000005"
    """A direct message."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "MTk4NjIyNDgzNDcx.secret.of-the_bot"
        self.clock: Callable[[], float] = time.time
        self.granted = EVERYTHING
        self.is_limited = False
        """Whether a message is refused with 429, for half a second."""
        self.channels: dict[str, dict[str, Any]] = {
            **{each: {"id": each, "type": 0, "guild_id": GUILD} for each in (self.to, self.other_to)},
            self.direct: {"id": self.direct, "type": 1},
        }
        self.messages: list[dict[str, Any]] = []
        """Of all channels, oldest first."""
        self._nonces: dict[str, tuple[float, str]] = {}

    def environment(self, route: str) -> dict[str, str]:
        prefix = f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}"
        return {f"{prefix}_TOKEN": self.token, f"{prefix}_API_URL": self.url}

    @property
    def arrived(self) -> list[dict[str, Any]]:
        return [self._shown(message) for message in self.messages if message["author"]["id"] == BOT]

    def _shown(self, message: Mapping[str, Any]) -> dict[str, Any]:
        [embed] = message["embeds"]
        footer = embed.get("footer", {}).get("text", "")
        texts = [message.get("content", ""), embed.get("title", ""), embed.get("description", ""), footer]
        return {
            "mark": footer.rpartition("ref ")[2],
            "text": "\n".join(filter(None, texts)),
            "to": message["channel_id"],
            "pings": message["pings"],
        }

    def post(self, channel: str, text: str, at: float | None = None) -> dict[str, Any]:
        """A message from somebody else."""
        return self._store(channel, {"content": text, "embeds": []}, {"id": "400000000000000004"}, at)

    def is_sending(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/messages")

    def worded(self, fault: Fault) -> Fault:
        if fault.status == 403:
            return replace(fault, body=json.dumps({"message": "Missing Permissions", "code": 50013}))
        if fault.status == 429:
            wait = (fault.headers or {}).get("Retry-After", "1")
            body = {"message": "You are being rate limited.", "retry_after": float(wait), "global": False}
            return replace(fault, body=json.dumps(body))
        return fault

    def apply(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        if headers.get("authorization") != f"Bot {self.token}":
            return 401, {"message": "401: Unauthorized", "code": 0}
        if not headers.get("user-agent", "").startswith("DiscordBot ("):
            return 403, {"message": "error code: 1010"}  # Cloudflare's
        address = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        match [method, *address.path.strip("/").split("/")]:
            case ["GET", "users", "@me"]:
                return 200, {"id": BOT, "username": "headroom", "bot": True}
            case ["GET", "guilds", guild, "roles"] if guild == GUILD:
                return 200, [{"id": GUILD, "name": "@everyone", "permissions": str(self.granted)}]
            case ["GET", "guilds", guild, "members", user] if (guild, user) == (GUILD, BOT):
                return 200, {"user": {"id": BOT}, "roles": []}
            case [_, "channels", channel, *rest] if channel in self.channels:
                if "guild_id" in self.channels[channel] and not self.granted & VIEW:
                    return 403, {"message": "Missing Access", "code": 50001}
                return self._channel(method, channel, rest, query, body)
            case [_, "channels", *_]:
                return 404, {"message": "Unknown Channel", "code": 10003}
        return 404, {"message": "404: Not Found", "code": 0}

    def _channel(
        self, method: str, channel: str, rest: list[str], query: Mapping[str, str], body: Any
    ) -> tuple[int, Any]:
        match [method, *rest]:
            case ["GET"]:
                return 200, self.channels[channel]
            case ["GET", "messages"]:
                return self._listed(channel, query)
            case ["POST", "messages"]:
                return self.created(channel, body)
            case ["POST", "messages", message, "threads"]:
                return self._started(channel, message, body)
        return 405, {"message": "405: Method Not Allowed", "code": 0}

    def _may(self, channel: str, bit: int) -> bool:
        return "guild_id" not in self.channels[channel] or bool(self.granted & bit)

    def _listed(self, channel: str, query: Mapping[str, str]) -> tuple[int, Any]:
        limit, before = int(query.get("limit", 50)), int(query.get("before", 2**63))
        if not 1 <= limit <= 100:
            return 400, _invalid("limit", "int value should be between 1 and 100.")
        found = [m for m in reversed(self.messages) if m["channel_id"] == channel and int(m["id"]) < before]
        hidden = ("nonce", "pings")
        shown = [{name: value for name, value in m.items() if name not in hidden} for m in found[:limit]]
        return 200, shown if self._may(channel, HISTORY) else []

    def created(self, channel: str, body: Any) -> tuple[int, Any]:
        if not self._may(channel, IN_THREADS if self.channels[channel]["type"] == 11 else SEND):
            return 403, {"message": "Missing Permissions", "code": 50013}
        if problem := _problem(body):
            return 400, _invalid(*problem)
        now, nonce = self.clock(), body.get("nonce")
        if body.get("enforce_nonce") and nonce in self._nonces and now - self._nonces[nonce][0] < NONCE_SECONDS:
            known = [message for message in self.messages if message["id"] == self._nonces[nonce][1]]
            return (200, known[0]) if known else (404, {"message": "Unknown Message", "code": 10008})
        message = self._store(channel, body, {"id": BOT, "bot": True}, None)
        if nonce:
            self._nonces[nonce] = (now, message["id"])
        return 200, message

    def _store(self, channel: str, body: Any, author: dict[str, Any], at: float | None) -> dict[str, Any]:
        lowest = int((at or self.clock()) * 1000 - EPOCH * 1000) << 22
        number = lowest if at else max(lowest, *(int(m["id"]) + 1 for m in self.messages), 0)
        allowed = body.get("allowed_mentions", {}).get("users", [])
        mentioned = re.findall(r"(?<!\\)<@(\d+)>", body.get("content", ""))
        message = {name: body[name] for name in ("content", "embeds", "nonce") if name in body}
        pings = [user for user in mentioned if user in allowed]
        message |= {"id": str(number), "channel_id": channel, "author": author, "pings": pings}
        self.messages.append(message)
        self.messages.sort(key=lambda each: int(each["id"]))
        return message

    def _started(self, channel: str, message: str, body: Any) -> tuple[int, Any]:
        if self.channels[channel]["type"] not in (0, 5):
            return 400, {"message": "Cannot execute action on this channel type", "code": 50024}
        if not self._may(channel, THREADS):
            return 403, {"message": "Missing Permissions", "code": 50013}
        if message not in [each["id"] for each in self.messages if each["channel_id"] == channel]:
            return 404, {"message": "Unknown Message", "code": 10008}
        if message in self.channels:
            return 400, {"message": "A thread has already been created for this message", "code": 160004}
        if not 1 <= len(body["name"]) <= 100:
            return 400, _invalid("name", "Must be between 1 and 100 in length.")
        thread = {"id": message, "type": 11, "guild_id": GUILD, "parent_id": channel, "name": body["name"]}
        self.channels[message] = thread
        return 201, thread


def _invalid(field: str, problem: str) -> dict[str, Any]:
    errors = {field: {"_errors": [{"code": "BASE_TYPE_BAD_LENGTH", "message": problem}]}}
    return {"code": 50035, "message": "Invalid Form Body", "errors": errors}


def _problem(body: Any) -> tuple[str, str] | None:
    """The field and what is wrong with it. Lengths are counted in UTF-16 units, the stricter way."""
    embeds = body.get("embeds", [])
    texts = [(name, _text(embed, name)) for embed in embeds for name in LIMITS]
    if not body.get("content") and not embeds:
        return "content", "Cannot send an empty message"
    if len(embeds) > MAX_EMBEDS or sum(_length(text) for _, text in texts) > MAX_EMBED_CHARACTERS:
        return "embeds", "Embed size exceeds maximum size of 6000"
    if not all(any(_text(embed, name) for name in LIMITS) for embed in embeds):
        return "embeds", "This field is required"
    if long := next((name for name, text in texts if _length(text) > LIMITS[name]), None):
        return long, "Must be shorter in length."
    if _length(body.get("content", "")) > MAX_CONTENT:
        return "content", "Must be 2000 or fewer in length."
    if len(str(body.get("nonce", ""))) > MAX_NONCE:
        return "nonce", "Must be 25 or fewer in length."
    if len(body.get("allowed_mentions", {}).get("users", [])) > 100:
        return "allowed_mentions", "Must be 100 or fewer in length."
    return None


def _text(embed: Mapping[str, Any], name: str) -> str:
    value = embed.get(name) or ""
    return value["text"] if isinstance(value, dict) else value


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
