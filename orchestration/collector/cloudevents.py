"""CloudEvents in binary mode: the attributes are headers and the body is the data.

Structured and batched mode are JSON like any other and need nothing special. Recognised by `ce-specversion`: the
Python library sends no Content-Type at all.
"""

from collections.abc import Mapping
from urllib.parse import unquote

import orjson

from orchestration.collector.parsed_body import ParsedBody

VERSION_HEADER = b"ce-specversion"
_DATA_FIELDS = ("data", "data_base64")


def parse_binary(headers: Mapping[bytes, bytes], body: bytes) -> ParsedBody:
    """The event as structured mode would have sent it; data that is not JSON becomes text."""
    event: dict[str, object] = {}
    for header, value in headers.items():
        name = header[3:].decode("ascii", "backslashreplace")
        if header.startswith(b"ce-") and name not in _DATA_FIELDS:
            event[name] = _attribute(value)
    if b"content-type" in headers:
        event["datacontenttype"] = _attribute(headers[b"content-type"])
    text = orjson.dumps(event)
    if body:
        try:
            event["data"] = orjson.loads(body)
        except orjson.JSONDecodeError:
            event["data"] = body.decode(errors="backslashreplace")
            body = orjson.dumps(event["data"])
        text = b'%b,"data":%b}' % (text[:-1], body)
    return ParsedBody(text, [event])


def _attribute(value: bytes) -> str:
    """A header's value: unquoted and percent-decoded once (HTTP protocol binding 1.0.2, 3.1.3.2)."""
    if len(value) >= 2 and value.startswith(b'"') and value.endswith(b'"'):
        value = value[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")  # as Python's HTTP clients send a character that nobody encoded
    return unquote(text, errors="backslashreplace") if "%" in text else text
