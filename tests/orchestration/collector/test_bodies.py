"""The body reader: whatever arrives is stored as events or as bad lines, in bounded memory."""

import gzip
import json
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.collector import bodies
from orchestration.collector.answers import RefusedError
from orchestration.collector.parsed_body import ParsedBody

LIMIT = 100_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
EVENTS = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "batch"), VALUES, max_size=5)
BAD_LINES = st.binary(min_size=1, max_size=40).filter(lambda line: not _is_json(line) and not line.isspace())


def _is_json(line: bytes) -> bool:
    if b"\n" in line:
        return True
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


def parse(body: bytes, *, is_sdk: bool = False, max_events: int = 10_000) -> ParsedBody:
    return bodies.parse(body, is_sdk=is_sdk, max_events=max_events)


def lines(batch: ParsedBody) -> list[dict[str, Any]]:
    written = batch.lines(b"2026-11-20T08:00:00.000000Z")
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 and b"\r" not in line for line in written)
    return [json.loads(line) for line in written]


def events(batch: ParsedBody) -> list[Any]:
    return [event for line in lines(batch) for event in line.get("batch", [])]


@given(st.lists(EVENTS, max_size=6), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_every_shape_gives_the_same_events(sent: list[dict[str, Any]], indent: Any, is_ascii: bool) -> None:
    def text(value: object) -> bytes:
        return json.dumps(value, indent=indent, ensure_ascii=is_ascii).encode()

    assert events(parse(text(sent))) == sent
    assert events(parse(text({"batch": sent, "api_key": "k", "sent_at": "now"}))) == sent
    ndjson = b"\n".join(json.dumps(event).encode() for event in sent)
    assert events(parse(ndjson)) == sent
    assert events(parse(ndjson + b"\r\n")) == sent
    for event in sent:
        assert events(parse(b"\xef\xbb\xbf" + text(event))) == [event]


@given(st.lists(st.tuples(st.booleans(), EVENTS, BAD_LINES), min_size=1, max_size=12))
def test_any_mixture_of_good_and_bad_lines_is_all_stored(mixture: list[tuple[bool, dict[str, Any], bytes]]) -> None:
    good = [event for is_good, event, _ in mixture if is_good]
    bad = [line for is_good, _, line in mixture if not is_good]
    body = b"\n".join(json.dumps(event).encode() if is_good else line for is_good, event, line in mixture)
    if body.startswith(b"\xef\xbb\xbf"):
        return
    stored = lines(parse(body))
    assert [event for line in stored for event in line.get("batch", [])] == good
    assert [line["line"] for line in stored if "line" in line] == [
        line.decode(errors="backslashreplace") for line in bad
    ]
    assert len(stored) == bool(good) + len(bad)


def test_scalars_and_mixed_arrays_are_stored_as_they_are() -> None:
    assert events(parse(b"7")) == [7]
    assert events(parse(b'[{"a":1},7,null,"x",[1]]')) == [{"a": 1}, 7, None, "x", [1]]
    assert events(parse(b'{"batch":{"a":1}}')) == [{"batch": {"a": 1}}]


@pytest.mark.parametrize("depth", [253, 600, 900, 1015])
def test_deep_event_of_a_batch_is_stored_or_a_bad_line(depth: int) -> None:
    """Python 3.11 writes fewer levels than orjson reads, later versions write all of them."""
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    stored = lines(parse(b'{"api_key":"k","batch":[{"a":0},' + deep + b"]}", is_sdk=True))
    events, bad = stored[0]["batch"], [line["line"] for line in stored[1:]]
    assert events[0] == {"a": 0}
    assert len(events) + len(bad) == 2
    assert all("nested too deeply" in line for line in bad)
    assert not bad or depth > 900


def test_nesting_without_end_is_a_bad_line() -> None:
    assert len(parse(b"[" * 100_000).bad_lines) == 1
    assert len(parse(b'{"a":' * 100_000 + b'1\n{"b":1}').bad_lines) == 1
    with pytest.raises(RefusedError):
        parse(b"[" * 100_000, is_sdk=True)


@pytest.mark.parametrize("is_sdk", [True, False])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"x":NaN,"y":-Infinity,"z":1}', {"x": None, "y": None, "z": 1}),
        (b'{"x":"\\ud800"}', {"x": "\ufffd"}),
        (b'{"x":"\xff"}', {"x": "\ufffd"}),
    ],
)
def test_what_python_calls_json_is_repaired(text: bytes, expected: object, is_sdk: bool) -> None:
    assert events(parse(b'{"batch":[{"a":1},' + text + b"]}", is_sdk=is_sdk)) == [{"a": 1}, expected]
    assert events(parse(b'[{"a":1},' + text + b"]", is_sdk=is_sdk)) == [{"a": 1}, expected]
    assert events(parse(text, is_sdk=is_sdk)) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        b'{"properties":{"account_id":"\\ud800"}}',
        b'{"distinct_id":"a\xff"}',
        b'{"uuid":"\\udfff","x":"\xff"}',
        b'["\xff"]',
    ],
)
def test_event_is_kept_aside_when_repair_would_make_it_anothers(text: bytes) -> None:
    first, second = lines(parse(b'[{"a":1},' + text + b"]"))
    assert first["batch"] == [{"a": 1}]
    with pytest.raises(ValueError, match="surrogate"):
        orjson.loads(second["line"])


