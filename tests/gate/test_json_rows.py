"""Reading row by row gives what json.loads gives, and refuses what it refuses."""

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom_gate import json_rows
from headroom_gate.json_rows import Members

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ROWS = st.lists(st.lists(LEAVES, max_size=3), max_size=4)
OBJECTS = st.fixed_dictionaries(
    {"rows": ROWS}, optional={"a": LEAVES, "b": st.dictionaries(st.text(max_size=2), LEAVES)}
)


def read(text: str) -> dict[str, Any]:
    members = Members(text, frozenset({"rows"}))
    return {name: list(value) if name == "rows" else value for name, value in members}


@given(OBJECTS, st.sampled_from([None, 1]))
def test_object_is_read_as_json_reads_it(value: dict[str, Any], indent: int | None) -> None:
    assert read(f" {json.dumps(value, indent=indent)}\n") == value


def lines(rows: list[Any]) -> str:
    """As Headroom writes them."""
    return "[\n" + ",\n".join(map(json.dumps, rows)) + "]"


@given(ROWS | st.lists(st.lists(ROWS, max_size=3), max_size=4), ROWS, st.integers(0, 40))
def test_rows_are_the_same_wherever_a_piece_of_them_ends(rows: list[Any], more: list[Any], characters: int) -> None:
    text = f'{{"rows": {lines(rows)},\n"more": {lines(more)},\n"last": [\n[1],\n[2]]}}'
    with patch.object(json_rows, "_PIECE_CHARACTERS", characters):
        found = {name: list(value) for name, value in Members(text, frozenset({"rows", "more"}))}
    assert found == {"rows": rows, "more": more, "last": [[1], [2]]}


@given(OBJECTS, st.data())
def test_object_that_is_cut_off_is_refused(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value)
    with pytest.raises(ValueError, match=r".+"):
        read(text[: data.draw(st.integers(0, len(text) - 1))])


@pytest.mark.parametrize(
    "text", ["{}x", '{"a" 1}', '{"rows": {}}', '{"rows": [1 2]}', '{"a": 1,}', "[]", '{"a": 1} {}']
)
def test_text_that_is_not_one_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(text)
