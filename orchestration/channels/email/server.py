"""A mail server, and one conversation with it. What it refuses is a sentence with its code; its texts are not quoted.

Python's smtplib, for it is the maintained client of SMTP and names each step. Libraries for many channels, such as
Apprise, answer yes or no: an answer that was lost would be a no, and the letter would be sent twice.
"""

import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import parse_qs, unquote, urlsplit

from orchestration.ledger.outbox import InDoubtError, RefusedError

TIMEOUT_SECONDS = 10
"""Of a single answer."""
ATTEMPT_SECONDS = 25
"""Of all of them together; below half of the outbox's ATTEMPT_LIMIT. Then the connection is cut."""
QUIT_SECONDS = 2
"""Of the farewell, after which nothing is at stake."""
PORTS = {"smtp": 587, "smtps": 465}
_LATER = "run again in a few minutes, the server may take it then"
_REMEDIES = {
    "login": "check the user and the password in the route's `url`; many providers want one made for programs",
    "sender": "let this user send from the route's `from`, or set an address that the user may use",
    "recipients": "correct the address",
    "content": "ask who runs the server which rule refuses it",
    "greeting": "ask who runs the server whether this machine may use it",
}
"""What to do about a refusal for good, by the step."""
_TOO_LARGE = "raise the size limit of the server"
_ENHANCED = re.compile(rb"([245]\.\d{1,3}\.\d{1,3})(?!\S)")


@dataclass(frozen=True)
class Server:
    """Where the letters go in, as the `url` of a route says."""

    host: str
    port: int
    is_smtps: bool
    """TLS from the first byte."""
    is_encrypted: bool
    """Else STARTTLS, or none at all."""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def server_of(url: str) -> Server:
    """smtp://user:password@host:587 with STARTTLS, smtps://host:465 with TLS. Without either only on this machine, or
    with ?tls=off.

    :raises ValueError: it is neither. The sentence does not quote it.
    """
    try:
        found = urlsplit(url.strip())
        port = found.port or PORTS[found.scheme]
        tls = parse_qs(found.query).get("tls", [""])[0]
    except (ValueError, KeyError):
        found, port, tls = urlsplit(""), 0, ""
    if not found.hostname or tls not in ("", "on", "off") or found.path.strip("/") or found.fragment:
        raise ValueError(
            "`url` has to be smtp://user:password@host:587 or smtps://user:password@host:465;"
            " write signs such as @, / and # in it as %40, %2F and %23"
        )
    if not f"{found.username or ''}{found.password or ''}".isascii():
        raise ValueError("the user and the password in `url` may only have ASCII letters, or %… in their place")
    is_encrypted = tls == "on" or (tls == "" and (found.scheme == "smtps" or not _is_here(found.hostname)))
    user, password = unquote(found.username or ""), unquote(found.password or "")
    return Server(found.hostname, port, found.scheme == "smtps", is_encrypted, user, password)


