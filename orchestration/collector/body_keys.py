"""Where a body may have its key, found without parsing it: nobody makes the collector parse before he shows a key.

Parsing 6 MB of empty objects costs half a second of the only event loop and 400 MB; a search costs milliseconds. It
looks for the names of the fields and not for the keys, so that its time says nothing about a key. A key that is found
may still stand in the wrong place: `Keys.check_body` decides.
"""

import re
from collections.abc import Iterator

import orjson

BODY_FIELDS = ("api_key", "writeKey", "token")
"""Where PostHog's and Segment's libraries put their key: PostHog's send no header at all."""
MAX_PLACES = 100
"""Of each field, counted from the start and from the end: clients write the key before their events or behind them."""
_VALUE = re.compile(rb'\s{0,64}:\s{0,64}"((?:[^"\\]|\\.){1,600})"')


def candidates(body: bytes) -> Iterator[bytes]:
    """The values of fields that may be the key, wherever they stand."""
    for name in BODY_FIELDS:
        field = b'"%b"' % name.encode()
        start, end = 0, len(body)
        for _ in range(MAX_PLACES):
            if (place := body.find(field, start)) < 0:
                break
            start = place + len(field)
            yield from _value(body, start)
        for _ in range(MAX_PLACES):
            if (place := body.rfind(field, start, end)) < 0:
                break
            end = place
            yield from _value(body, place + len(field))


def _value(body: bytes, start: int) -> Iterator[bytes]:
    if found := _VALUE.match(body, start):
        value = found[1]
        if b"\\" in value:  # PHP escapes a slash, others = and +
            try:
                value = orjson.loads(b'"%b"' % value).encode(errors="replace")
            except orjson.JSONDecodeError:
                return
        yield value
