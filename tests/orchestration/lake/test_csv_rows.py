"""CSV as it is really written: other separators, quotes that are never closed, cells and lines that are too long."""

import csv
import io
import re
from random import Random

import pytest

from orchestration.lake import csv_rows
from orchestration.lake.csv_rows import Rows
from tests.orchestration.lake.test_content import land_bytes
from tests.orchestration.lake.world import World

ROWS = "{event}{s}{account}{s}{id}\napi_call{s}acme{s}1\napi_call{s}beta{s}2\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "names", [("event", "account_id", "id"), ("EVENT", "ACCOUNT_ID", "ID"), ("Type", "UserId", "Uuid")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_table_is_read_however_it_was_exported(
    world: World, separator: str, names: tuple[str, str, str], encoding: str
) -> None:
    text = ROWS.format(s=separator, event=names[0], account=names[1], id=names[2])
    land_bytes(world, "a.csv", text.encode(encoding))
    world.ingest()

    assert world.events("event_id, account_id, line_number") == [("1", "acme", 2), ("2", "beta", 3)]
    assert (world.rejected(), world.skipped) == ([], [])


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_rows_have_their_line_numbers_whatever_ends_a_line(world: World, line_end: str) -> None:
    text = 'sep=;\nevent;account_id;note\napi_call;one;"a\nb"\napi_call;two;\n'
    land_bytes(world, "a.csv", text.replace("\n", line_end).encode())
    world.ingest()

    assert world.events("account_id, line_number") == [("one", 3), ("two", 5)]
    assert world.rejected() == []


def test_properties_keep_their_capitals_where_the_header_names_an_event(world: World) -> None:
    land_bytes(world, "a.csv", b"event,account_id,Type,Source\napi_call,acme,x,y\n")
    world.ingest()
    assert world.calls("account_id, properties") == [("acme", '{"account_id":"acme","Type":"x","Source":"y"}')]


def test_cell_may_be_as_long_as_a_line_of_json(world: World) -> None:
    long = "x" * 1_000_000
    land_bytes(world, "a.csv", f"event,account_id,note\napi_call,one,{long}\napi_call,two,\n".encode())
    world.ingest()

    assert world.events("account_id, line_number") == [("one", 2), ("two", 3)]
    assert world.rejected() == []


@pytest.mark.parametrize(
    ("torn", "lost"),
    [
        ('api_call,"ac"me,', [3]),
        ('api_call,"acme,', [3]),
        ('api_call,acme,"', [3]),
        ('api_call,"acme,\napi_call,three,\napi_call,four,x"', [3]),
        ('api_call,acme,"open\napi_call,three,\napi_call,four,close"', [3]),
    ],
)
def test_stray_quote_costs_its_line_and_not_the_rest_of_the_file(world: World, torn: str, lost: list[int]) -> None:
    more = "".join(f'api_call,account-{number},"a note"\n' for number in range(100))
    land_bytes(world, "a.csv", f"event,account_id,note\napi_call,one,\n{torn}\n{more}".encode())
    world.ingest()

    found = world.events("account_id")
    assert {"one", *(f"account-{number}" for number in range(100))} <= set(found)
    assert world.rejected("line_number")[:1] == lost
    assert len(found) + len(world.rejected()) == 102 + torn.count("\n")
    assert [line for line, _ in world.rejected("line_number, reason")].count(lost[0]) == 1


def test_quote_that_is_never_closed_costs_its_line_at_the_end_of_the_file(world: World) -> None:
    land_bytes(world, "a.csv", b'event,account_id\napi_call,"one\napi_call,two\napi_call,three')
    world.ingest()

    assert world.events("account_id, line_number") == [("three", 4), ("two", 3)]
    assert world.rejected("line_number, line") == [(2, 'api_call,"one')]


def test_cell_of_several_lines_is_no_stray_quote(world: World) -> None:
    land_bytes(world, "a.csv", b'event,account_id,note\napi_call,one,"api\n\nand, ""more""\n"\napi_call,two,\n')
    world.ingest()

    assert world.events("account_id, line_number") == [("one", 2), ("two", 6)]
    assert world.rejected() == []


def test_line_that_is_too_long_says_how_much_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 100)
    whole = b"event,account_id\napi_call,one\napi_call," + b"x" * 1000 + b"\napi_call,two\n"
    rows = list(Rows([whole[at : at + 50] for at in range(0, len(whole), 50)], lambda: True).read())

    assert [row.cells for row in rows[1:]] == [["api_call", "one"], None, ["api_call", "two"]]
    [line] = rows[2].lines
    kept, words = line.decode().split(" … ")
    [missing] = re.findall(r"cut off: (\d+) more bytes", words)
    assert len(kept) + int(missing) == len("api_call,") + 1000


def test_header_is_no_event_where_files_were_put_together(world: World) -> None:
    part = b"\xef\xbb\xbfevent,account_id\napi_call,%s\n"
    land_bytes(world, "a.csv", part % b"one" + part % b"two")
    world.ingest()

    assert world.events("account_id, line_number") == [("one", 2), ("two", 4)]
    assert world.rejected() == []


@pytest.mark.parametrize("seed", range(20))
def test_no_quote_costs_more_than_the_lines_around_it(seed: int) -> None:
    random = Random(seed)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = [["api_call", random.choice(["a", "b\nc", 'd"', "e,f"]), str(number)] for number in range(300)]
    writer.writerows([["event", "account_id", "id"], *rows])
    whole = bytearray(text.getvalue().encode())
    for _ in range(5):
        whole[random.randrange(30, len(whole))] = ord('"')
    step = random.randint(1, 1000)
    pieces = [bytes(whole[at : at + step]) for at in range(0, len(whole), step)]
    found = list(Rows(pieces, lambda: True).read())

    assert sum(row.blanks + len(row.lines) for row in found) == whole.count(b"\n")
    assert len([row for row in found if row.cells in rows]) >= 280
