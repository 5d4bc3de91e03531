"""A mail server on loopback, by aiosmtpd, and the mailboxes behind it: real SMTP, and the failures that it has.

As RFC 5321 says, an answer of 4xx or 5xx means that it did not take the letter. A mailbox drops a Message-ID that it
knows, as Cyrus and Exchange do; `drops_duplicates` off is a mailbox that does not.
"""

import asyncio
import ssl
import threading
from collections import deque
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.fakes.slack import Fault


class FakeEmail:
    """Attributes may be changed between letters. `tls` is the certificate that it has: by STARTTLS, or from the first
    byte where it `is_smtps`.
    """

    name = "email"
    to = "sales@example.com"
    other_to = "support@example.com"
    options = {"from": "Headroom <usage@example.com>"}  # noqa: RUF012 - never changed
    """What a route to it has to set."""

    def __init__(self, tls: ssl.SSLContext | None = None, is_smtps: bool = False) -> None:
        self.user, self.password = "headroom", "pass/word#1"
        self.is_down = False
        """Nobody is let in."""
        self.drops_duplicates = True
        self.greylists = False
        """Refuses each recipient once, for the moment (RFC 6647)."""
        self.size_limit = 10_240_000
        self.has_smtputf8 = True
        self.refusals: dict[str, str] = {}
        """Answers by command: MAIL, DATA, or an address for its RCPT."""
        self.is_silent = False
        """Never answers to a letter."""
        self.letters: list[tuple[list[str], EmailMessage]] = []
        """All that it took, with the recipients, before mailboxes drop some."""
        self.raw: list[bytes] = []
        self._known: set[str] = set()
        self._faults: deque[Fault] = deque()
        self._tls, self._is_smtps = tls, is_smtps
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        opening = self._loop.create_server(self._protocol, "127.0.0.1", 0, ssl=self._tls if self._is_smtps else None)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        scheme = "smtps" if self._is_smtps else "smtp"
        tls = "?tls=on" if self._tls and not self._is_smtps else ""
        return f"{scheme}://{self.user}:pass%2Fword%231@127.0.0.1:{self.port}{tls}"

    def environment(self, route: str) -> dict[str, str]:
        return {f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}_URL": self.url}

    def fail_next(self, *faults: Fault) -> None:
        """What happens to the next letters, one each."""
        self._faults.extend(faults)

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """What people see in their mailboxes."""
        shown: dict[object, dict[str, Any]] = {}
        for number, (recipients, letter) in enumerate(self.letters):
            for to in recipients:
                same = (letter["Message-ID"], to) if self.drops_duplicates else (number, to)
                text = letter.get_body(("plain",))
                assert text
                shown.setdefault(same, {"mark": letter["Message-ID"], "to": to, "text": text.get_content()})
        return list(shown.values())

    def _protocol(self) -> asyncio.BaseProtocol:
        if self.is_down:
            return _Closed()
        return _Conversation(
            self,
            loop=self._loop,
            enable_SMTPUTF8=self.has_smtputf8,
            data_size_limit=self.size_limit,
            hostname="mail.example.com",
            ident="ESMTP",
            tls_context=None if self._is_smtps else self._tls,
            authenticator=self._login,
            auth_require_tls=False,
        )

    def _login(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        is_right = (given.login, given.password) == (self.user.encode(), self.password.encode())
        return AuthResult(success=is_right, handled=False)  # what is not handled is answered with 535

    async def handle_MAIL(  # noqa: N802 - the library's name, and so are the next ones
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        if refusal := self.refusals.get("MAIL"):
            return refusal
        envelope.mail_from = address
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.greylists and address not in self._known:
            self._known.add(address)
            return "450 4.2.0 Greylisted"
        if refusal := self.refusals.get(address):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.is_silent:
            await asyncio.Event().wait()
        fault = self._faults.popleft() if self._faults else None
        if fault is None or fault.applies:
            assert isinstance(envelope.content, bytes)
            self.raw.append(envelope.content)
            letter = message_from_bytes(envelope.content, policy=policy.default)
            self.letters.append((list(envelope.rcpt_tos), letter))
        return _answer(server, fault) if fault else "250 2.0.0 queued"

    async def handle_exception(self, error: Exception) -> str:
        return "451 4.3.0 internal error"

    async def _close(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _Conversation(SMTP):
    async def smtp_DATA(self, argument: str) -> None:  # noqa: N802
        if refusal := self.event_handler.refusals.get("DATA"):
            await self.push(refusal)
        else:
            await super().smtp_DATA(argument)

    async def push(self, status: Any) -> None:
        if self.transport and not self.transport.is_closing():  # no answer to one who was hung up on
            await super().push(status)


class _Closed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _answer(server: SMTP, fault: Fault) -> str:
    """What a mail server says where one of HTTP fails in that way."""
    if fault.status == 429:
        return "450 4.7.1 try again later"
    if fault.body is not None and fault.status >= 400 and not fault.applies:
        return "451 4.3.0 internal error" if fault.status >= 500 else "550 5.7.1 refused"
    assert server.transport
    if fault.body is not None:  # not an answer of SMTP, or the beginning of one
        server.transport.write(b"25" if fault.is_cut_off else b"<html>\r\n")
    server.transport.close()
    return ""
