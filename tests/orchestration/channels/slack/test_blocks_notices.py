"""How a message reads at Slack: within its limits, whatever the names are; all accounts are in the file."""

from pathlib import Path

import pytest

from orchestration.channels.slack.blocks import digest_message, message_text, notice_payloads
from orchestration.channels.slack.channel import SlackChannel
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import deliver, deliver_parts
from orchestration.messages.message import Line, Message, sections
from tests.fakes.slack import FakeSlack
from tests.support.builders import NOW, make_digest

NAMES = ["Acme", "<!channel>" * 30, "🦊" * 300, "株式会社" * 100, "<https://evil.example|x>\n*b*"]


def make_message(name: str = "Acme", lines: int = 1, owner: str = "", groups: int = 1) -> Message:
    return Message(
        key="weekly|2026-W46",
        audience="sales",
        title=f"Week 46 {name}",
        headline=f"First to look at: {name}.",
        sections=sections({f"Group {n}": [Line(f"{name} · {m}", owner) for m in range(lines)] for n in range(groups)}),
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
    assert {text["type"] for block in message["blocks"] for text in [block.get("text", {"type": ""})]} <= {
        "plain_text",
        "",
    }


def test_section_shows_ten_lines_and_how_many_more_there_are() -> None:
    payload, replies = notice_payloads(make_message(lines=12), "local", {})

    text = payload["message"]["blocks"][2]["text"]["text"]
    assert text.splitlines() == ["Group 0 (12)", *(f"Acme · {n}" for n in range(10)), "… and 2 more"]
    assert [reply["file"]["name"] for reply in replies] == ["weekly-2026-W46-local.csv"]


def test_owner_of_a_line_is_mentioned_by_the_user_id_alone() -> None:
    payload, _ = notice_payloads(make_message(lines=2, owner="dana@example.com"), "local", {"dana@example.com": "U1"})

    drawn = payload["message"]["blocks"][2:-1]
    assert [block["text"]["text"] for block in drawn] == ["Group 0 (2)", "Acme · 0", "Acme · 1"]
    assert [block.get("fields") for block in drawn[1:]] == [[{"type": "mrkdwn", "text": "<@U1>"}]] * 2


def test_one_line_is_a_title_and_the_sentence_of_the_notification() -> None:
    payload, replies = notice_payloads(Message("failing|x", "data", "Runs", "Nothing is left failed."), "local", {})

    assert message_text(payload["message"]) == "Runs\nNothing is left failed."
    assert (payload["audience"], payload["message"]["text"], replies) == ("data", "Nothing is left failed.", [])


def test_digest_lists_the_crossings_that_were_alerted_before_it() -> None:
    lines = [f"Acme {n}: told 20 Nov 14:05" for n in range(12)]
    message, _ = digest_message({**make_digest(), "told": lines}, {})

    assert message["blocks"][-2]["text"]["text"].splitlines() == [
        "Told when it happened",
        *lines[:10],
        "… and 2 more",
    ]