def test_number_of_events_is_bounded_in_every_shape() -> None:
    for body in (b"[1,2,3,4]", b'{"batch":[1,2,3,4]}', b"1\n2\n3\n4\n5", b"\n" * 10 + b"x"):
        with pytest.raises(RefusedError) as refused:
            parse(body, max_events=3)
        assert refused.value.answer.status == 413
    assert len(parse(b"[1,2,3]", max_events=3).events) == 3
    assert len(parse(b"1\n2\n3\n", max_events=3).events) == 3


def test_long_bad_line_is_cut_and_says_so() -> None:
    (line,) = lines(parse(b"\xff" * (3 * 2**20)))
    assert line["line"].endswith(f" … cut off: {3 * 2**20} bytes in all")
    assert len(json.dumps(line)) < 8 * 2**20


@given(st.binary(max_size=3000), st.integers(1, 4))
def test_compressed_body_is_the_same(body: bytes, members: int) -> None:
    step = max(1, len(body) // members)
    parts = [body[start : start + step] for start in range(0, len(body), step)] or [b""]
    many = b"".join(gzip.compress(part, mtime=0) for part in parts)
    raw_deflate = zlib.compressobj(wbits=-15)
    assert bodies.inflate(many, b"gzip", LIMIT) == body
    assert bodies.inflate(many, b"", LIMIT) == body
    assert bodies.inflate(zlib.compress(body), b"deflate", LIMIT) == body
    assert bodies.inflate(raw_deflate.compress(body) + raw_deflate.flush(), b"Deflate", LIMIT) == body


def test_plain_body_with_a_gzip_header_is_taken_as_it_is() -> None:
    assert bodies.inflate(b"{}", b"gzip", LIMIT) == b"{}"


@pytest.mark.parametrize("cut", [1, 5, 12, 20])
def test_damaged_gzip_is_distinguished_from_a_whole_one(cut: int) -> None:
    whole = gzip.compress(b"some text that is long enough", mtime=0)
    with pytest.raises(zlib.error):
        bodies.inflate(whole[:-cut], b"gzip", LIMIT)
    with pytest.raises(zlib.error):
        bodies.inflate(gzip.compress(b"", mtime=0) * 1000, b"gzip", LIMIT)


def test_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(bytes(200 * 2**20), 9)
    with pytest.raises(RefusedError) as refused:
        bodies.inflate(bomb, b"gzip", LIMIT)
    assert refused.value.answer.status == 413
    assert bodies.inflate(gzip.compress(bytes(LIMIT)), b"gzip", LIMIT) == bytes(LIMIT)


def test_unknown_encoding_is_refused_with_what_to_do() -> None:
    with pytest.raises(RefusedError) as refused:
        bodies.inflate(b"x", b"br", LIMIT)
    assert refused.value.answer.status == 415
    assert b"gzip" in refused.value.answer.body


def test_budget_counts_all_shares() -> None:
    budget = bodies.Budget(10)
    first, second = bodies.Share(budget), bodies.Share(budget)
    first.hold(6)
    second.hold(4)
    with pytest.raises(RefusedError) as refused:
        second.hold(5)
    assert refused.value.answer.status == 503
    first.hold(1)
    second.hold(9)
    second.hold(0)
    first.hold(0)
    assert budget.used_bytes == 0
