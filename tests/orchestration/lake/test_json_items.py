"""JSON that does not keep to its lines: each value counts once, under a number that leads back to it."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.lake import json_items
from orchestration.lake.damage import CutShortError
from orchestration.lake.json_items import item_lines
from tests.orchestration.lake.test_content import land_bytes, ndjson
from tests.orchestration.lake.world import World
from tests.support.builders import make_event

EVENTS = [make_event(f"account-{number}", uuid=f"{number}", note="} {\n[") for number in range(5)]
PRINTED = "\n".join(json.dumps(event, indent=2) for event in EVENTS)
LINES = PRINTED[: PRINTED.index("\n}\n") + 2].count("\n") + 1


def lines_of(whole: bytes, step: int = 7) -> list[bytes]:
    return b"".join(item_lines(whole[at : at + step] for at in range(0, len(whole), step))).split(b"\n")[:-1]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("".join(map(json.dumps, EVENTS)), [1, 2, 3, 4, 5]),  # Firehose
        ("\r".join(map(json.dumps, EVENTS)), [1, 2, 3, 4, 5]),
        (PRINTED, [1 + LINES * number for number in range(5)]),
        (json.dumps(EVENTS, indent=2), [2 + LINES * number for number in range(5)]),
        ("[" + ",\n".join(map(json.dumps, EVENTS)) + "]\n", [1, 2, 3, 4, 5]),
        ("[\n" + "\n,".join(map(json.dumps, EVENTS)) + "\n]", [2, 3, 4, 5, 6]),
        ("\x1e" + "\n\x1e".join(json.dumps(event, indent=1) for event in EVENTS), None),
    ],
)
@pytest.mark.parametrize("is_compressed", [True, False])
def test_values_count_however_they_are_put_in_lines(
    world: World, text: str, numbers: list[int] | None, is_compressed: bool
) -> None:
    land_bytes(world, "a", gzip.compress(text.encode()) if is_compressed else text.encode())
    world.ingest()

    assert world.events() == ["0", "1", "2", "3", "4"]
    if numbers:
        assert world.events("line_number") == numbers
    assert (world.rejected(), world.skipped) == ([], [])
    assert world.ingest() == []


def test_events_without_ids_count_once_when_the_file_grows(world: World) -> None:
    events = [make_event("acme", uuid=None, at=f"2026-11-19T12:00:0{second}Z") for second in range(4)]
    text = "".join(json.dumps(event) for event in events).encode()
    for size in (len(text) // 4 * 2, len(text) // 4 * 2 + 30, len(text)):
        land_bytes(world, "a.json", text[:size])
        world.ingest()

    assert world.calls("line_number") == [1, 2, 3, 4]


def test_array_without_its_end_says_so_and_what_is_there_counts(world: World) -> None:
    land_bytes(world, "a.json", json.dumps(EVENTS, indent=2).encode()[:-60])
    world.ingest()

    assert world.events() == ["0", "1", "2", "3"]
    assert world.rejected("reason, line") == [("damaged_file", "the JSON ends in the middle")]


@pytest.mark.parametrize(
    ("broken", "lost"),
    [
        ('{"event": "api_call", "x": }', 1),
        ('{"event": "api_call", "x": "never closed}', 1),
        ('{"event": "api_call", "x": [1, 2}', 1),
        ("what is this", 3),
    ],
)
def test_value_that_cannot_be_read_costs_only_itself(world: World, broken: str, lost: int) -> None:
    printed = [json.dumps(event, indent=2) for event in EVENTS]
    land_bytes(world, "a.json", "\n".join([*printed[:2], broken, *printed[2:]]).encode())
    world.ingest()

    assert world.events() == ["0", "1", "2", "3", "4"]
    assert len(world.rejected()) <= lost


def test_empty_array_leaves_a_line() -> None:
    assert lines_of(b"[ ]") == [b"[ ]".replace(b" ", b"")]
    assert lines_of(b"[\n]\n{}\n") == [b"[]", b"", b"{}"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=6),
    st.sampled_from([None, 1, 3]),
    st.sampled_from(["", " ", "\n", "\r\n", "array"]),
    st.integers(1, 40),
)
def test_every_value_comes_back_whatever_the_sizes(
    values: list[dict[str, Any]], indent: int | None, between: str, step: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_items, "STEP_BYTES", step)
        text = json.dumps(values, indent=indent)
        if between != "array":
            text = between.join(json.dumps(value, indent=indent) for value in values)
        found = [json.loads(line) for line in lines_of(text.encode(), step) if line]
    assert found == (values or ([[]] if between == "array" else []))


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from('{}[]",:\\ \n1ae'), max_size=60), st.integers(1, 20))
def test_nonsense_ends_and_loses_no_letter(text: str, step: int) -> None:
    try:
        lines = lines_of(text.encode(), step)
    except CutShortError:
        return
    found = b"".join(lines).replace(b" ", b"").replace(b",", b"")
    for letter in 'ae1"{}\\:':
        assert found.count(letter.encode()) == text.count(letter)


def test_ndjson_that_a_first_sight_took_for_something_else_still_counts(world: World) -> None:
    land_bytes(
        world,
        "a.log",
        b"[" + ndjson(EVENTS[:1]).strip() + b",\n" + ndjson(EVENTS[1:2]).strip() + b"]\n" + ndjson(EVENTS[2:]),
    )
    world.ingest()
    assert world.events() == ["0", "1", "2", "3", "4"]
