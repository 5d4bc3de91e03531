"""A refused line whose shape is known says what to do."""

import json

import pytest

from orchestration.usage.hints import find_hint

SHAPES = [
    ("a.ndjson", json.dumps({"schema": None, "payload": {"event": "api_call"}}), "value.converter.schemas.enable"),
    ("a.ndjson", json.dumps({"topic": "t", "partition": 0, "offset": 1, "value": {}}), "land only its `value`"),
    ("a.log", json.dumps({"log": '{"event":"api_call"}\n', "stream": "stdout", "time": "2026-11-19"}), "Docker's"),
    ("a.ndjson", json.dumps({"before": None, "after": {}, "op": "c"}), "Debezium"),
    ("event=api_call/dt=2026-11-19/0.parquet", json.dumps({"uuid": "x"}), "Hive keeps event in the names of folders"),
    ("a.txt", "api_call\x01acme\x012026-11-19", "Hive's text rows"),
    ("a.ndjson", '{"event": "api_call"}{"event": "api_call"}', "Several objects"),
    ("a.ndjson", '{"event": "api_call"} {"event": "ap', "Several objects"),
    ("a.ndjson", "\x1f\\x8b\x08", "gzip bytes"),
    ("a.ndjson", "aaaa … cut off: the line is too long", "8 MiB"),
]


@pytest.mark.parametrize(("landed_file", "line", "words"), SHAPES)
def test_line_of_a_known_shape_has_a_hint(landed_file: str, line: str, words: str) -> None:
    assert words in find_hint(landed_file, line)


@pytest.mark.parametrize("line", [None, "", "not json", "[1]", "[" * 100_000, "{}", '{"event": "page_view"}'])
def test_other_line_has_none(line: str | None) -> None:
    assert find_hint("event=api_call/a.ndjson", line if line != '{"event": "page_view"}' else "") == ""
    assert find_hint("a.ndjson", line) == ""
