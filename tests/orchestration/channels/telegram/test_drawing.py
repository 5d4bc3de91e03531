"""How a message reads on Telegram, and that no name of an account is more than a name there."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.channels.telegram.drawing import draw, plain
from orchestration.messages.message import Section
from tests.fakes.telegram import FakeTelegram
from tests.support.desk import make_line, make_message

NASTY = "@durov_news evil.example/x https://evil.example t.me.io #tag /start 10.0.0.1 <b>a</b> [b](c)\nNext \u202e line"


def shown(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What people see of the payloads; each is one that Telegram takes."""
    with FakeTelegram() as telegram:
        for message in messages:
            status, answer = telegram.send(telegram.chats[telegram.to], message)
            assert status == 200, answer["description"]
        return telegram.arrived


def drawn(*lines: Any, **fields: Any) -> dict[str, Any]:
    payload, replies = draw(make_message(sections=[Section("Call first", lines)], **fields), "local", {})
    assert replies == []
    return shown(payload)[0]


def test_message_is_text_with_bold_parts_and_links() -> None:
    seen = drawn(make_line(url="https://crm.example.com/acme", owner_name="Ana", name="Acme 🦀"), make_line(name=""))
    assert seen["text"].splitlines() == [
        "Week 47",
        "",
        "2 accounts crossed a threshold.",
        "",
        "Call first",
        "• Acme 🦀 · 98 of 100 calls used · Ana",
        "• 98 of 100 calls used",
        "",
        "Data through 07:58 UTC",
    ]
    assert seen["bold"] == ["Week 47", "Call first", "Acme 🦀"]
    assert seen["links"] == {"Acme 🦀": "https://crm.example.com/acme"}


@pytest.mark.parametrize("place", ["name", "text", "owner_name"])
def test_name_of_an_account_is_only_a_name(place: str) -> None:
    seen = drawn(make_line(**{place: NASTY}))
    assert (seen["pings"], seen["found"], seen["links"]) == ([], [], {})
    assert "\u202e" not in seen["text"]
    assert len(seen["text"].splitlines()) == 8


def test_title_and_headline_are_only_text() -> None:
    seen = drawn(make_line(), title=NASTY, headline=NASTY, footer=[NASTY])
    assert (seen["pings"], seen["found"]) == ([], [])


def test_figures_stay_as_they_are() -> None:
    figures = "1.24 M / 3 M (41 %), +$450.50 at 07:26, 12.5 k, 175 k / 176 k"
    assert plain(figures) == figures


def test_letter_keeps_its_addresses_but_pings_nobody() -> None:
    seen = drawn(make_line(), body="Hello @durov_news,\n\nsee https://example.com/plans\nor write ana@example.com")
    assert seen["text"].splitlines()[2:] == [
        "Hello @\u2060durov_news,",
        "",
        "see https://example.com/plans",
        "or write ana@example.com",
    ]
    assert seen["pings"] == []


def test_lines_without_room_are_all_in_what_follows() -> None:
    payload, replies = draw(make_message(lines=200), "local", {})
    seen = shown(payload, *replies)
    assert "… and 190 more" in seen[0]["text"]
    names = [part for each in seen for part in each["bold"] if part.startswith("Acme")]
    assert names == [f"Acme {number}" for number in range(1, 201)]


WORDS = st.text(st.characters(codec="utf-8"), max_size=400) | st.just("🦀" * 600) | st.just("a.b@c" * 200)


@settings(max_examples=30)
@given(WORDS, WORDS, st.integers(0, 60), st.integers(1, 12), st.integers(0, 2_000))
def test_any_message_is_one_that_telegram_takes(name: str, text: str, lines: int, sections: int, url: int) -> None:
    listed = [make_line(name=name, text=text, url=f"https://example.com/{'x' * url}", owner_name=name)] * lines
    sent = make_message(title=text, headline=text, footer=[name], sections=[Section(name, listed)] * sections)
    payload, replies = draw(sent, "local", {})
    for each in shown(payload, *replies):
        assert len(each["text"].encode("utf-16-le")) // 2 <= 4_000
        assert each["pings"] == []
