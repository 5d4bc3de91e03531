"""Connections: HTTP/1.1 on httptools, with a bound on everything a client can do. No path and no event here.

This is no ASGI: a task, a scope and three messages for each request cost 20 of its 50 microseconds, and uvicorn bounds
neither headers nor pipelined requests nor time. Requests are taken as soon as they are complete and answered in
order by callbacks. All connections together are in `clients.py`.
"""

import asyncio
from collections import deque
from math import inf
from typing import cast

import httptools

from orchestration.collector import answers
from orchestration.collector.answers import RefusedError
from orchestration.collector.app import UNREAD, Request, route_of
from orchestration.collector.bodies import Share, body_too_large
from orchestration.collector.clients import EXTRA_SECONDS, LINGER_SECONDS, STOPPING_LINGER_SECONDS, Clients
from orchestration.collector.exchanges import Exchange, path_of

MAX_HEADERS = 100
MAX_HEAD_BYTES = 2**16
"""Of request line and headers, give or take one read of the socket."""
MAX_PIPELINED = 16
MAX_DISCARDED_BYTES = 64 * 2**20
"""Of what comes after a refusal: read on, so that the client sees the answer and not a reset; then it is cut off."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FULL = answers.unavailable("connections", "too many connections: come back in a second")
_SLOW = RefusedError(408, "slow", "no complete request came in time")
_UNREADABLE = RefusedError(400, "protocol", "this is not a valid HTTP request, or a header is too long")


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
        self._is_extra = False
        """It is above the limit of connections."""
        self._is_cut = False
        """The end comes from here: the client may still be sending."""
        self._is_leaving = False
        """It has its last answer."""
        self._leaves_at_seconds = inf
        self._head_bytes = self._header_count = self._size_bytes = self._discarded_bytes = 0
        self._url = self._offer = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self.deadline_seconds = clients.now_seconds + clients.request_seconds

    # What the event loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = connected = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        clients = self._clients
        clients.connections.add(self)
        if clients.is_stopping:
            connected.abort()
        elif clients.is_crowded:
            self._collector.figures.refused["crowded"] += 1
            connected.abort()
        elif clients.is_full:
            clients.make_room()
            self._is_extra = clients.is_full
        if self._is_extra:
            self.deadline_seconds = clients.now_seconds + EXTRA_SECONDS
        else:
            clients.idle[self] = clients.now_seconds

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._clients.forget(self)
        if self._request is not None:
            self._collector.forget(self._request)
        self._draining.hold(0)
        # What is held in a circle stays until the garbage collector looks, which is rare here.
        self._request, self._body = None, b""
        self._exchanges.clear()
        if hasattr(self, "_exchange"):
            del self._exchange
        del self._parser

    def eof_received(self) -> bool:
        """The client sends no more. It may wait for answers, and the connection is kept for them."""
        if self._is_leaving or self._is_reading or not self._exchanges:
            return False
        self._exchanges[-1].is_last = self._is_done = True
        return True

    def data_received(self, data: bytes) -> None:
        if self._is_leaving:
            self._set_deadline()
        if self._is_done:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > MAX_DISCARDED_BYTES:
                self.abort()
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
        clients = self._clients
        clients.idle.pop(self, None)
        seconds = EXTRA_SECONDS if self._is_extra and clients.is_full else clients.request_seconds
        self.deadline_seconds = clients.now_seconds + seconds

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
        self._is_extra = self._is_extra and clients.is_full
        self._is_cut = clients.is_stopping or self._is_extra
        is_last = self._is_cut or not parser.should_keep_alive() or parser.get_http_version() == "1.0"
        is_waiting = headers.get(b"expect", b"").lower() == b"100-continue"
        self._exchange = exchange = Exchange(self, is_last=is_last, is_waiting=is_waiting)
        self._exchanges.append(exchange)
        if collector.origins is not None and (origin := headers.get(b"origin")) is not None:
            exchange.more = collector.origins.header_lines(origin)
        if method != b"POST":
            exchange.has_body = method != b"HEAD"
            collector.show(method.decode("ascii"), path_of(self._url), headers, exchange.reply)
        elif self._is_extra:
            collector.count(route_of(path_of(self._url)).template, _FULL)
            exchange.reply(_FULL.answer)
        else:
            self._request = collector.begin(path_of(self._url), headers, exchange.reply, self._peer())
            if is_waiting and self._request is not None and self._exchanges[0] is exchange:
                exchange.is_waiting = False
                self._write(_CONTINUE)

    def _peer(self) -> str:
        """Whose address the access log shows."""
        if self._collector.access_log is None or self._transport is None:
            return ""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

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
        if self._is_leaving and not self._is_cut:
            self._close()  # with the whole body it was all that the client sends
        if request is not None:
            self._exchange.is_waiting = False
            self._collector.take(request, body if isinstance(body, bytes) else bytes(body))

    # What follows from it

    def flush(self) -> None:
        """Send the answers that are known, in the order of their requests."""
        exchanges = self._exchanges
        while exchanges and (answer := exchanges[0].answer) is not None:
            exchange = exchanges.popleft()
            date, is_last = self._clients.date, exchange.is_last
            self._write(answer.wire(date, is_last=is_last, has_body=exchange.has_body, more=exchange.more))
            if self._is_paused:
                self._hold_until_taken(len(answer.body))
            if is_last:
                exchanges.clear()
                self._leave()
        self._set_deadline()

    def close_when_idle(self) -> None:
        """Close after the answers that are still to come."""
        if self._is_leaving:
            self._leaves_at_seconds = min(self._leaves_at_seconds, self._clients.now_seconds + STOPPING_LINGER_SECONDS)
            self._set_deadline()
        elif self._exchanges:
            self._exchanges[-1].is_last = self._is_cut = True
            self._is_done |= self._is_head or not self._is_reading  # what comes now would be stored without an answer
        elif not self._is_reading:
            self._leave()

    def abort(self) -> None:
        """Close without a word."""
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """The deadline has passed."""
        if self._is_paused or self._is_leaving:
            self.abort()
        elif self._is_reading:
            self._end(_SLOW)
        else:
            self._leave()

    def _end(self, refusal: RefusedError) -> None:
        """Take nothing more: answer what is being read with this, and close."""
        request, is_known = self._request, self._is_reading and not self._is_head
        self._request, self._body = None, b""
        self._is_reading, self._is_done, self._is_cut = False, True, True
        if self._is_leaving:
            return
        if request is not None:
            self._exchange.is_last = True
            self._collector.refuse(request, refusal)
            return
        if is_known:  # and answered before its end
            self._collector.figures.refused[refusal.reason] += 1
            self.close_when_idle()
        else:
            self._collector.count(UNREAD, refusal)
            exchange = Exchange(self, is_last=True)
            self._exchanges.append(exchange)
            exchange.reply(refusal.answer)

    def _hold_until_taken(self, count_bytes: int) -> None:
        """Count what a slow reader leaves here as pending."""
        try:
            self._draining.hold(self._draining.held_bytes + count_bytes)
        except RefusedError:
            self.abort()

    def _set_deadline(self) -> None:
        clients = self._clients
        if self._is_paused or self._transport is None or self._transport.is_closing():
            return
        if self._is_leaving:
            self.deadline_seconds = min(clients.now_seconds + LINGER_SECONDS, self._leaves_at_seconds)
        elif self._is_reading:
            return
        elif self._exchanges:
            self.deadline_seconds = inf
        else:
            self.deadline_seconds = clients.now_seconds + clients.idle_seconds
            clients.idle[self] = clients.now_seconds

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _leave(self) -> None:
        """Close, but read on while the client may be sending: a reset would destroy the answer that it did not see."""
        clients, transport = self._clients, self._transport
        if self._is_leaving or transport is None:
            return
        self._is_leaving = True
        clients.idle.pop(self, None)
        clients.leaving.add(self)
        patience = STOPPING_LINGER_SECONDS if clients.is_stopping else clients.request_seconds
        self._leaves_at_seconds = clients.now_seconds + patience
        self._set_deadline()
        if not (self._is_reading or self._is_cut):
            self._close()
        elif not transport.is_closing():
            transport.write_eof()

    def _close(self) -> None:
        if self._transport is not None:
            self.deadline_seconds = self._clients.now_seconds + self._clients.request_seconds  # to take its answer
            self._transport.close()