def _is_here(host: str) -> bool:
    """Whether it is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def conversation(server: Server, name: str) -> Iterator[smtplib.SMTP]:
    """A connection that is encrypted and logged in. `name` is the domain that says hello.

    :raises RefusedError: the server cannot be used. Nothing was sent.
    """
    connection = _connect(server, name)
    try:
        with _explained("login"):
            if server.user:
                connection.login(server.user, server.password)
        yield connection
    finally:
        with suppress(OSError):
            if connection.sock:
                connection.sock.settimeout(QUIT_SECONDS)
            connection.quit()
        connection.close()


def _connect(server: Server, name: str) -> smtplib.SMTP:
    # SSL_CERT_FILE names another authority than those of the machine, which take 15 ms to read.
    context = ssl.create_default_context() if server.is_smtps or server.is_encrypted else None
    with _explained("greeting"):
        if server.is_smtps:
            # a name of one's own: else smtplib asks the network for that of this machine
            return smtplib.SMTP_SSL(server.host, server.port, name, timeout=TIMEOUT_SECONDS, context=context)
        connection = smtplib.SMTP(server.host, server.port, name, timeout=TIMEOUT_SECONDS)
        try:
            connection.ehlo()
            if server.is_encrypted:
                connection.starttls(context=context)
        except BaseException:
            connection.close()
            raise
        return connection


def transfer(connection: smtplib.SMTP, sender: str, recipients: Sequence[str], letter: bytes, began: float) -> None:
    """Hand over a letter, to all recipients or to none. `began` is the attempt's, on the monotonic clock.

    :raises RefusedError: the server took it for nobody.
    :raises InDoubtError: it may have.
    """
    with _cut_off_after(connection, began + ATTEMPT_SECONDS - time.monotonic()):
        with _explained("sender"):
            size = [f"size={len(letter)}"] if connection.has_extn("size") else []
            is_utf8 = not all(address.isascii() for address in (sender, *recipients))
            _accepted(*connection.mail(sender, [*size, *(["SMTPUTF8", "BODY=8BITMIME"] if is_utf8 else [])]))
        with _explained("recipients"):
            answers = {address: connection.rcpt(address) for address in recipients}
        if refused := {address: answer for address, answer in answers.items() if answer[0] // 100 != 2}:
            said = _refusal("recipients", *next(iter(refused.values())), also=f" {', '.join(refused)}")
            raise RefusedError(f"{said}. Nobody got it")
        with _explained("content"):
            code, text = connection.docmd("DATA")
            if code != 354:
                raise smtplib.SMTPDataError(code, text)
        try:
            connection.send(re.sub(rb"(?m)^\.", b"..", letter.removesuffix(b"\r\n")) + b"\r\n.\r\n")
            code, text = connection.getreply()
        except (OSError, ValueError) as error:
            raise InDoubtError(f"no answer from the mail server to the letter ({type(error).__name__})") from None
    if not 200 <= code < 600:
        raise InDoubtError("no usable answer from the mail server to the letter")
    if code >= 300:
        raise RefusedError(_refusal("content", code, text))


def _accepted(code: int, text: bytes) -> None:
    if code // 100 != 2:
        raise smtplib.SMTPResponseException(code, text)


@contextmanager
def _cut_off_after(connection: smtplib.SMTP, seconds: float) -> Iterator[None]:
    """Ends the connection then, also in the middle of an answer that comes byte by byte.

    :raises RefusedError: that moment has passed. Nothing was sent.
    """
    if seconds <= 0:
        raise RefusedError("the mail server took too long to say hello: run again")

    def cut_off() -> None:
        with suppress(OSError):
            if connection.sock:
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # below TLS, whose state is not shared

    timer = threading.Timer(seconds, cut_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _explained(step: str) -> Iterator[None]:
    """Turns the errors of a step before the letter itself into refusals."""
    try:
        yield
    except smtplib.SMTPResponseException as error:
        text = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
        raise RefusedError(_refusal(step, error.smtp_code, text)) from None
    except ssl.SSLCertVerificationError:
        raise RefusedError(
            "the mail server's certificate is not valid for its name. Use the name in the certificate, or set"
            " SSL_CERT_FILE to the authority that signed it"
        ) from None
    except smtplib.SMTPNotSupportedError:
        missing = {
            "greeting": "encryption (STARTTLS): use smtps://, or add ?tls=off to the route's `url`",
            "login": "login here: use smtps:// or the port for submission, often 587",
        }
        offer = missing.get(step, "letters to addresses beyond ASCII (SMTPUTF8): use another address")
        raise RefusedError(f"the mail server offers no {offer}") from None
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"the mail server could not be used ({type(error).__name__}, {step}). Check the host and the port in the"
            " route's `url`, then run again"
        ) from None


def _refusal(step: str, code: int, text: bytes, also: str = "") -> str:
    """What it refused and what to do, by the class of its code (RFC 5321, 4.2.1) and its enhanced code (RFC 3463)."""
    enhanced = found[1].decode() if (found := _ENHANCED.match(text)) else ""
    if step == "recipients" and (code == 552 or enhanced.endswith(".2.2")):
        remedy = "the mailbox is full, so have it emptied or set another address"
    elif code == 552 or enhanced.endswith(".3.4"):
        remedy = _TOO_LARGE
    elif code == 530 and step != "login":
        remedy = "it wants a login, so add user:password@ to the route's `url`"
    else:
        remedy = _REMEDIES[step] if code >= 500 else _LATER
    number = f"{code} {enhanced}".strip()
    return f"the mail server refused the {step}{also} ({number}): {remedy}"
