"""What an answer to an alert means, and which accounts it is about."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestration.ledger.ledger import Delivery, State
from orchestration.messages.dispositions import Account, Answer, accounts_of, read
from orchestration.messages.message import Line, Message, Section, to_json
from tests.support.builders import NOW, make_digest

ACCOUNTS = [
    Account("acme-1", "api-calls", "Acme"),
    Account("acme-2", "api-calls", "Acme Corp"),
    Account("acme-2", "seats", "Acme Corp (seats)"),
    Account("globex", "api-calls", "Globex (Europe)"),
    Account("twin-1", "api-calls", "Twin"),
    Account("twin-2", "api-calls", "Twin"),
]


def make_delivery(receipt: str, *accounts: str) -> Delivery:
    payload = {"about": [[account, "api-calls"] for account in accounts]} if accounts else {}
    return Delivery("local|digest|x", "slack", payload, State.SENT, 1, NOW, NOW, NOW, receipt, None, None, None, None)


MESSAGE = make_delivery("C/1", "acme-1", "acme-2", "globex")
OWNER = make_delivery("C/2", "acme-1", "globex")
KNOWN = make_delivery("C/3")


def reaction(emoji: str, on: str) -> Answer:
    return Answer(f"{on} {emoji}", on, "U0DANA", None, emoji, is_reaction=True)


def text(words: str) -> Answer:
    return Answer("C/9", "C/1", "U0DANA", NOW - timedelta(hours=1), words)


def said(answer: Answer, message: Delivery = MESSAGE) -> tuple[list[tuple[str, str]], int]:
    """(account, disposition) of each, without those of other meters, and how many are unclear."""
    found, unclear = read([answer], message, [OWNER, KNOWN], ACCOUNTS, NOW)
    return [(each.account_id, each.disposition) for each in found if each.meter == "api-calls"], unclear


@pytest.mark.parametrize(
    ("emoji", "disposition"), [("👀", "contacted"), ("✅", "won"), ("❌", "false_alarm"), ("💤", "snoozed")]
)
def test_reaction_on_an_owners_reply_is_about_all_of_its_accounts(emoji: str, disposition: str) -> None:
    assert said(reaction(emoji, "C/2")) == ([("acme-1", disposition), ("globex", disposition)], 0)


def test_reaction_on_the_message_counts_where_it_is_about_one_account() -> None:
    """Seen in each channel: eyes on the digest, which mean that somebody has read it."""
    assert said(reaction("👀", "C/1")) == ([], 1)
    assert said(reaction("👀", "C/1"), make_delivery("C/1", "acme-1")) == ([("acme-1", "contacted")], 0)


def test_reaction_about_no_account_is_unclear_and_another_emoji_is_none() -> None:
    assert said(reaction("👀", "C/3")) == ([], 1)
    assert said(reaction("👀", "C/8")) == ([], 1)
    assert said(reaction("🎉", "C/2")) == ([], 0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("won acme", ("acme-1", "won")),
        ("Won: ACME!", ("acme-1", "won")),
        ("snooze Acme Corp", ("acme-2", "snoozed")),
        ("false alarm acme-1", ("acme-1", "false_alarm")),
        ("called globex, no answer", ("globex", "contacted")),
        ("👀 Globex (Europe)", ("globex", "contacted")),
        ("❌ glob", ("globex", "false_alarm")),
        ("snoozed – acme-2 until they are back", ("acme-2", "snoozed")),
    ],
)
def test_text_names_its_account_by_id_or_longest_name(words: str, expected: tuple[str, str]) -> None:
    assert said(text(words)) == ([expected], 0)


@pytest.mark.parametrize("words", ["won", "won the lottery", "snooze twin", "won ac", "false alarm initech"])
def test_text_that_names_no_account_is_unclear_where_there_are_several(words: str) -> None:
    assert said(text(words)) == ([], 1)


@pytest.mark.parametrize("words", ["thanks", "won't do", "wonder", "", "who called acme?", "snoozers"])
def test_talk_is_no_answer(words: str) -> None:
    assert said(text(words)) == ([], 0)


@pytest.mark.parametrize("words", ["won", "won, thanks to Dana", "won acme"])
def test_text_needs_no_name_where_the_message_is_about_one_account(words: str) -> None:
    assert said(text(words), make_delivery("C/1", "acme-1")) == ([("acme-1", "won")], 0)


def test_text_is_about_all_meters_of_its_account_and_has_its_own_time() -> None:
    found, _ = read([text("won acme corp"), reaction("👀", "C/2")], MESSAGE, [OWNER], ACCOUNTS, NOW)

    assert [(each.meter, each.said_at) for each in found[:2]] == [
        ("api-calls", NOW - timedelta(hours=1)),
        ("seats", NOW - timedelta(hours=1)),
    ]
    assert {each.said_at for each in found[2:]} == {NOW}
    assert {each.by_user for each in found} == {"U0DANA"}


def test_reply_that_was_not_sent_is_about_nothing() -> None:
    assert read([reaction("👀", "None")], MESSAGE, [replace(OWNER, receipt=None)], ACCOUNTS, NOW) == ([], 1)


def test_accounts_of_a_message_are_those_of_its_lines_or_of_its_digest() -> None:
    lines = [Line("over quota", name="Acme", account_id="acme", meter="api-calls"), Line("… and 3 more")]
    notice = Message("critical|x", "sales", "Critical", "2 accounts", [Section("", lines)])
    digest = {"digest": make_digest(1)}

    assert accounts_of(to_json(notice)) == [Account("acme", "api-calls", "Acme")]
    assert [account.name for account in accounts_of(digest)] == ["Acme"]
    assert accounts_of({"message": {"text": "of an earlier version"}}) == []
