"""A receiver of webhooks on loopback: it verifies signatures with the library of Standard Webhooks, and uses the
webhook-id as idempotency key, as the specification has receivers do.
"""

import json
import threading
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

from tests.fakes.slack import LOST_BEFORE, Fault

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8G"
"""Of 30 bytes."""


class FakeWebhook:
    """Attributes may be changed between requests."""

    name = "webhook"
    to = ""
    other_to = None
    options: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self.secret = SECRET
        self.is_down = False
        """No request is answered, or applied."""
        self.status = 200
        """Of what it takes."""
        self.requests: list[tuple[dict[str, str], bytes]] = []
        """Headers, by their names in lower case, and body of every POST, the failed ones included."""
        self.events: dict[str, dict[str, Any]] = {}
        """What it took, by webhook-id."""
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
        return f"http://127.0.0.1:{self._server.server_address[1]}/in/very-secret-path?token=very-secret-token"

    def environment(self, route: str) -> dict[str, str]:
        prefix = f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}"
        return {f"{prefix}_URL": self.url, f"{prefix}_SECRET": self.secret}

    def fail_next(self, *faults: Fault) -> None:
        """The next POSTs meet these, one each; later ones are answered as usual."""
        self._faults.extend(faults)

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """What the receiver does something about: each webhook-id once."""
        return [{"mark": event["delivery"], "text": event["data"]["title"]} for event in self.events.values()]

    def answer(self, headers: Mapping[str, str], raw: bytes) -> Fault:
        """What to answer to a POST, applied where it is to be."""
        with self._lock:
            self.requests.append((dict(headers), raw))
            if self.is_down:
                return LOST_BEFORE
            fault = self._faults.popleft() if self._faults else None
            if fault and not fault.applies:
                return fault
            try:
                event = Webhook(self.secret).verify(raw, dict(headers))
            except WebhookVerificationError:
                return Fault(status=401, body="{}")
            if self.status < 300:
                self.events.setdefault(headers["webhook-id"], event)
            return fault or Fault(status=self.status, body=json.dumps({"received": True}))


def _handler(receiver: FakeWebhook) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._say(receiver.answer({name.lower(): value for name, value in self.headers.items()}, raw))

        def do_HEAD(self) -> None:
            self._say(LOST_BEFORE if receiver.is_down else Fault(status=receiver.status, body=""))

        def _say(self, answer: Fault) -> None:
            self.close_connection = True
            if answer.body is None:
                return
            body = answer.body.encode()
            self.send_response_only(answer.status)
            self.send_header("Content-Length", str(len(body) + answer.is_cut_off * 100))
            for name, value in (answer.headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
