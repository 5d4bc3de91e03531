"""CloudEvents in binary mode, as the Python and the Node library send it."""

import json
from typing import Any

import pytest

from orchestration.collector.cloudevents import parse_binary
from tests.orchestration.collector.loopback import Collecting, post, zipped

HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "e-1",
    "ce-source": "/gateway",
    "ce-type": "api_call",
    "ce-subject": "acme",
    "ce-time": "2026-11-20T07:12:03+00:00",
    "ce-traceparent": "00-ab",
}
ATTRIBUTES = {name[3:]: value for name, value in HEADERS.items()}


def test_binary_event_is_stored_as_structured(collector: Collecting) -> None:
    assert post(collector.port, b'{"status": 200}', "/any", **HEADERS).json == {"accepted": 1, "quarantined": 0}
    assert post(collector.port, zipped(b"plain"), "/api/v1/events", **HEADERS, Content_Type="text/plain").status == 204
    post(collector.port, b"", "/any", **HEADERS)
    post(collector.port, b"\xff\n", "/any", **HEADERS)
    assert collector.finished() == [
        {**ATTRIBUTES, "data": {"status": 200}},
        {**ATTRIBUTES, "datacontenttype": "text/plain", "data": "plain"},
        ATTRIBUTES,
        {**ATTRIBUTES, "data": "\\xff\n"},
    ]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),  # the specification's own example
        (b'"quoted \\"text\\" with \\\\"', 'quoted "text" with \\'),
        (b"%2525", "%25"),
        (b"100%", "100%"),
        (b"%e2%82%ac", "€"),
        (b"%C0%A0", "\\xc0\\xa0"),
        (b"caf\xc3\xa9", "café"),
        (b"caf\xe9", "café"),
    ],
)
def test_header_value_is_decoded_once(header: bytes, value: str) -> None:
    assert stored({b"ce-id": header}) == {"id": value}


def test_attribute_cannot_pose_as_data() -> None:
    assert stored({b"ce-id": b"1", b"ce-data": b"x", b"ce-data_base64": b"x", b"host": b"h"}) == {"id": "1"}


def stored(headers: dict[bytes, bytes]) -> Any:
    (line,) = parse_binary(headers, b"").lines(b"now")
    return json.loads(line)["batch"][0]
