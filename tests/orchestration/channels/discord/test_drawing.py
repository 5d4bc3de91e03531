"""How a message reads on Discord, and that no name of an account is more than a name there."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.channels.discord.drawing import draw, escaped
from orchestration.messages.message import Section
from tests.fakes.discord import BOT, FakeDiscord
from tests.support.desk import make_line, make_message

NASTY = "@everyone <@80351110224678912> **a** [b](https://evil.example) `c` ||d|| ~~e~~ _f_\nNext \u202e line <#1>"


def drawn(*lines: Any, users: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    payload, _ = draw(make_message(sections=[Section("Call first", lines)], **fields), "local", users or {})
    return payload["message"]


def test_message_has_a_sentence_an_embed_and_no_pings() -> None:
    line = make_line(url="https://crm.example.com/a", owner_name="Ana")
    assert drawn(line) == {
        "content": "2 accounts crossed a threshold.",
        "embeds": [
            {
                "title": "Week 47",
                "description": "**Call first**\n• [**Acme**](<https://crm.example.com/a>) · 98 of 100 calls used · Ana",
                "footer": {"text": "Data through 07:58 UTC"},
            }
        ],
        "allowed_mentions": {"parse": []},
    }


def test_owner_is_pinged_once_whatever_the_number_of_lines() -> None:
    lines = [make_line(owner="ana@example.com", owner_name="Ana") for _ in range(3)]
    message = drawn(*lines, make_line(owner="ben@example.com", owner_name="Ben"), users={"ana@example.com": "8035"})

    assert message["content"] == "2 accounts crossed a threshold.\n<@8035>"
    assert message["allowed_mentions"] == {"parse": [], "users": ["8035"]}
    assert message["embeds"][0]["description"].count("<@8035>") == 1
    assert message["embeds"][0]["description"].count(" · Ana") == 2
    assert "ana@example.com" not in str(message)


@pytest.mark.parametrize("place", ["name", "text", "owner_name"])
def test_name_is_only_a_name(place: str) -> None:
    [embed] = drawn(make_line(**{place: NASTY}))["embeds"]
    line = embed["description"].split("\n", 1)[1]
    bare = re.sub(r"\\[^\w\s]", "", line)  # what is left to Discord as markup

    assert "\n" not in line
    assert "\u202e" not in line
    assert not re.search(r"@everyone|<@|<#|\]\(|https://|`|\|\||~~", bare.replace("**Acme**", ""))


def test_headline_and_title_are_only_text() -> None:
    message = drawn(headline=NASTY, title=NASTY)
    assert "@everyone" not in message["content"]
    assert "\\<@" in message["content"]
    assert len(message["embeds"][0]["title"]) <= 256


def test_link_with_another_scheme_is_left_out() -> None:
    assert "javascript" not in str(drawn(make_line(url="javascript:alert(1)")))
    assert "[" not in str(drawn(make_line(url="https://crm.example.com/a b"))["embeds"][0]["description"])


def test_address_cannot_end_its_link() -> None:
    [embed] = drawn(make_line(url="https://crm.example.com/a>)**x**"))["embeds"]
    assert "(<https://crm.example.com/a%3E)**x**>)" in embed["description"]


def test_letter_is_whole_and_has_no_sections() -> None:
    body = "Hello Ana,\n\nyou used 98 % of your calls.\nKind regards"
    message = drawn(make_line(), body=body, title="Your usage")
    assert message["embeds"] == [{"title": "Your usage", "description": body}]
    assert "content" not in message


def test_quiet_day_is_one_sentence() -> None:
    payload, replies = draw(make_message(sections=[], footer=[], headline="No account crossed."), "local", {})
    assert payload["message"]["content"] == "No account crossed."
    assert payload["message"]["embeds"] == [{"title": "Week 47"}]
    assert (payload["thread"], replies) == ("Week 47", [])


def test_each_line_is_shown_once_when_there_are_many() -> None:
    payload, replies = draw(make_message(lines=100), "local", {})
    texts = [each["message"]["embeds"][0]["description"] for each in (payload, *replies)]
    assert re.findall(r"Acme (\d+)\*", "\n".join(texts)) == [str(number) for number in range(1, 101)]
    assert "… and 90 more" in texts[0]
    assert texts[1].startswith("**Call first, continued**")


def test_flood_is_cut_to_five_messages_that_follow() -> None:
    payload, replies = draw(make_message(lines=2_000), "local", {})
    shown = re.findall(r"Acme (\d+)\*", str([payload, *replies]))
    assert len(replies) == 5
    assert replies[-1]["message"]["embeds"][0]["description"].endswith(f"… and {2_000 - len(shown):,} more")


WORDS = st.text(st.characters(codec="utf-8"), max_size=400) | st.just("🦀" * 600) | st.just("*" * 1_024)


@settings(max_examples=30)
@given(WORDS, WORDS, WORDS, st.integers(0, 60), st.integers(1, 12))
def test_any_message_is_one_that_discord_takes(name: str, text: str, title: str, lines: int, sections: int) -> None:
    listed = [make_line(name=name, text=text, owner=f"{n}@example.com", owner_name=name) for n in range(lines)]
    sent = make_message(title=title, headline=text, footer=[text], sections=[Section(title, listed)] * sections)
    payload, replies = draw(sent, "local", {f"{n}@example.com": f"{n + 10**17}" for n in range(lines)})
    with FakeDiscord() as discord:
        for each in (payload, *replies):
            status, answer = discord.created(discord.to, each["message"])
            assert (status, answer.get("author", answer)) == (200, {"id": BOT, "bot": True})


def test_escapes_are_only_where_they_are_needed() -> None:
    assert escaped("crossed 95 % at 07:26 (98 %), +$450.50") == "crossed 95 % at 07:26 (98 %), +$450.50"
