"""Ids from a request's key, and fields that are never stored."""

import json
from typing import Any

import pytest

from orchestration.collector.bodies import parse
from orchestration.collector.parsed_body import TOO_DEEP, ParsedBody


def written(batch: ParsedBody) -> list[Any]:
    return [json.loads(line).get("batch") for line in batch.lines(b"now")]


def read(body: bytes) -> ParsedBody:
    return parse(body, is_sdk=False, max_events=100)


@pytest.mark.parametrize("name", ["uuid", "messageId", "id", "idempotencyKey"])
def test_own_id_is_kept(name: str) -> None:
    batch = read(json.dumps([{name: "own"}, {"x": 1}]).encode())
    batch.give_ids(b"key")
    assert written(batch) == [[{name: "own"}, {"x": 1, "idempotencyKey": "key-1"}]]


def test_single_event_keeps_its_text() -> None:
    batch = read(b' {"n": 12345678901234567890123}')
    batch.give_ids(b"key")
    assert batch.lines(b"now") == [
        b'{"received_at":"now","batch":[{"idempotencyKey":"key","n": 12345678901234567890123}]}\n'
    ]


def test_single_event_with_a_null_key_gets_one() -> None:
    batch = read(b'{"idempotencyKey":null}')
    batch.give_ids(b"key")
    assert written(batch) == [[{"idempotencyKey": "key"}]]


def test_lines_get_the_ids_of_an_array() -> None:
    batch = read(b'{"a":1}\n{"b":1}')
    batch.give_ids(b"key")
    assert written(batch) == [[{"a": 1, "idempotencyKey": "key-0"}, {"b": 1, "idempotencyKey": "key-1"}]]


def test_long_key_is_hashed_and_strange_ones_are_escaped() -> None:
    long, strange, empty = read(b"{}"), read(b"{}"), read(b"{}")
    long.give_ids(b"k" * 5000)
    strange.give_ids(b'a"\\\xff\xc3\xa9')
    empty.give_ids(b'""')
    assert len(written(long)[0][0]["idempotencyKey"]) == 64
    assert written(strange)[0][0]["idempotencyKey"] == 'a"\\\\xffé'
    assert written(empty) == [[{}]]


def test_fields_for_keys_are_dropped_whatever_is_in_them() -> None:
    batch = read(b'[{"api_key":"x","a":1},{"writeKey":7},{"token":"kept"},3]')
    batch.drop_secrets()
    assert written(batch) == [[{"a": 1}, {}, {"token": "kept"}, 3]]


@pytest.mark.parametrize("name", ["api_key", "writeKey", "api\\u005fkey", "\\u0077riteKey"])
def test_fields_for_keys_are_dropped_at_any_depth(name: str) -> None:
    secret = f'"{name}":"a key of yesterday"'
    batch = read(f'[{{"a":[1,[{{{secret},"b":2}}]],"properties":{{{secret}}}}},{{"c":{{{secret}}}}}]'.encode())
    batch.drop_secrets()
    assert written(batch) == [[{"a": [1, [{"b": 2}]], "properties": {}}, {"c": {}}]]


def test_event_too_deep_to_drop_a_key_from_is_not_stored() -> None:
    deep = b'{"a":' * 1000 + b'{"api_key":"x"}' + b"}" * 1000
    batch = read(b"[" + deep + b',{"b":1}]')
    batch.drop_secrets()
    assert written(batch) == [[{"b": 1}], None]
    assert batch.bad_lines == [TOO_DEEP]


def test_no_line_is_written_when_there_is_no_event() -> None:
    assert ParsedBody().lines(b"now") == []
