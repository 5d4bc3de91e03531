"""A request and its answer on a connection, and the path that a request line names. How they are read is in
`protocol.py`.
"""

from typing import Protocol
from urllib.parse import unquote

import httptools

from orchestration.collector.answers import Answer


class Line(Protocol):
    """The connection, as an exchange sees it."""

    def flush(self) -> None:
        """Send the answers that are known, in the order of their requests."""


class Exchange:
    """A request and its answer in the order of its connection. `answer` is there when it is known."""

    __slots__ = ("answer", "connection", "has_body", "is_last", "is_waiting", "more")

    def __init__(self, connection: Line, *, is_last: bool = False, is_waiting: bool = False) -> None:
        self.connection = connection
        self.answer: Answer | None = None
        self.has_body = True
        self.is_last = is_last
        """The connection closes behind it."""
        self.is_waiting = is_waiting
        """The client waits for a 100 Continue, and sends no body when it is refused."""
        self.more = b""
        """Header lines that the answer gets here."""

    def reply(self, answer: Answer) -> None:
        self.answer = answer
        self.is_last |= self.is_waiting
        self.connection.flush()


def path_of(url: bytes) -> str:
    """The path of a request line, without what percent signs hide."""
    if not url.startswith(b"/"):  # a whole URL, as proxies send it
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            url = b"/"
    path = url.partition(b"?")[0]
    text = path.decode("ascii", "replace")
    return unquote(text) if "%" in text else text
