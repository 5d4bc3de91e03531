"""Loopback stand-ins for the vendors' servers: real bytes from the real SDKs, and the failures that they have.

A fake keeps what was applied and what was asked, so that tests look at the effect and not at our own records.
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

MAX_BLOCKS = 50
MAX_SECTION_CHARACTERS = 3_000
MAX_BLOCK_CHARACTERS = 13_000
MAX_HEADER_CHARACTERS = 150


@dataclass(frozen=True)
class Fault:
    """What happens to one request: whether it is applied, and what is answered."""

    applies: bool = False
    status: int = 200
    body: str | None = None
    """None: the connection is closed without an answer."""
    headers: Mapping[str, str] | None = None
    is_cut_off: bool = False
    """Closed in the middle of the body."""


LOST_BEFORE = Fault(applies=False)
LOST_AFTER = Fault(applies=True)
ERROR_BEFORE = Fault(applies=False, status=500, body="<html>Internal Server Error</html>")
ERROR_AFTER = Fault(applies=True, status=500, body="<html>Internal Server Error</html>")
CUT_OFF_AFTER = Fault(applies=True, body='{"ok":true,"channel":"C0', is_cut_off=True)
GARBLED_AFTER = Fault(applies=True, body='{"ok":true,"channel":"C0')
PORTAL_BEFORE = Fault(applies=False, body="<html>Please log in to the network</html>")


def rate_limited(retry_after: int) -> Fault:
    return Fault(
        status=429, body='{"ok":false,"error":"ratelimited"}', headers={"Retry-After": str(retry_after)}, applies=False
    )


def refused(error: str) -> Fault:
    return Fault(body=json.dumps({"ok": False, "error": error}))


class FakeSlack:
    """Slack's Web API as far as Headroom uses it, with one channel. Attributes may be changed between requests."""

    def __init__(self) -> None:
        self.token = "xoxb-fake-token"
        self.channel = "C0DIGEST"
        self.is_member = True
        self.scopes = {"chat:write", "channels:history"}
        self.page_size = 200
        """Messages of one page of the history at most, whatever limit is asked for."""
        self.messages: list[dict[str, Any]] = []
        """What the channel shows, oldest first."""
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """(method, arguments) of every request, the failed ones included."""
        self._faults: deque[Fault] = deque()
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
        return f"http://127.0.0.1:{self._server.server_address[1]}/api/"

    def then(self, *faults: Fault) -> None:
        """The next requests meet these, one each; later ones are answered as usual."""
        self._faults.extend(faults)

    def counts(self) -> Counter[str]:
        """Messages in the channel by the key in their metadata."""
        marked = [message["metadata"] for message in self.messages if "metadata" in message]
        return Counter(metadata["event_payload"]["key"] for metadata in marked)

    def methods(self) -> list[str]:
        return [method for method, _ in self.requests]

    def post(self, text: str, metadata: dict[str, Any] | None = None, at: float | None = None) -> dict[str, Any]:
        """A message in the channel, from whomever."""
        last = float(self.messages[-1]["ts"]) if self.messages else 0.0
        message = {"type": "message", "text": text, "ts": f"{at or max(time.time(), last + 1e-6):.6f}"}
        if metadata:
            message["metadata"] = metadata  # type: ignore[assignment]
        self.messages.append(message)
        return message

    def answer(self, method: str, arguments: dict[str, Any], token: str) -> Fault:
        """What to answer to one request, applied where it is to be."""
        with self._lock:
            self.requests.append((method, arguments))
            fault = self._faults.popleft() if self._faults else None
            if fault and not fault.applies:
                return fault
            answer = self._apply(method, arguments, token)
            return fault or Fault(applies=True, body=json.dumps(answer))

    def _apply(self, method: str, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        scope = {"chat.postMessage": "chat:write", "conversations.history": "channels:history"}.get(method)
        if scope is None:
            return _error("unknown_method")
        if token != self.token:
            return _error("invalid_auth" if token else "not_authed")
        if scope not in self.scopes:
            return {**_error("missing_scope"), "needed": scope, "provided": ",".join(sorted(self.scopes))}
        if arguments.get("channel") != self.channel:
            return _error("channel_not_found")
        if not self.is_member:
            return _error("not_in_channel")
        return self._post_message(arguments) if method == "chat.postMessage" else self._history(arguments)

    def _post_message(self, arguments: dict[str, Any]) -> dict[str, Any]:
        blocks = _decoded(arguments.get("blocks")) or []
        metadata = _decoded(arguments.get("metadata"))
        if not blocks and not arguments.get("text"):
            return _error("no_text")
        if len(blocks) > MAX_BLOCKS or not all(map(_is_valid, blocks)):
            return _error("invalid_blocks")
        if len(json.dumps(blocks)) > MAX_BLOCK_CHARACTERS:
            return _error("msg_blocks_too_long")
        message = self.post(arguments.get("text", ""), metadata)
        message |= {"blocks": blocks, "bot_id": "B0HEADROOM"}
        return {"ok": True, "channel": self.channel, "ts": message["ts"], "message": _without_payload(message)}

    def _history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        oldest = float(arguments.get("oldest") or 0)
        found = [message for message in reversed(self.messages) if float(message["ts"]) > oldest]
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
    texts = block.get("elements") or [block.get("text") or {}]
    limit = MAX_HEADER_CHARACTERS if block["type"] == "header" else MAX_SECTION_CHARACTERS
    return len(texts) <= 10 and all(0 < len(text.get("text", "")) <= limit for text in texts)


def _decoded(value: Any) -> Any:
    """Structures come as they are in a JSON body, as JSON text in a form."""
    return json.loads(value) if isinstance(value, str) else value


def _handler(slack: FakeSlack) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            address = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            arguments: dict[str, Any] = dict(parse_qsl(address.query))
            if self.headers.get_content_type() == "application/json":
                arguments |= json.loads(content or "{}")
            else:
                arguments |= dict(parse_qsl(content))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            fault = slack.answer(address.path.rpartition("/")[2], arguments, token)
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
