"""From a request's body to a batch of events: inflate, parse, in bounded memory.

One reader for all clients: it looks at the bytes, not at the path or the Content-Type. Events are not judged here:
that is ingest's work, which knows what to do with a bad one. What a CloudEvent in headers or an OTLP message looks
like is in `cloudevents.py` and `otlp.py`.
"""

import json
import zlib
from typing import Any

import orjson

from orchestration.collector.answers import RefusedError, too_large, unavailable
from orchestration.collector.parsed_body import TOO_DEEP, ParsedBody
from orchestration.usage import events as usage

GZIP_MAGIC = b"\x1f\x8b"
MAX_GZIP_MEMBERS = 64
"""Each costs a decompressor: four megabytes of empty members would be 200,000 of them."""
INFLATE_STEP_BYTES = 2**18
MAX_UNPROVEN_RATIO = 100
"""Of a body that has its key inside, unpacked to packed, until the key is seen; PostHog's events come to 10 or 20."""
MIN_UNPROVEN_BYTES = 2**18
"""Always unpacked: small bodies repeat themselves most."""


class Budget:
    """Bytes of all requests that are being read or wait for the disk."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def check(self, more_bytes: int) -> None:
        """Refuse with 503 what would be too much together with all other requests."""
        if self.used_bytes + more_bytes > self.limit_bytes:
            raise unavailable("pending", "too much is waiting to be stored: send it again in a second")


class Share:
    """What one request holds of the budget."""

    __slots__ = ("_budget", "held_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held_bytes = 0

    def hold(self, count_bytes: int) -> None:
        """Hold that many bytes in all, from now on.

        :raises RefusedError: 503, all requests together would hold too much.
        """
        more = count_bytes - self.held_bytes
        if more > 0:
            self._budget.check(more)
        self._budget.used_bytes += more
        self.held_bytes = count_bytes


def inflate(raw: bytes, encoding: bytes, limit_bytes: int, *, is_proven: bool = True) -> bytes:
    """The body without its compression; gzip is recognised by its first bytes as well. Where the sender has proved
    nothing yet, it is unpacked only as far as events go.

    :raises RefusedError: it is longer than the limit, or compressed in a way that is not known here.
    :raises zlib.error: it is damaged or incomplete.
    """
    unproven_bytes = max(MIN_UNPROVEN_BYTES, MAX_UNPROVEN_RATIO * len(raw))
    if not is_proven and unproven_bytes < limit_bytes:
        try:
            return inflate(raw, encoding, unproven_bytes)
        except RefusedError as refusal:
            if refusal.reason == "body":
                raise too_large("ratio", _TOO_TIGHT) from None
            raise
    if raw.startswith(GZIP_MAGIC):
        return _inflated(raw, 31, limit_bytes)
    name = encoding.strip().lower()
    if name == b"deflate" and raw:
        is_zlib = raw[0] & 0x0F == 8 and int.from_bytes(raw[:2]) % 31 == 0  # or raw, as some send it
        return _inflated(raw, 15 if is_zlib else -15, limit_bytes)
    if name in (b"", b"identity", b"gzip", b"x-gzip"):
        return raw  # also where somebody on the way unpacked it and left the header
    raise RefusedError(415, "encoding", "the Content-Encoding is not known: send gzip, deflate or plain")


def _inflated(raw: bytes, window_bits: int, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for _ in range(MAX_GZIP_MEMBERS):
        stream = zlib.decompressobj(window_bits)
        while not stream.eof:
            part = stream.decompress(raw, min(INFLATE_STEP_BYTES, limit_bytes + 1 - size))
            size += len(part)
            if size > limit_bytes:
                raise body_too_large(limit_bytes)
            parts.append(part)
            raw = stream.unconsumed_tail
            if not raw and not part and not stream.eof:
                raise zlib.error("incomplete")
        raw = stream.unused_data.lstrip(b"\0")
        if not raw:
            return b"".join(parts)
    raise zlib.error("too many members")


_TOO_TIGHT = (
    f"the unpacked body is more than {MAX_UNPROVEN_RATIO} times longer: send the key in a header, or less at a time"
)


def body_too_large(limit_bytes: int) -> RefusedError:
    return too_large(
        "body", f"the body is longer than {limit_bytes} bytes (HEADROOM_COLLECT_MAX_BODY_BYTES): send less at a time"
    )


def parse(body: bytes, *, is_sdk: bool, max_events: int) -> ParsedBody:
    """The events of a body: an object, an array, an object with a `batch`, or one JSON value a line.

    :raises RefusedError: there are more events than `max_events`; or `is_sdk` and it is not JSON.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:]
    try:
        root = orjson.loads(body)
    except orjson.JSONDecodeError:
        if not body or body.isspace():
            return ParsedBody()
        try:
            root = json.loads(body.decode(errors="surrogateescape"), parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            if is_sdk:
                raise _no_events() from None
            return _lines(body, max_events)
        return _repaired(root, max_events)
    kind = type(root)
    if kind is dict:
        events = root.get("batch")
        if type(events) is not list:
            return ParsedBody(body, [root], root=root)
        batch = ParsedBody(b"", events, is_array=True, root=root)
        batch.rewrite()  # without the key that stands beside it
    elif kind is list:
        batch = ParsedBody(body, root, is_array=True)
    elif is_sdk:
        raise _no_events()
    else:
        return ParsedBody(body, [root])
    if len(batch.events) > max_events:
        raise too_many(max_events)
    return batch


def _lines(body: bytes, max_events: int) -> ParsedBody:
    """One value a line; what is none is kept beside the others."""
    if body.count(b"\n") > max_events:
        raise too_many(max_events)
    good: list[bytes] = []
    events: list[Any] = []
    bad: list[bytes] = []
    for line in body.split(b"\n"):
        try:
            events.append(orjson.loads(line))
            good.append(line)
        except orjson.JSONDecodeError:
            if line and not line.isspace():
                bad.append(line)
    return ParsedBody(b",".join(good), events, bad_lines=bad)


def _repaired(root: Any, max_events: int) -> ParsedBody:
    """A body with NaN, half a surrogate or bytes that are no UTF-8 in it: Python's clients call the first two JSON.

    They become null and U+FFFD. An event that would be another's then, or another event, is kept as a bad line.
    """
    inside = root.get("batch") if isinstance(root, dict) else root
    events = inside if isinstance(inside, list) else [root]
    if len(events) > max_events:
        raise too_many(max_events)
    good: list[Any] = []
    bad: list[bytes] = []
    for event in events:
        try:
            text = json.dumps(event, ensure_ascii=False).encode("utf-16", "surrogatepass")
            mended = orjson.loads(text.decode("utf-16", "replace"))
        except ValueError:
            mended = None
        except RecursionError:
            bad.append(TOO_DEEP)
            continue
        if _identity(mended) == _identity(event):
            good.append(mended)
        else:
            bad.append(json.dumps(event).encode())  # half a surrogate is written as such, which is no JSON
    batch = ParsedBody(events=good, bad_lines=bad, root=root)
    batch.rewrite()
    return batch


def _identity(event: Any) -> list[Any]:
    if not isinstance(event, dict):
        return [event]
    insides = [inside for name in usage.PROPERTIES_FIELDS if isinstance(inside := event.get(name), dict)]
    names = (*usage.NAME_FIELDS, *usage.ID_FIELDS, usage.SOURCE_FIELD, *usage.ACCOUNT_FIELDS, *usage.TIME_FIELDS)
    return [place.get(name.removeprefix("properties.")) for place in (event, *insides) for name in names]


def _no_events() -> RefusedError:
    return RefusedError(400, "json", "the body is not JSON with an event, an array of events or a `batch` of them")


def too_many(max_events: int) -> RefusedError:
    return too_large(
        "events", f"there are more than {max_events} events (HEADROOM_COLLECT_MAX_EVENTS): send fewer at a time"
    )
