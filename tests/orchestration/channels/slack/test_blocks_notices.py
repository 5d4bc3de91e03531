"""How a message reads at Slack: within its limits, whatever the names are; all accounts are in the file."""

from pathlib import Path

import pytest

from orchestration.channels.slack.blocks import digest_message, message_text, notice_payloads
from orchestration.channels.slack.channel import SlackChannel
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import deliver, deliver_parts
from orchestration.messages.figures import person
from orchestration.messages.message import Line, Message, Section, sections
from tests.fakes.slack import FakeSlack
from tests.support.builders import NOW, make_digest

NAMES = ["Acme", "<!channel>" * 30, "🦊" * 300, "株式会社" * 100, "<https://evil.example|x>\n*b*"]


def make_message(name: str = "Acme", lines: int = 1, owner: str = "", groups: int = 1) -> Message:
    return Message(
        key="weekly|2026-W46",
        audience="sales",
        title=f"Week 46 {name}",
        headline=f"First to look at: {name}.",
        sections=sections(
            {f"Group {n}": [Line(f"{name} · {m}", owner, person(owner)) for m in range(lines)] for n in range(groups)}
        ),
        footer=["UTC days", name],
        table=[{"account_id": name, "calls": n} for n in range(lines)],
    )


@pytest.mark.parametrize("owner", ["", "dana@example.com"])
@pytest.mark.parametrize("name", NAMES, ids=range(5))
def test_message_fits_slacks_limits_when_each_group_has_200_accounts(tmp_path: Path, name: str, owner: str) -> None:
    payload, replies = notice_payloads(make_message(name, 200, owner, groups=4), "local", {"dana@example.com": "U1"})
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    with ledger.transaction() as connection:
        ledger.prepare(connection, "many", "slack", payload, NOW, replies)

    with FakeSlack() as slack:  # it has Slack's limits
        channel = SlackChannel(slack.token, {"sales": slack.channel}, slack.url)
        assert deliver(ledger, "many", channel, lambda: NOW).state is State.SENT
        deliver_parts(ledger, "many", channel, lambda: NOW)

    ledger.close()
    assert slack.counts() == {"many": 1, "weekly-2026-W46-local.csv": 1}
    assert len(slack.uploads["F1"]["content"].decode().splitlines()) >= 201
    [message] = slack.messages
    assert all(f"Group {n} (200)" in message_text(message) for n in range(4))
    assert "mrkdwn" not in str(message["blocks"])
    assert str(message["blocks"]).count("'user'") == bool(owner)


def test_section_shows_ten_lines_and_how_many_more_there_are() -> None:
    payload, replies = notice_payloads(make_message(lines=12), "local", {})

    assert message_text(payload["message"]).splitlines()[2:-1] == [
        "Group 0 (12)",
        *(f"• Acme · {n}" for n in range(10)),
        "… and 2 more",
    ]
    assert [reply["file"]["name"] for reply in replies] == ["weekly-2026-W46-local.csv"]
    assert notice_payloads(make_message(lines=12), "local", {}, with_files=False)[1] == []


def test_owner_is_mentioned_once_by_the_user_id_alone() -> None:
    payload, _ = notice_payloads(make_message(lines=3, owner="dana@example.com"), "local", {"dana@example.com": "U1"})

    group = payload["message"]["blocks"][2]["elements"][1]["elements"]
    assert group[0]["elements"][-1] == {"type": "user", "user_id": "U1"}
    assert message_text(payload["message"]).splitlines()[3:6] == [
        "• Acme · 0 · @U1",
        "• Acme · 1 · Dana",
        "• Acme · 2 · Dana",
    ]
    assert "dana@" not in str(payload)


def test_name_of_a_line_is_bold_and_links_to_its_page() -> None:
    line = Line("40 calls", name="Acme", url="https://crm.example.com/acme")
    message = Message("weekly|x", "cs", "Week", "One.", [Section("Dropping (1)", [line])])
    payload, _ = notice_payloads(message, "local", {})

    [section] = payload["message"]["blocks"][2]["elements"][1]["elements"]
    name = {"type": "link", "url": "https://crm.example.com/acme", "text": "Acme", "style": {"bold": True}}
    assert section["elements"][0] == name


def test_one_line_is_a_title_and_the_sentence_of_the_notification() -> None:
    recovered = Message("failing|x", "data", "Runs", "No job is failing.")
    payload, replies = notice_payloads(recovered, "local", {})

    assert message_text(payload["message"]) == "Runs\nNo job is failing."
    assert (payload["audience"], payload["message"]["text"], replies) == ("data", "No job is failing.", [])


def test_notification_may_be_another_sentence_than_the_first_line() -> None:
    payload, _ = notice_payloads(Message("x|y", "data", "Job failed", "Run 1", notification="It failed."), "local", {})

    assert payload["message"]["text"] == "It failed."
    assert "It failed." not in message_text(payload["message"])


@pytest.mark.parametrize("blank", [" ", "\u200b", "\u202e"])
def test_text_of_which_nothing_can_be_seen_does_not_break_the_message(blank: str) -> None:
    line = Line(blank, owner_name=blank, name=blank)
    payload, _ = notice_payloads(Message("x|y", "data", blank, blank, [Section(blank, [line])], [blank]), "local", {})

    with FakeSlack() as slack:
        answer = slack.answer(
            "chat.postMessage", {"channel": slack.channel, "blocks": payload["message"]["blocks"]}, slack.token
        )
    assert '"ok": true' in str(answer.body)


def test_digest_lists_the_crossings_that_were_alerted_before_it() -> None:
    lines = [f"Acme {n} 100 %, alerted Fri 14:05" for n in range(12)]
    message, replies = digest_message({**make_digest(), "alerted": lines}, {})

    [said] = [line for line in message_text(message).splitlines() if line.startswith("Alerted before")]
    assert said == f"Alerted before this digest (12)  {' · '.join(lines[:5])} · 7 more"
    assert message_text(replies[-1]).splitlines()[1:] == [f"• {line}" for line in lines]
