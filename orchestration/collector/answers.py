"""What goes back to a client, as bytes, and the one exception that refuses a request.

Which path gets which answer is decided in `app.py`; why something is refused, where it is found out.
"""

from http import HTTPStatus

import orjson

Header = tuple[bytes, bytes]
_CLOSE = b"connection: close\r\n"


class Answer:
    """A status, headers and a body; made once and sent many times."""

    __slots__ = ("_date", "_wire", "body", "head", "status")

    def __init__(self, status: int, body: bytes, *headers: Header, content_type: bytes = b"application/json") -> None:
        described = [] if status == 204 else [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        lines = [b"%b: %b\r\n" % header for header in (*described, *headers)]
        self.status = status
        self.head = b"HTTP/1.1 %d %b\r\n%b" % (status, HTTPStatus(status).phrase.encode(), b"".join(lines))
        self.body = body
        self._date = self._wire = b""

    def wire(self, date: bytes, *, is_last: bool = False, has_body: bool = True, more: bytes = b"") -> bytes:
        """The answer as it is sent. `date` is a whole header line, `more` are several; `is_last` announces the end of
        the connection.
        """
        if not is_last and has_body and not more:
            if self._date is not date:  # most answers are the same for a while
                self._date, self._wire = date, b"%b%b\r\n%b" % (self.head, date, self.body)
            return self._wire
        end = _CLOSE if is_last else b""
        return b"%b%b%b%b\r\n%b" % (self.head, date, more, end, self.body if has_body else b"")


class RefusedError(Exception):
    """The request is not accepted and nothing of it is stored. `reason` is a label of a metric: a word, no data."""

    def __init__(self, status: int, reason: str, text: str, *headers: Header) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = error(status, text, *headers)


def error(status: int, text: str, *headers: Header) -> Answer:
    """What happened and what to do, as JSON."""
    return Answer(status, orjson.dumps({"error": text}), *headers)


def unavailable(reason: str, text: str, retry_after_seconds: int = 1) -> RefusedError:
    """503: every client repeats it, and OTLP's would drop the batch on a 500."""
    return RefusedError(503, reason, text, (b"retry-after", b"%d" % retry_after_seconds))


def too_large(reason: str, text: str) -> RefusedError:
    """413: PostHog's Node client halves its batch on it and goes on."""
    return RefusedError(413, reason, text)
