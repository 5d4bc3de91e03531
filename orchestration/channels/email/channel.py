"""E-mail: handing a letter to a mail server once. Nobody can ask the server later whether it has it.

A letter has the same Message-ID at every attempt. Mailboxes that drop a Message-ID that they know show it once: Cyrus
and Exchange do, and Sieve can (RFC 7352). A server on the way that changes it, such as Amazon SES, undoes that. So a
letter that may have arrived before says so, whatever its route promises.
"""

import time
from collections.abc import Sequence
from email.headerregistry import Address

from orchestration.channels.email import mime
from orchestration.channels.email.addresses import is_ascii, mailbox, mailboxes
from orchestration.channels.email.server import Server, conversation, transfer
from orchestration.ledger.ledger import Delivery, State
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from orchestration.usage.findings import Finding


class EmailChannel:
    """Sends from `sender` to the addresses of a delivery, or else to those of the route, `to`."""

    name = "e-mail"
    is_preview = False

    def __init__(
        self,
        server: Server,
        sender: Address,
        to: str,
        promise: Promise = Promise.EXACTLY_ONCE,
        reply_to: Address | None = None,
        list_id: str = "",
    ) -> None:
        self.promise = promise
        self._server, self._sender, self._to, self._reply_to, self._list_id = server, sender, to, reply_to, list_id

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        """Addresses with commas between them. One that is in doubt goes where it went: another mailbox would show it
        once more.
        """
        if parent is not None:
            return str(parent.address)
        if delivery.state is State.SENDING and delivery.address:
            return delivery.address
        return ", ".join(each.addr_spec for each in self._recipients(str(delivery.payload.get("to") or self._to)))

    def send(self, delivery: Delivery) -> str:
        """The receipt is the Message-ID."""
        began = time.monotonic()
        to = self._recipients(str(delivery.address))
        letter = mime.letter(
            delivery.payload,
            self._sender,
            to,
            self._answers_to(str(delivery.payload.get("reply_to") or "")),
            self._list_id,
            delivery.mark,
            delivery.created_at,
            is_repeated=delivery.may_be_repeated,
            is_utf8=not all(map(is_ascii, [self._sender, *to])),
        )
        with conversation(self._server, self._sender.domain) as connection:
            try:
                transfer(connection, self._sender.addr_spec, [each.addr_spec for each in to], letter, began)
            except InDoubtError as error:
                raise InDoubtError(f"{delivery.key} may have been sent: {error}") from None
        return mime.message_id(delivery.mark, self._sender)

    def find(self, delivery: Delivery) -> None:
        """A mail server does not say what it took."""

    def check(self) -> list[Finding]:
        """Whether the mail server lets this user in, and whether the route's addresses are some. Sends nothing."""
        findings = [self._server_finding()]
        if self._to:
            try:
                mailboxes(self._to)
                findings.append(Finding(f"recipients {self._to}"))
            except ValueError as error:
                findings.append(Finding("recipients", f"{error}: correct the route's `to`"))
        return findings

    def _server_finding(self) -> Finding:
        try:
            with conversation(self._server, self._sender.domain) as connection:
                connection.noop()
        except (RefusedError, OSError) as error:
            problem = str(error) if isinstance(error, RefusedError) else "it closed the connection: run again"
            return Finding(f"mail server {self._server}", problem)
        encryption = "encrypted" if self._server.is_encrypted else "not encrypted"
        return Finding(f"mail server {self._server}, {encryption}{', logged in' if self._server.user else ''}")

    def _recipients(self, text: str) -> Sequence[Address]:
        try:
            return mailboxes(text)
        except ValueError as error:
            raise RefusedError(f"{error}: correct the route's `to`, or the column that it names") from None

    def _answers_to(self, text: str) -> Address | None:
        """Who the message says, if that is an address that every server takes; else who the route says."""
        try:
            found = mailbox(text)
        except ValueError:
            return self._reply_to
        return found if is_ascii(found) else self._reply_to
