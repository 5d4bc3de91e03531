"""How a message reads as a card, and that no name of an account is more than a name there."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.channels.teams.drawing import draw
from orchestration.messages.message import Section
from tests.fakes.teams import FakeTeams
from tests.support.desk import make_line, make_message

NASTY = "<at>Ana</at> **a** [b](https://evil.example) _c_\n\n- d \u202e {{DATE(2026-11-20T07:00:00Z)}}"


def drawn(*lines: Any, users: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    payload, replies = draw(make_message(sections=[Section("Call first", lines)], **fields), "local", users or {})
    assert replies == []
    return payload["card"]


def shown(card: dict[str, Any]) -> dict[str, Any]:
    """What people see of the card, which is one that Teams takes."""
    with FakeTeams() as teams:
        teams.post(card)
        assert teams.failed_runs == []
        [arrived] = teams.arrived
        return arrived


def test_message_is_a_card_of_text_runs() -> None:
    card = drawn(make_line(url="https://crm.example.com/acme", owner_name="Ana"))
    assert shown(card)["text"].splitlines() == [
        "Week 47",
        "2 accounts crossed a threshold.",
        "Call first",
        "• Acme · 98 of 100 calls used · Ana",
        "Data through 07:58 UTC",
    ]
    assert {element["type"] for element in card["body"]} == {"RichTextBlock"}
    link = {"type": "Action.OpenUrl", "url": "https://crm.example.com/acme"}
    assert card["body"][3]["inlines"][1] == {
        "type": "TextRun",
        "text": "Acme",
        "weight": "Bolder",
        "selectAction": link,
    }


def test_owner_is_mentioned_once_by_address() -> None:
    owned = make_line(owner="ana@example.com", owner_name="Ana *The* <b>Boss")
    seen = shown(card := drawn(owned, owned, users={"ana@example.com": "ana@example.com"}))
    assert seen["pings"] == ["ana@example.com"]
    assert card["body"][-1]["text"] == "<at>Ana The bBoss</at>"
    assert "ana@example.com" not in seen["text"]


@pytest.mark.parametrize("place", ["name", "text", "owner_name"])
def test_name_is_in_a_text_run_alone(place: str) -> None:
    card = drawn(make_line(**{place: NASTY}), title=NASTY, headline=NASTY)
    seen = shown(card)
    assert (seen["pings"], len(card["body"])) == ([], 5)
    assert not any(element["type"] == "TextBlock" for element in card["body"])
    assert "\u202e" not in seen["text"]


def test_letter_is_whole_on_a_card() -> None:
    body = "Hello Ana,\n\nyou used 98 % of your calls.\nKind regards"
    assert shown(drawn(make_line(), title="Your usage", body=body))["text"].splitlines() == [
        "Your usage",
        "Hello Ana,",
        "you used 98 % of your calls.",
        "Kind regards",
    ]


def test_letter_that_has_no_room_says_so() -> None:
    seen = shown(drawn(body="\n".join(["word " * 190] * 60)))
    assert seen["text"].endswith("The letter goes on: it is too long for Teams.")


def test_section_is_cut_to_ten_lines() -> None:
    text = shown(draw(make_message(lines=30), "local", {})[0]["card"])["text"]
    assert text.count("Acme") == 10
    assert "… and 20 more" in text


WORDS = st.text(st.characters(codec="utf-8"), max_size=400) | st.just("🦀" * 600) | st.just('"\\' * 500)


@settings(max_examples=30)
@given(WORDS, WORDS, st.integers(0, 30), st.integers(1, 20))
def test_any_message_is_one_that_teams_takes(name: str, text: str, lines: int, sections: int) -> None:
    listed = [make_line(name=name, text=text, owner="ana@example.com", owner_name=name)] * lines
    sent = make_message(title=text, headline=text, footer=[name], sections=[Section(name, listed)] * sections)
    payload, _ = draw(sent, "local", {"ana@example.com": "ana@example.com"})
    assert len(shown(payload["card"])["pings"]) <= 1
