"""Connections: HTTP/1.1 on httptools, with a bound on everything a client can do. No path and no event here.

This is no ASGI: a task, a scope and three messages for each request cost 20 of its 50 microseconds, and uvicorn bounds
neither headers nor pipelined requests nor time. Requests are taken as soon as they are complete and answered in
order by callbacks. All connections together are in `clients.py`.
"""

import asyncio
from collections import deque
from math import inf
from typing import cast
from urllib.parse import unquote

import httptools

from orchestration.collector import answers
from orchestration.collector.answers import Answer, RefusedError
from orchestration.collector.app import Request
from orchestration.collector.bodies import Share, body_too_large
from orchestration.collector.clients import Clients

MAX_HEADERS = 100
MAX_HEAD_BYTES = 2**16
"""Of request line and headers, give or take one read of the socket."""
MAX_PIPELINED = 16
MAX_DISCARDED_BYTES = 64 * 2**20
"""Of a body that was refused: read on, so that the client sees the answer and not a reset; then it is cut off."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FULL = answers.unavailable("connections", "too many connections: come back in a second")
_SLOW = RefusedError(408, "slow", "no complete request came in time")
_UNREADABLE = RefusedError(400, "protocol", "this is no HTTP request that can be read, or a header too long")


class Exchange:
    """A request and its answer in the order of its connection. `answer` is there when it is known."""

    __slots__ = ("answer", "connection", "has_body", "is_last", "is_waiting")

    def __init__(self, connection: "Connection", *, is_last: bool = False, is_waiting: bool = False) -> None:
        self.connection = connection
        self.answer: Answer | None = None
        self.has_body = True
        self.is_last = is_last
        """The connection closes behind it."""
        self.is_waiting = is_waiting
        """The client waits for a 100 Continue, and sends no body when it is refused."""

    def reply(self, answer: Answer) -> None:
        self.answer = answer
        self.is_last |= self.is_waiting
        self.connection.flush()


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._collector = clients.collector
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchanges: deque[Exchange] = deque()
        self._exchange: Exchange
        self._request: Request | None = None
        self._draining = Share(clients.collector.budget)
        self._is_reading = self._is_head = self._is_paused = self._is_done = False
        self._head_bytes = self._header_count = self._size_bytes = 0
        self._url = self._offer = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self.deadline_seconds = clients.now_seconds + clients.request_seconds

    # What the event loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = connected = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        clients = self._clients
        clients.connections.add(self)
        if clients.is_crowded or clients.is_stopping:
            connected.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._clients.connections.discard(self)
        if self._request is not None:
            self._collector.forget(self._request)
            self._request = None
        self._draining.hold(0)
        del self._parser  # it holds this connection, and is held by it

    def data_received(self, data: bytes) -> None:
        if self._is_done:
            return
        if self._is_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end(_UNREADABLE)
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if not self._is_done:
                self._end(_UNREADABLE)

    def _read_on_without_upgrade(self, rest: bytes) -> None:
        """Java's client offers h2c with each request, and the parser takes the body for the other protocol."""
        head, self._offer = self._offer, b""
        if head:
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(head + rest)
        else:
            self._is_done = True
            self.close_when_idle()

    def pause_writing(self) -> None:
        """The client takes no answers: take no requests."""
        self._is_paused = True
        self.deadline_seconds = self._clients.now_seconds + self._clients.request_seconds
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_paused = False
        self._draining.hold(0)
        self._set_deadline()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # What the parser says

    def on_message_begin(self) -> None:
        if self._is_done or self._is_paused or len(self._exchanges) >= MAX_PIPELINED:
            raise ValueError("no further request is taken")
        self._is_reading = self._is_head = True
        self._head_bytes = self._header_count = self._size_bytes = 0
        self._url = self._body = b""
        self._headers = {}
        self.deadline_seconds = self._clients.now_seconds + self._clients.request_seconds

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        if self._header_count > MAX_HEADERS:
            raise ValueError("too many headers")
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._is_head = False
        clients, collector, parser, headers = self._clients, self._collector, self._parser, self._headers
        method = parser.get_method()
        if parser.should_upgrade() and method == b"POST":
            kept = [b"%b: %b" % header for header in headers.items() if header[0] not in (b"connection", b"upgrade")]
            self._offer = b"\r\n".join((b"POST %b HTTP/1.1" % self._url, *kept, b"", b""))
            return
        is_last = clients.is_stopping or not parser.should_keep_alive() or parser.get_http_version() == "1.0"
        is_waiting = headers.get(b"expect", b"").lower() == b"100-continue"
        self._exchange = exchange = Exchange(self, is_last=is_last, is_waiting=is_waiting)
        self._exchanges.append(exchange)
        if clients.is_full:
            exchange.is_last = True
            collector.figures.refused[_FULL.reason] += 1
            exchange.reply(_FULL.answer)
        elif method != b"POST":
            exchange.has_body = method != b"HEAD"
            collector.show(method.decode("ascii"), self._path(), exchange.reply)
        else:
            self._request = collector.begin(self._path(), headers, exchange.reply)
            if is_waiting and self._request is not None and self._exchanges[0] is exchange:
                exchange.is_waiting = False
                self._write(_CONTINUE)

    def on_body(self, part: bytes) -> None:
        self._size_bytes += len(part)
        request = self._request
        if request is None:
            if self._size_bytes > MAX_DISCARDED_BYTES:
                self.abort()
            return
        try:
            if self._size_bytes > self._collector.max_body_bytes:
                raise body_too_large(self._collector.max_body_bytes)
            request.share.hold(self._size_bytes)
        except RefusedError as refusal:
            self._request, self._body = None, b""
            self._collector.refuse(request, refusal)
            return
        if not self._body:
            self._body = part
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part

    def on_message_complete(self) -> None:
        if self._offer:
            return
        self._is_reading = False
        request, body = self._request, self._body
        self._request, self._body = None, b""
        self._is_done |= self._exchange.is_last
        self._set_deadline()
        if request is not None:
            self._exchange.is_waiting = False
            self._collector.take(request, body if isinstance(body, bytes) else bytes(body))

    # What follows from it

    def flush(self) -> None:
        """Send the answers that are known, in the order of their requests."""
        exchanges = self._exchanges
        while exchanges and (answer := exchanges[0].answer) is not None:
            exchange = exchanges.popleft()
            self._write(answer.wire(self._clients.date, is_last=exchange.is_last, has_body=exchange.has_body))
            if self._is_paused:
                self._hold_until_taken(len(answer.body))
            if exchange.is_last:
                exchanges.clear()
                self._close()
        self._set_deadline()

    def close_when_idle(self) -> None:
        """Close after the answers that are still to come."""
        if self._exchanges:
            self._exchanges[-1].is_last = True
        elif not self._is_reading:
            self._close()

    def abort(self) -> None:
        """Close without a word."""
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """The deadline has passed."""
        if self._is_paused:
            self.abort()
        elif self._is_reading:
            self._end(_SLOW)
        else:
            self._close()

    def _end(self, refusal: RefusedError) -> None:
        """Take nothing more: answer what is being read with this, and close."""
        request, is_known = self._request, self._is_reading and not self._is_head
        self._request, self._is_reading, self._is_done = None, False, True
        if request is not None:
            self._exchange.is_last = True
            self._collector.refuse(request, refusal)
            return
        self._collector.figures.refused[refusal.reason] += 1
        if is_known:  # and answered before its end
            self.close_when_idle()
        else:
            exchange = Exchange(self, is_last=True)
            self._exchanges.append(exchange)
            exchange.reply(refusal.answer)

    def _hold_until_taken(self, count_bytes: int) -> None:
        """Count what a slow reader leaves here as pending."""
        try:
            self._draining.hold(self._draining.held_bytes + count_bytes)
        except RefusedError:
            self.abort()

    def _path(self) -> str:
        url = self._url
        if not url.startswith(b"/"):  # a whole URL, as proxies send it
            try:
                url = httptools.parse_url(url).path or b"/"
            except httptools.HttpParserInvalidURLError:
                url = b"/"
        path = url.partition(b"?")[0]
        text = path.decode("ascii", "replace")
        return unquote(text) if "%" in text else text

    def _set_deadline(self) -> None:
        clients = self._clients
        if self._is_paused or self._is_reading:
            return
        self.deadline_seconds = inf if self._exchanges else clients.now_seconds + clients.idle_seconds

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
