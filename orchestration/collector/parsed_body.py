"""The events of one request and the lines that are stored for them: the contract with ingest.

    {"received_at":"2026-11-21T12:00:00.123456Z","received_key":"acme","batch":[<event>, …]}   one line for a request
    {"received_at":"2026-11-21T12:00:00.123456Z","received_key":"acme","line":"<text>"}        for each that is not JSON

`received_key` is the name of the key. Behind it there may be `received_source`, of events that name none themselves.
The text of events goes through as it was sent wherever that is possible.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from orchestration.collector import escapes
from orchestration.collector.answers import Answer
from orchestration.usage import events as usage

SECRET_FIELDS = ("api_key", "writeKey")
"""Never stored, whatever stands there: it may be a key of yesterday."""
MAX_BAD_LINE_BYTES = 2**20
"""Of a longer one the beginning is kept. Escaped, a byte is up to six, and ingest reads lines up to 8 MiB."""
MAX_ID_BYTES = 200
TOO_DEEP = b"an event that was nested too deeply to be kept"


class ParsedBody:
    """Events, the text they were sent as, and lines that are no events."""

    __slots__ = ("answer", "bad_lines", "events", "is_array", "root", "text")

    def __init__(
        self,
        text: bytes = b"",
        events: list[Any] | None = None,
        *,
        is_array: bool = False,
        bad_lines: Sequence[bytes] = (),
        root: Any = None,
        answer: Answer | None = None,
    ) -> None:
        self.text = text
        """JSON of all events: an array, or its elements without the brackets."""
        self.is_array = is_array
        self.events = events or []
        self.bad_lines = bad_lines
        self.root = root
        """The object that the body was, to look for a key in."""
        self.answer = answer
        """Where the body's format asks for one of its own."""

    def rewrite(self) -> None:
        """Write the text anew from the events."""
        try:
            self.text = orjson.dumps(self.events)
        except TypeError:
            self._rewrite_one_by_one()
        self.is_array = True

    def _rewrite_one_by_one(self) -> None:
        """orjson reads 1,024 levels and writes 254, Python's own about 1,000: one deep event stops no others."""
        texts, events = [], []
        for event in self.events:
            try:
                texts.append(json.dumps(event, ensure_ascii=False).encode())
                events.append(event)
            except RecursionError:
                self.bad_lines = [*self.bad_lines, TOO_DEEP]
        self.text, self.events = b"[%b]" % b",".join(texts), events

    def drop_secrets(self) -> None:
        """Take fields that are made for a key out of the events, at any depth."""
        searched = escapes.written_out(self.text)
        if not any(b'"%b"' % name.encode() in searched for name in SECRET_FIELDS):
            return
        events = []
        for event in self.events:
            try:
                events.append(_without_secrets(event))
            except RecursionError:
                self.bad_lines = [*self.bad_lines, TOO_DEEP]
        self.events = events
        self.rewrite()

    def give_ids(self, key: bytes) -> None:
        """Make a request's key the identity of events that bring none, so that a repeated request counts once."""
        if not self.events:
            return
        name = key.strip().strip(b'"').decode(errors="backslashreplace")
        if len(name) > MAX_ID_BYTES:
            name = hashlib.sha256(key).hexdigest()
        if not name:
            return
        is_single = len(self.events) == 1 and not self.is_array
        if is_single and isinstance(self.root, dict) and "idempotencyKey" not in self.root:
            if _lacks_id(self.root):
                rest = self.text[self.text.index(b"{") + 1 :]
                self.text = b'{"idempotencyKey":%b%b%b' % (orjson.dumps(name), b"," if self.root else b"", rest)
            return
        self.events = [
            {**event, "idempotencyKey": name if is_single else f"{name}-{index}"} if _lacks_id(event) else event
            for index, event in enumerate(self.events)
        ]
        self.rewrite()

    def lines(self, received_at: bytes, key: str | None = None, source: str | None = None) -> list[bytes]:
        """What is stored, with the names of the key and of the source. No line has a line break inside."""
        start = b'{"received_at":"%b"%b' % (received_at, _sender(key, source))
        lines = []
        if self.events:
            text = self.text
            if b"\n" in text or b"\r" in text:
                text = text.replace(b"\n", b" ").replace(b"\r", b" ")  # in JSON they only stand between tokens
            frame = b'%b,"batch":%b}\n' if self.is_array else b'%b,"batch":[%b]}\n'
            lines.append(frame % (start, text))
        return lines + [b'%b,"line":%b}\n' % (start, orjson.dumps(_readable(bad))) for bad in self.bad_lines]


@lru_cache(1024)
def _sender(key: str | None, source: str | None) -> bytes:
    """Further fields of a line."""
    named = b"" if key is None else b',"received_key":%b' % orjson.dumps(key)
    return named if source is None else b'%b,"received_source":%b' % (named, orjson.dumps(_bounded(source)))


def _bounded(name: str) -> str:
    """Clients choose how long a path is, and each event of theirs would carry it."""
    return name if len(name) <= MAX_ID_BYTES else hashlib.sha256(name.encode()).hexdigest()


def _lacks_id(event: Any) -> bool:
    return isinstance(event, dict) and all(event.get(name) is None for name in usage.ID_FIELDS)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(inner) for name, inner in value.items() if name not in SECRET_FIELDS}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return value


def _readable(line: bytes) -> str:
    text = line[:MAX_BAD_LINE_BYTES].decode(errors="backslashreplace")
    return text if len(line) <= MAX_BAD_LINE_BYTES else f"{text} … cut off: {len(line)} bytes in all"
