"""Telegram on loopback: what people see after failures, by the promise of the route, and what errors say."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels import http
from orchestration.channels.telegram.vendor import VENDOR
from orchestration.ledger.ledger import State
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from tests.fakes.faults import (
    CUT_OFF_AFTER,
    ERROR_AFTER,
    ERROR_BEFORE,
    GARBLED_AFTER,
    LOST_AFTER,
    LOST_BEFORE,
    PORTAL_BEFORE,
    Fault,
    rate_limited,
)
from tests.fakes.telegram import FakeTelegram
from tests.support.desk import Desk, make_line, make_message, target

NOTE = "This may be a repetition."


@pytest.fixture
def telegram(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTelegram]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeTelegram() as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path, telegram: FakeTelegram) -> Iterator[Desk]:
    desk = Desk(tmp_path, VENDOR, telegram)
    desk.prepare(make_message())
    yield desk
    desk.ledger.close()


def test_message_arrives_without_preview_of_links(desk: Desk, telegram: FakeTelegram) -> None:
    delivery = desk.deliver()
    assert desk.deliver() == delivery

    [arrived] = telegram.arrived
    assert (delivery.state, delivery.receipt) == (State.SENT, f"{telegram.to}/1")
    assert (arrived["to"], arrived["reply_to"], arrived["is_silent"]) == (telegram.to, None, False)
    [(_, _, body)] = telegram.requests
    assert body["link_preview_options"] == {"is_disabled": True}
    assert "parse_mode" not in body


@pytest.mark.parametrize("fault", [LOST_AFTER, ERROR_AFTER, CUT_OFF_AFTER, GARBLED_AFTER], ids=str)
def test_message_is_sent_again_when_its_answer_was_lost(desk: Desk, telegram: FakeTelegram, fault: Fault) -> None:
    telegram.fail_next(fault)
    for _ in range(2):
        with pytest.raises(InDoubtError):
            desk.deliver()
    assert len(telegram.arrived) == 1
    desk.wait()

    assert desk.deliver().state is State.SENT
    first, second = telegram.arrived
    assert second["text"].endswith(first["text"])


def test_repetition_says_so_and_its_form_stays(desk: Desk, telegram: FakeTelegram) -> None:
    desk.deliver()
    desk.channel.send(replace(desk.delivery(), doubts=1))

    first, second = telegram.arrived
    assert second["text"] == f"{NOTE}\n\n{first['text']}"
    assert second["bold"] == first["bold"]


@pytest.mark.parametrize("fault", [LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE], ids=str)
def test_message_that_was_lost_arrives_five_minutes_later(desk: Desk, telegram: FakeTelegram, fault: Fault) -> None:
    telegram.fail_next(fault)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.wait()

    assert desk.deliver().state is State.SENT
    assert len(telegram.arrived) == 1


@pytest.mark.parametrize(("fault", "arrived"), [(LOST_AFTER, 1), (LOST_BEFORE, 0)], ids=["after", "before"])
def test_route_that_sends_at_most_once_gives_up(
    tmp_path: Path, telegram: FakeTelegram, fault: Fault, arrived: int
) -> None:
    (tmp_path / "once").mkdir()
    desk = Desk(tmp_path / "once", VENDOR, telegram, Promise.AT_MOST_ONCE)
    desk.prepare(make_message())
    telegram.fail_next(fault)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.wait()

    assert (desk.deliver().state, len(telegram.arrived)) == (State.GIVEN_UP, arrived)
    desk.ledger.close()


def test_lines_without_room_follow_as_silent_replies(desk: Desk, telegram: FakeTelegram) -> None:
    desk.prepare(make_message(lines=200), key="long")

    desk.deliver_all("long")

    parent, *replies = telegram.arrived
    assert parent["reply_to"] is None
    assert [(reply["reply_to"], reply["is_silent"]) for reply in replies] == [(1, True)] * len(replies)
    assert "Acme 200" in replies[-1]["bold"]


def test_reply_of_telegram_needs_a_message_that_was_sent(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="was not sent to Telegram"):
        desk.channel.address(desk.delivery(), desk.delivery())


def test_address_of_an_account_is_a_chat_or_a_channel(desk: Desk, telegram: FakeTelegram) -> None:
    payload, _ = VENDOR.draw(make_message(), "local", {})
    for key, to in {"group": telegram.other_to, "channel": "@headroom_news", "wrong": "sales@example.com"}.items():
        desk.freeze({**payload, "to": to}, key=key)

    assert desk.deliver("group").receipt == f"{telegram.other_to}/1"
    assert desk.deliver("channel").receipt == "-1005550001111/2"
    with pytest.raises(RefusedError, match="the number of a chat"):
        desk.deliver("wrong")


def test_short_limit_is_waited_for_and_a_long_one_is_not(
    desk: Desk, telegram: FakeTelegram, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(http.request, "__kwdefaults__", {**http.request.__kwdefaults__, "sleep": waited.append})
    telegram.fail_next(rate_limited(40))
    with pytest.raises(RefusedError, match="run again in a minute"):
        desk.deliver()
    telegram.fail_next(rate_limited(3))

    assert desk.deliver().state is State.SENT
    assert waited == [3]


@pytest.mark.parametrize(
    ("description", "status", "remedy"),
    [
        ("Unauthorized", 401, "the token is not valid"),
        ("Not Found", 404, "the token is not valid"),
        ("Bad Request: chat not found", 400, "set `to` to the number of a chat"),
        ("Bad Request: message is too long", 400, "refuses the form of this message"),
        ("Forbidden: bot was kicked from the supergroup chat", 403, "add the bot to the chat again"),
        ("Forbidden: bot was blocked by the user", 403, "that person blocked the bot"),
        ("Forbidden: bot can't initiate conversation with a user", 403, "send /start"),
        ("Forbidden: something new", 403, "let the bot write in the chat"),
        ("I'm a teapot", 418, "look the status up"),
    ],
)
def test_refusal_has_a_remedy_by_its_description(
    desk: Desk, telegram: FakeTelegram, monkeypatch: pytest.MonkeyPatch, description: str, status: int, remedy: str
) -> None:
    said = {"ok": False, "error_code": status, "description": description}
    monkeypatch.setattr(telegram, "apply", lambda *_: (status, said))

    with pytest.raises(RefusedError, match=remedy) as refused:
        desk.deliver()

    assert description not in str(refused.value)
    assert desk.delivery().state is State.FAILED


def test_group_that_became_a_supergroup_says_its_new_number(desk: Desk, telegram: FakeTelegram) -> None:
    telegram.moved = {telegram.to: -1007}
    with pytest.raises(RefusedError, match="set `to` to -1007"):
        desk.deliver()


def test_token_is_in_no_error_log_or_receipt(
    desk: Desk, telegram: FakeTelegram, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, telegram.token = telegram.token, "1:another"
    with pytest.raises(RefusedError) as refused:
        desk.deliver()
    telegram.token = secret
    telegram.fail_next(Fault(body=f"<html>{secret}</html>"))
    with pytest.raises(InDoubtError) as doubted:
        desk.deliver()
    desk.wait()
    telegram.is_down = True
    with pytest.raises(InDoubtError) as lost:
        desk.deliver()
    desk.open(secret=lambda name: {"token": secret, "api_url": "http://127.0.0.1:9"}.get(name))
    with pytest.raises(RefusedError) as unreached:
        desk.channel.send(desk.delivery())
    telegram.is_down = False
    desk.open()
    desk.wait()
    desk.deliver()

    texts = [refused.value, doubted.value, lost.value, unreached.value, desk.delivery(), *caplog.messages]
    assert secret not in " ".join(map(str, [*texts, *desk.channel.check()]))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("to", "member", "problem"),
    [
        (FakeTelegram.to, {"status": "member"}, ""),
        (FakeTelegram.to, {"status": "left"}, "add the bot to the chat"),
        (FakeTelegram.to, {"status": "restricted", "can_send_messages": False}, "let the bot send messages"),
        ("@headroom_news", {"status": "administrator", "can_post_messages": True}, ""),
        ("@headroom_news", {"status": "administrator"}, "make the bot an administrator"),
        ("-100404", {"status": "member"}, "set `to` to the number of a chat"),
    ],
)
def test_check_says_whether_the_bot_may_write(
    desk: Desk, telegram: FakeTelegram, to: str, member: dict[str, Any], problem: str
) -> None:
    telegram.member = member
    desk.open(to=to)

    token, chat = desk.channel.check()  # type: ignore[attr-defined]

    assert (token.subject, token.problem, chat.subject) == ("token of @headroom_bot", "", f"chat {to}")
    assert problem in chat.problem
    assert bool(problem) is bool(chat.problem)
    assert telegram.arrived == []


def test_check_says_that_the_token_is_wrong(desk: Desk, telegram: FakeTelegram) -> None:
    telegram.token = "1:another"
    [finding] = desk.channel.check()  # type: ignore[attr-defined]
    assert "ask @BotFather" in finding.problem


def test_permalink_is_that_of_a_supergroup(desk: Desk) -> None:
    assert desk.channel.permalink(desk.deliver()) == "https://t.me/c/1234567890/1"  # type: ignore[attr-defined]
    desk.freeze({"text": "Hi", "entities": [], "to": "42"}, key="private")
    with pytest.raises(RefusedError, match="no address"):
        desk.channel.permalink(desk.delivery("private"))  # type: ignore[attr-defined]


def test_owner_is_notified_where_the_options_name_a_user(desk: Desk, telegram: FakeTelegram) -> None:
    desk.open(options={"users": "ana@example.com=515, ben@example.com=616"})
    people = {each: desk.channel.user_id(each) for each in ("ana@example.com", "ben@example.com", "x@example.com")}  # type: ignore[attr-defined]
    assert people == {"ana@example.com": "515", "ben@example.com": "616", "x@example.com": None}
    section = (
        make_message()
        .sections[0]
        .__class__(
            "Call first",
            [make_line(owner=f"{name}@example.com", owner_name=name.title()) for name in ("ana", "ana", "ben")],
        )
    )
    desk.prepare(make_message(sections=[section]), {name: user for name, user in people.items() if user}, key="owned")
    desk.deliver("owned")

    [arrived] = telegram.arrived
    assert arrived["pings"] == ["Ana"]  # the bot does not know the other one: he is named
    assert arrived["text"].count("Ana") == 2
    assert "Ben" in arrived["text"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"secret": lambda name: None}, "needs the token of a bot"),
        ({"secret": lambda name: "123:abc/../x"}, "needs the token of a bot"),
        ({"to": "sales group"}, "needs the number of a Telegram chat"),
        ({"options": {"users": "ana@example.com=@ana"}}, "list users as"),
    ],
)
def test_route_with_a_wrong_setting_is_not_opened(telegram: FakeTelegram, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        VENDOR.open(target(telegram, Promise.AT_LEAST_ONCE, **wrong), None)  # type: ignore[arg-type]
