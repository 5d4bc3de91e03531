"""A vendor's HTTP API on loopback: the server, and what happens to its next requests. Each vendor is a subclass."""

import json
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, Self

from tests.fakes.faults import LOST_BEFORE, Fault


class Loopback:
    """Attributes may be changed between requests."""

    name: str
    """The channel, as routes name it."""
    to: str = ""
    """An address for a route."""
    other_to: str | None = None
    """Another one; None where a secret is the address."""
    options: Mapping[str, str] = MappingProxyType({})
    """What a route to it has to set besides."""

    def __init__(self) -> None:
        self.is_down = False
        """No request is answered, or applied."""
        self.requests: list[tuple[str, str, Any]] = []
        """(method, path, body as JSON) of every request, the failed ones included."""
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
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail_next(self, *faults: Fault) -> None:
        """The next requests that send something meet these, one each; later ones are answered as usual."""
        self._faults.extend(faults)

    def answer(self, method: str, path: str, headers: Mapping[str, str], raw: bytes) -> Fault:
        """What to answer to one request, applied where it is to be."""
        with self._lock:
            body = json.loads(raw or "null")
            self.requests.append((method, path, body))
            if self.is_down:
                return LOST_BEFORE
            fault = self._faults.popleft() if self._faults and self.is_sending(method, path) else None
            if fault and not fault.applies:
                return self.worded(fault)
            status, answer = self.apply(method, path, headers, body)
            return fault or Fault(applies=True, status=status, body=json.dumps(answer))

    @abstractmethod
    def is_sending(self, method: str, path: str) -> bool:
        """Whether the request is one that people see the effect of."""

    @abstractmethod
    def apply(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Do what the request asks for; the status and the body as JSON."""

    def worded(self, fault: Fault) -> Fault:
        """A refusal, as this vendor words it."""
        return fault


def _handler(vendor: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = vendor.answer(self.command, self.path, headers, raw)
            self.close_connection = True
            if answer.body is None:
                return
            body = answer.body.encode()
            self.send_response_only(answer.status)
            self.send_header("Content-Type", "application/json" if body[:1] in (b"{", b"[") else "text/html")
            self.send_header("Content-Length", str(len(body) + answer.is_cut_off * 100))
            for name, value in (answer.headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_GET  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            pass

    return Handler
