"""Loopback stand-ins for the vendors' servers: real bytes from the real SDKs, and the failures that they have.

A fake keeps what was applied and what was asked, so that tests look at the effect and not at our own records.
"""

import json
import re
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.faults import (  # noqa: F401 - tests of Slack have them from here
    CUT_OFF_AFTER,
    ERROR_AFTER,
    ERROR_BEFORE,
    GARBLED_AFTER,
    LOST_AFTER,
    LOST_BEFORE,
    PORTAL_BEFORE,
    Fault,
    rate_limited,
)

MAX_BLOCKS = 50
MAX_SECTION_CHARACTERS = 3_000
MAX_FIELD_CHARACTERS = 2_000
MAX_BLOCK_CHARACTERS = 13_000
MAX_TEXT_CHARACTERS = 11_000
"""Of all texts of a message: slackapi/bolt-js#2867 was refused with 11,341."""
MAX_HEADER_CHARACTERS = 150
MAX_REACTION_USERS = 3
"""Slack: "we limit it to X users, and X might change"."""


def refused(error: str) -> Fault:
    return Fault(body=json.dumps({"ok": False, "error": error}))


SCOPES = {
    "auth.test": None,
    "chat.getPermalink": None,
    "chat.postMessage": "chat:write",
    "conversations.history": "channels:history",
    "conversations.info": "channels:read",
    "conversations.replies": "channels:history",
    "files.completeUploadExternal": "files:write",
    "files.getUploadURLExternal": "files:write",
    "users.lookupByEmail": "users:read.email",
}
UPLOAD = "upload"
"""Stands for the method where a file's bytes are sent to the address that Slack gave."""
EFFECTS = ("chat.postMessage", "files.completeUploadExternal")


