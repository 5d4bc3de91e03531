"""Lines that are nearly NDJSON, and blank ones: nothing is lost, numbers stay, and work is bounded by what is there."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.lake import landing
from orchestration.lake.csv_rows import Rows
from orchestration.lake.landing import Piece, _pieces
from orchestration.lake.odd_lines import mended
from orchestration.lake.readers import csv_lines
from tests.orchestration.lake.test_content import as_csv, land_bytes, ndjson
from tests.orchestration.lake.world import World
from tests.support.builders import make_event

ONE, TWO, THREE = (json.dumps(make_event(uuid=name)).encode() for name in ("one", "two", "three"))


def test_objects_without_a_line_break_between_them_all_count(world: World) -> None:
    land_bytes(world, "a.ndjson", ONE + b"\n" + TWO + THREE + b" " + TWO.replace(b"two", b"four") + b"\r\n" + ONE)
    world.ingest()

    assert world.events("event_id, line_number") == [("four", 2), ("one", 1), ("three", 2), ("two", 2)]
    assert world.rejected() == []


def test_byte_order_mark_inside_costs_nothing(world: World) -> None:
    land_bytes(world, "a.ndjson", b"\xef\xbb\xbf" + ONE + b"\n\xef\xbb\xbf" + TWO + b"\n")
    world.ingest()

    assert world.events("event_id, line_number") == [("one", 1), ("two", 2)]
    assert world.rejected() == []


@pytest.mark.parametrize("blank", [b"", b" ", b"\r"])
def test_line_of_a_byte_order_mark_alone_is_blank(world: World, blank: bytes) -> None:
    mark = b"\xef\xbb\xbf" + blank + b"\n"
    land_bytes(world, "a.ndjson", mark + ONE + b"\n" + mark + TWO + b"\n" + mark)
    world.ingest()

    assert world.events("event_id, line_number") == [("one", 2), ("two", 4)]
    assert world.rejected() == []


@pytest.mark.parametrize(
    "line", [b'{"a": "}{"}', b'{"a": 1}{"b": ', b'{"a": 1}{b}', b"}{", b'{"a": "} {"}', b'"}{"', b"[{}]{}x"]
)
def test_line_with_the_same_characters_stays_as_it_is(line: bytes) -> None:
    assert mended(b"1\n" + line + b"\n2\n") == b"1\n" + line + b"\n2\n"


def test_lines_around_several_objects_stay_as_they_are() -> None:
    assert mended(b'{}{"a": "}{"}\n{}\n{} {}\n') == b'[{},{"a": "}{"}]\n{}\n[{},{}]\n'


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b"", b" ", b"\t\r", b"a", b" b ", b"\x0bc"]), min_size=1), st.integers(1, 9))
def test_pieces_are_the_lines_that_are_not_blank(lines: list[bytes], first_line: int) -> None:
    pieces = _pieces(first_line, len(lines), b"".join(line + b"\n" for line in lines))
    found = [
        (number, line)
        for piece in pieces
        for number, line in enumerate(piece.lines.removesuffix(b"\n").split(b"\n"), piece.first_line)
    ]
    assert found == [(number, line) for number, line in enumerate(lines, first_line) if line.strip()]
    assert all(piece.count == piece.lines.count(b"\n") for piece in pieces)


def test_lines_without_blank_ones_are_one_piece_as_they_are() -> None:
    assert _pieces(3, 2, b"a\nb\n") == [Piece(3, 2, b"a\nb\n")]


@pytest.mark.parametrize("kind", ["ndjson", "csv", "json"])
def test_many_blank_lines_keep_the_numbers_of_what_is_between_them(world: World, kind: str) -> None:
    blank = b"\n" * (3 * 2**20)
    first, last = [make_event(uuid="one")], [make_event(uuid="two")]
    if kind == "csv":
        head, end = as_csv(first), as_csv(last).splitlines(keepends=True)[1]
    else:
        head, end = (
            (b"[\n" if kind == "json" else b"") + ndjson(first),
            (b"," + ndjson(last) + b"]" if kind == "json" else ndjson(last)),
        )
    land_bytes(world, "a.gz", gzip.compress(head + blank + end, 1))
    world.ingest()

    [(_, before), (_, after)] = world.events("event_id, line_number")
    assert after - before == len(blank) + 1
    assert world.rejected() == []


def test_blank_lines_of_a_csv_are_not_given_one_by_one() -> None:
    """A gigabyte of them is in a megabyte of gzip: line for line they cost minutes."""
    pieces = [b"event,account_id\n", *[b"\n" * 2**20] * 4, b"api_call,acme\n"]
    rows = list(Rows(pieces, lambda: True).read())

    assert len(rows) < 10
    assert sum(row.blanks + len(row.lines) for row in rows) == 2 + 4 * 2**20
    assert sum(1 for _ in csv_lines(pieces, lambda: True)) < 10


def test_blank_lines_of_a_chunk_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "_BLANK_LINE", None)
    assert _pieces(1, 2**20, b" \n" * 2**20) == []
