"""A message as rows: what is in it, what follows it, and what is left out."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.messages.message import Line, Message, Section
from orchestration.messages.outline import PARTS, Kind, Row, arranged


def make_message(*counts: int, body: str = "", headline: str = "News") -> Message:
    lines = iter(range(10_000))
    sections = [
        Section(f"Group {number}", [Line("text", name=f"A{next(lines)}") for _ in range(count)])
        for number, count in enumerate(counts)
    ]
    return Message("key", "sales", "Title", headline, sections, ["Footer"], body=body)


def names(rows: Sequence[Row]) -> list[str]:
    return [row.name for row in rows if row.kind is Kind.LINE]


def test_section_has_ten_lines_and_the_others_follow() -> None:
    rows, [more] = arranged(make_message(12, 1), {}, lambda rows: len(rows) <= 30)
    assert len(names(rows)) == 11
    assert [row.text for row in rows if row.kind is Kind.TEXT] == ["… and 2 more"]
    assert [(row.kind, row.text, row.name) for row in more] == [
        (Kind.HEADING, "Group 0, continued", ""),
        (Kind.LINE, "text", "A10"),
        (Kind.LINE, "text", "A11"),
    ]


def test_section_has_fewer_lines_when_there_is_less_room() -> None:
    rows, more = arranged(make_message(12, 12), {}, lambda rows: len(rows) <= 13)
    assert names(rows) == ["A0", "A1", "A2", "A12", "A13", "A14"]
    assert sum(len(names(part)) for part in more) == 18


@given(st.lists(st.integers(1, 40), max_size=6), st.integers(6, 60))
def test_every_line_is_shown_or_counted(counts: list[int], room: int) -> None:
    rows, more = arranged(make_message(*counts), {}, lambda rows: len(rows) <= room)
    shown = [name for part in (rows, *more) for name in names(part)]
    last = more[-1][-1] if more else rows[-1]
    left = int(last.text.split()[2].replace(",", "")) if last.text.startswith("… and") else 0

    assert len(shown) == len(set(shown))
    assert len(shown) + left == sum(counts)
    assert all(len(part) <= room for part in (rows, *more))
    assert len(more) <= PARTS


def test_message_without_room_for_its_headings_is_cut() -> None:
    rows, more = arranged(make_message(*[1] * 30), {}, lambda rows: len(rows) <= 10)
    assert len(rows) == 10
    assert sum(len(names(part)) for part in more) > 0


def test_user_is_mentioned_once_and_named_after_that() -> None:
    lines = [Line("text", owner=f"{who}@example.com", owner_name=who) for who in ("Ana", "Ana", "Ben")]
    message = Message("key", "sales", "Title", "News", [Section("Group", lines)])
    rows, _ = arranged(message, {"Ana@example.com": "7"}, lambda _: True)
    assert [(row.mention, row.owner) for row in rows if row.kind is Kind.LINE] == [
        ("7", "Ana"),
        ("", "Ana"),
        ("", "Ben"),
    ]


def test_body_is_whole_however_many_messages_it_takes() -> None:
    body = "\n".join(f"line {number}" for number in range(40))
    rows, more = arranged(make_message(3, body=body), {}, lambda rows: len(rows) <= 5)
    assert [row.text for part in (rows, *more) for row in part] == ["Title", *body.splitlines()]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (Line("a\nb \u202e c", name=" x \n y "), ("a b c", "x y", "")),
        (Line("text", name="\u200b"), ("text", "–", "")),
        (Line("text", name="n" * 1_024), ("text", f"{'n' * 59}…", "")),
        (Line("text", name="n" * 1_024 + " (seats)"), ("text", f"{'n' * 51}… (seats)", "")),
        (Line("text", name="x", url="https://crm.example.com/1"), ("text", "x", "https://crm.example.com/1")),
        (Line("text", name="x", url="mailto:ana@example.com"), ("text", "x", "")),
        (Line("text"), ("text", "", "")),
    ],
)
def test_text_of_a_line_is_data_on_one_line(line: Line, shown: tuple[str, str, str]) -> None:
    rows, _ = arranged(Message("key", "sales", "Title", "", [Section("", [line])]), {}, lambda _: True)
    assert [(row.text, row.name, row.url) for row in rows[1:]] == [shown]


def test_title_is_never_empty() -> None:
    rows, more = arranged(Message("key", "sales", " ", ""), {}, lambda _: True)
    assert (rows, more) == ([Row(Kind.TITLE, "–")], [])