class FakeSlack:
    """Slack's Web API as far as Headroom uses it. Attributes may be changed between requests."""

    def __init__(self) -> None:
        self.token = "xoxb-fake-token"
        self.channel = "C0DIGEST"
        self.channels: dict[str, dict[str, Any]] = {self.channel: {}}
        """What conversations.info says of each channel."""
        self.is_member = True
        self.is_down = False
        """No request is answered, or applied."""
        self.scopes = {"users:read", *(scope for scope in SCOPES.values() if scope)}
        self.users: dict[str, str] = {}
        """User ids by e-mail address."""
        self.room: dict[str, int] = {}
        """How many more messages a channel takes before it answers 429; one that is not here takes any number."""
        self.page_size = 200
        """Messages of one page of the history at most, whatever limit is asked for."""
        self.messages: list[dict[str, Any]] = []
        """What the channels show, oldest first, without replies."""
        self.threads: dict[str, list[dict[str, Any]]] = {}
        """Replies, oldest first, by the ts of the message that they reply to."""
        self.uploads: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """(method, arguments) of every request, the failed ones included."""
        self.clock: Callable[[], float] = time.time
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"{self._root}/api/"

    @property
    def _root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def then(self, *faults: Fault, method: str = "chat.postMessage") -> None:
        """The next requests of the method meet these, one each; later ones are answered as usual."""
        self._faults[method].extend(faults)

    def calm(self) -> None:
        """No request meets a fault any more."""
        self._faults.clear()

    def clear(self) -> None:
        """As if nothing had been posted or asked yet."""
        for remembered in (self.messages, self.threads, self.uploads, self.requests):
            remembered.clear()  # type: ignore[attr-defined]

    def counts(self) -> Counter[str]:
        """Messages and replies by the key in their metadata, and files by their name."""
        shown = [*self.messages, *(reply for replies in self.threads.values() for reply in replies)]
        marked = [message["metadata"] for message in shown if "metadata" in message]
        keys = [metadata["event_payload"]["key"] for metadata in marked]
        return Counter([*keys, *(file["name"] for message in shown for file in message.get("files", ()))])

    def methods(self) -> list[str]:
        return [method for method, _ in self.requests]

    def post(
        self,
        text: str,
        metadata: dict[str, Any] | None = None,
        at: float | None = None,
        thread: str | None = None,
        user: str = "",
    ) -> dict[str, Any]:
        """A message in the channel, or a reply; from a person where there is a `user`."""
        shown = self.threads.setdefault(thread, []) if thread else self.messages
        last = float(shown[-1]["ts"]) if shown else float(thread or 0)
        ts = f"{at or max(self.clock(), last + 1e-6):.6f}"
        message = {"type": "message", "text": text, "ts": ts, "channel": self.channel}
        if metadata:
            message["metadata"] = metadata  # type: ignore[assignment]
        if user:
            message["user"] = user
        shown.append(message)
        return message

    def react(self, message: dict[str, Any], name: str, user: str) -> None:
        """Somebody puts an emoji on a message. Of many users only the first few are named, as Slack documents."""
        reactions = message.setdefault("reactions", [])
        found = next((each for each in reactions if each["name"] == name), None)
        if found is None:
            found = {"name": name, "users": [], "count": 0}
            reactions.append(found)
        found["count"] += 1
        if len(found["users"]) < MAX_REACTION_USERS:
            found["users"].append(user)

    def take_back(self, message: dict[str, Any], name: str) -> None:
        """All users take that emoji off a message; without any, a message has no `reactions`."""
        message["reactions"] = [each for each in message["reactions"] if each["name"] != name]
        if not message["reactions"]:
            del message["reactions"]

    def answer(self, method: str, arguments: dict[str, Any], token: str) -> Fault:
        """What to answer to one request, applied where it is to be."""
        with self._lock:
            self.requests.append((method, arguments))
            if self.is_down:
                return LOST_BEFORE
            fault = self._faults[method].popleft() if self._faults[method] else None
            if fault and not fault.applies:
                return fault
            if method == UPLOAD:
                self.uploads[arguments["id"]]["content"] = arguments["content"]
                return fault or Fault(applies=True, body="OK")
            answer = self._apply(method, arguments, token)
            status, headers = 200, {"X-OAuth-Scopes": ",".join(sorted(self.scopes))}
            if answer.get("error") == "ratelimited":
                status, headers = 429, {"Retry-After": "30"}
            return fault or Fault(applies=True, status=status, body=json.dumps(answer), headers=headers)

    def _apply(self, method: str, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        if method not in SCOPES:
            return _error("unknown_method")
        if token != self.token:
            return _error("invalid_auth" if token else "not_authed")
        scope = SCOPES[method]
        if scope and scope not in self.scopes:
            return {**_error("missing_scope"), "needed": scope, "provided": ",".join(sorted(self.scopes))}
        if method == "auth.test":
            return {"ok": True, "team": "Example", "user": "headroom", "url": "https://example.slack.com/"}
        if method == "users.lookupByEmail":
            user = self.users.get(arguments["email"])
            return {"ok": True, "user": {"id": user}} if user else _error("users_not_found")
        if method == "files.getUploadURLExternal":
            number = f"F{len(self.uploads) + 1}"
            self.uploads[number] = {"id": number, "name": arguments["filename"], "alt": arguments.get("alt_txt")}
            return {"ok": True, "upload_url": f"{self._root}/upload/{number}", "file_id": number}
        channel = arguments.get("channel") or arguments.get("channel_id")
        if channel not in self.channels:
            return _error("channel_not_found")
        if method == "conversations.info":
            info = {"id": channel, "name": "digest", "is_member": self.is_member, "is_private": False}
            return {"ok": True, "channel": {**info, **self.channels[channel]}}
        if not self.is_member:
            return _error("not_in_channel")
        if method in EFFECTS and channel in self.room:
            if not self.room[channel]:
                return _error("ratelimited")
            self.room[channel] -= 1
        parent = arguments.get("thread_ts") or arguments.get("ts")
        if parent and parent not in [message["ts"] for message in self.messages if message["channel"] == channel]:
            return _error("thread_not_found")
        if method == "chat.getPermalink":
            return self._permalink(channel, arguments["message_ts"])
        if method == "chat.postMessage":
            return self._post_message(channel, arguments)
        if method == "files.completeUploadExternal":
            return self._share_files(channel, arguments)
        return self._history(channel, parent, arguments)

    def _permalink(self, channel: str, ts: str) -> dict[str, Any]:
        if ts not in [message["ts"] for message in self.messages if message["channel"] == channel]:
            return _error("message_not_found")
        return {"ok": True, "permalink": f"https://example.slack.com/archives/{channel}/p{ts.replace('.', '')}"}

    def _post_message(self, channel: str, arguments: dict[str, Any]) -> dict[str, Any]:
        blocks = _decoded(arguments.get("blocks")) or []
        metadata = _decoded(arguments.get("metadata"))
        if not blocks and not arguments.get("text"):
            return _error("no_text")
        if len(blocks) > MAX_BLOCKS or not all(map(_is_valid, blocks)):
            return _error("invalid_blocks")
        if sum(block["type"] in ("table", "data_table") for block in blocks) > 1:
            return _error("only_one_table_allowed")
        if len(json.dumps(blocks)) > MAX_BLOCK_CHARACTERS or _characters(blocks) > MAX_TEXT_CHARACTERS:
            return _error("msg_blocks_too_long")
        message = self.post(arguments.get("text", ""), metadata, thread=arguments.get("thread_ts"))
        message |= {"blocks": blocks, "bot_id": "B0HEADROOM", "channel": channel}
        return {"ok": True, "channel": channel, "ts": message["ts"], "message": _without_payload(message)}

    def _share_files(self, channel: str, arguments: dict[str, Any]) -> dict[str, Any]:
        shared = _decoded(arguments["files"])
        if not all("content" in self.uploads[file["id"]] for file in shared):
            return _error("file_not_found")
        files = [{**file, "name": self.uploads[file["id"]]["name"]} for file in shared]
        message = self.post("", thread=arguments.get("thread_ts"))
        message |= {"files": files, "bot_id": "B0HEADROOM", "channel": channel}
        # Slack shares them a moment later, so the answer does not say where
        return {"ok": True, "files": [{"id": file["id"], "title": file["title"]} for file in files]}

    def _history(self, channel: str, parent: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
        oldest = float(arguments.get("oldest") or 0)
        found = [m for m in reversed(self.messages) if float(m["ts"]) > oldest and m["channel"] == channel]
        if parent:
            found = [message for message in found if message["ts"] == parent] + self.threads.get(parent, [])
        start = int(arguments.get("cursor") or 0)
        end = start + min(int(arguments.get("limit") or 100), self.page_size)
        page = found[start:end]
        if str(arguments.get("include_all_metadata")).lower() not in ("1", "true"):
            page = [_without_payload(message) for message in page]
        return {
            "ok": True,
            "messages": page,
            "has_more": end < len(found),
            "response_metadata": {"next_cursor": str(end) if end < len(found) else ""},
        }


def _error(code: str) -> dict[str, Any]:
    return {"ok": False, "error": code}


def _without_payload(message: dict[str, Any]) -> dict[str, Any]:
    if "metadata" not in message:
        return message
    return {**message, "metadata": {"event_type": message["metadata"]["event_type"]}}


def _is_valid(block: dict[str, Any]) -> bool:
    if block["type"] == "rich_text":
        parts = block.get("elements", [])
        return bool(parts) and set(block) <= {"type", "elements", "block_id"} and all(map(_is_rich_part, parts))
    texts, fields = block.get("elements") or [block.get("text") or {}], block.get("fields", [])
    limit = MAX_HEADER_CHARACTERS if block["type"] == "header" else MAX_SECTION_CHARACTERS
    return (
        len(texts) <= 10
        # Slack trims texts before it looks whether they are empty
        and all(len(text.get("text", "").strip()) > 0 and len(text["text"]) <= limit for text in texts)
        and len(fields) <= 10
        and all(0 < len(field["text"]) <= MAX_FIELD_CHARACTERS for field in fields)
    )


def _is_rich_part(part: dict[str, Any]) -> bool:
    """One of the four elements of a rich_text block, by the pages of its reference; none may be empty."""
    inner = part.get("elements", [])
    match part["type"]:
        case "rich_text_list":
            return (
                set(part) <= {"type", "elements", "style", "indent", "offset", "border"}
                and part.get("style") in ("bullet", "ordered")
                and 0 <= part.get("indent", 0) <= 8
                and part.get("offset", 0) >= 0
                and bool(inner)
                and all(each["type"] == "rich_text_section" and _is_rich_part(each) for each in inner)
            )
        case "rich_text_section" | "rich_text_quote" | "rich_text_preformatted":
            return set(part) <= {"type", "elements", "border"} and bool(inner) and all(map(_is_rich_element, inner))
        case _:
            return False


def _is_rich_element(element: dict[str, Any]) -> bool:
    """A text, a link or a mention: the elements that Headroom uses."""
    if not set(element.get("style", {})) <= {"bold", "italic", "strike", "code", "underline"}:
        return False
    match element["type"]:
        case "text":
            return set(element) <= {"type", "text", "style"} and 0 < len(element["text"]) <= MAX_SECTION_CHARACTERS
        case "link":
            return (
                set(element) <= {"type", "url", "text", "style", "unsafe"}
                and re.match(r"(https?://|mailto:)\S+$", element["url"]) is not None
                and len(element["url"]) <= MAX_SECTION_CHARACTERS
                and element.get("text") != ""
            )
        case "user":
            return re.fullmatch("[UW][A-Z0-9]+", element["user_id"]) is not None
        case _:
            return False


def _characters(value: Any) -> int:
    """Of all texts within, as Slack sums them up for msg_blocks_too_long."""
    if isinstance(value, dict):
        own = len(value["text"]) if isinstance(value.get("text"), str) else 0
        return own + sum(_characters(each) for each in value.values() if isinstance(each, dict | list))
    return sum(map(_characters, value))


def _decoded(value: Any) -> Any:
    """Structures come as they are in a JSON body, as JSON text in a form."""
    return json.loads(value) if isinstance(value, str) else value


def _handler(slack: FakeSlack) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            address = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            arguments: dict[str, Any] = dict(parse_qsl(address.query))
            folder, _, method = address.path.rpartition("/")
            if folder == "/upload":
                arguments, method = {"id": method, "content": raw}, UPLOAD
            elif self.headers.get_content_type() == "application/json":
                arguments |= json.loads(raw or "{}")
            else:
                arguments |= dict(parse_qsl(raw.decode()))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            fault = slack.answer(method, arguments, token)
            self.close_connection = True
            if fault.body is None:
                return
            body = fault.body.encode()
            self.send_response_only(fault.status)
            self.send_header("Date", formatdate(usegmt=True))
            is_json = body.startswith(b"{")
            self.send_header("Content-Type", f"{'application/json' if is_json else 'text/html'}; charset=utf-8")
            self.send_header("Content-Length", str(len(body) + fault.is_cut_off * 100))
            for name, value in (fault.headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
