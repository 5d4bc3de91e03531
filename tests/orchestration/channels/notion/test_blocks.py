import json
from dataclasses import replace

import pytest

from orchestration.channels.notion.blocks import BLOCKS, PARTS, draw
from orchestration.messages.message import Line, Message, Section
from tests.fakes import notion

MESSAGE = Message(
    key="weekly|2026-W47",
    audience="cs",
    title="Weekly summary",
    headline="2 accounts grew",
    sections=[
        Section("Growing (2)", [Line("+30 %", "i@example.com", "Ingrid", "Acme", "https://crm.example.com/acme")]),
        Section("", [Line("no news")]),
    ],
    footer=["Data through 07:58 UTC", " "],
)


def make_long(name: str, lines: int) -> Message:
    url = f"https://crm.example.com/{'a' * 1800}"
    listed = [Line(name, "", name, name, url) for _ in range(lines)]
    return replace(MESSAGE, title=name, headline=name, sections=[Section(name, listed)], footer=[name])


def text(content: str, **form: object) -> dict[str, object]:
    return {"type": "text", "text": {"content": content}, **form}


BOLD = {"annotations": {"bold": True}}


def test_row_has_a_title_a_kind_and_the_message_as_blocks() -> None:
    row, parts = draw(MESSAGE, "prod", {"i@example.com": "U1"})

    assert parts == []
    assert (row["title"], row["kind"]) == ("Weekly summary", "weekly")
    assert [(block["type"], block[block["type"]]["rich_text"]) for block in row["blocks"]] == [
        ("paragraph", [text("2 accounts grew", **BOLD)]),
        ("heading_2", [text("Growing (2)")]),
        (
            "bulleted_list_item",
            [
                {
                    "type": "text",
                    "text": {"content": "Acme", "link": {"url": "https://crm.example.com/acme"}},
                    **BOLD,
                },
                text(" · +30 % · Ingrid"),
            ],
        ),
        ("bulleted_list_item", [text("no news")]),
        ("paragraph", [text("Data through 07:58 UTC")]),
    ]


@pytest.mark.parametrize(
    "name", ["n" * 1024, "\U0001f680" * 1024, "a\nb\u202e" * 300, "*_~`<@everyone>[x](http://y)"], ids=str.__len__
)
@pytest.mark.parametrize("lines", [1, 97, 98, 400, 5000])
def test_every_request_stays_within_notions_limits(name: str, lines: int) -> None:
    row, parts = draw(make_long(name, lines), "prod", {})

    assert len(row["title"]) <= 500
    for payload in (row, *parts):
        assert notion._problem_of(payload["blocks"]) == ""
        assert len(json.dumps(payload, ensure_ascii=False).encode()) < notion.MAX_BYTES - 2_000
    shown = [block for payload in (row, *parts) for block in payload["blocks"]]
    assert len(parts) < PARTS
    if lines <= 400:
        assert sum(block["type"] == "bulleted_list_item" for block in shown) == lines
    else:
        assert len(shown) >= (BLOCKS - 1) * PARTS
        assert shown[-1]["paragraph"]["rich_text"][0]["text"]["content"].startswith("… and 4,0")


def test_further_parts_begin_with_a_text_by_which_they_are_found() -> None:
    _, parts = draw(make_long("Acme", 250), "prod", {})

    assert [part["heading"] for part in parts] == ["Continued (2)", "Continued (3)"]
    for part in parts:
        assert part["blocks"][0]["paragraph"]["rich_text"] == [text(part["heading"])]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "/accounts/acme", "https://a b", "https://é"])
def test_link_that_notion_would_refuse_is_left_out(url: str) -> None:
    row, _ = draw(replace(MESSAGE, sections=[Section("", [Line("up", name="Acme", url=url)])]), "prod", {})

    assert row["blocks"][1]["bulleted_list_item"]["rich_text"][0] == text("Acme", **BOLD)


def test_letter_is_its_text_line_by_line() -> None:
    row, _ = draw(replace(MESSAGE, body=f"Dear Acme,\n\n{'x' * 2500}"), "prod", {})

    texts = [block["paragraph"]["rich_text"] for block in row["blocks"]]
    assert texts == [[text("Dear Acme,")], [], [text("x" * 1000)], [text("x" * 1000)], [text("x" * 500)]]


def test_row_without_a_title_has_one() -> None:
    row, _ = draw(Message("weekly|2026-W47", "cs", "\u202e", ""), "prod", {})

    assert row == {"title": "Message without a title", "kind": "weekly", "blocks": []}
