"""Discord on loopback: what stands in the channel after failures, and what errors say."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels import http
from orchestration.channels.discord.channel import reference
from orchestration.channels.discord.vendor import VENDOR
from orchestration.ledger.ledger import State
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from tests.fakes.discord import GUILD, HISTORY, IN_THREADS, THREADS, FakeDiscord
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
from tests.support.desk import KEY, Desk, make_message, target


@pytest.fixture
def discord(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDiscord]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeDiscord() as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path, discord: FakeDiscord) -> Iterator[Desk]:
    desk = Desk(tmp_path, VENDOR, discord)
    discord.clock = lambda: desk.now.timestamp()
    desk.prepare(make_message())
    yield desk
    desk.ledger.close()


def test_message_arrives_once_with_a_short_reference(desk: Desk, discord: FakeDiscord) -> None:
    delivery = desk.deliver()
    assert desk.deliver() == delivery

    [arrived] = discord.arrived
    assert delivery.receipt == f"{discord.to}/{discord.messages[0]['id']}"
    assert arrived["mark"] == reference(KEY)
    assert (arrived["to"], arrived["pings"]) == (discord.to, [])
    [(_, _, body)] = discord.requests
    assert body["enforce_nonce"] is True
    assert (body["nonce"], body["allowed_mentions"]) == (reference(KEY), {"parse": []})


@pytest.mark.parametrize("fault", [LOST_AFTER, ERROR_AFTER, CUT_OFF_AFTER, GARBLED_AFTER], ids=str)
def test_message_is_found_again_when_its_answer_was_lost(desk: Desk, discord: FakeDiscord, fault: Fault) -> None:
    discord.fail_next(fault)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.wait()

    delivery = desk.deliver()

    assert len(discord.arrived) == 1
    assert (delivery.state, delivery.receipt) == (State.SENT, f"{discord.to}/{discord.messages[0]['id']}")


@pytest.mark.parametrize("fault", [LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE], ids=str)
def test_message_is_sent_later_when_it_was_lost_on_its_way(desk: Desk, discord: FakeDiscord, fault: Fault) -> None:
    discord.fail_next(fault)
    for _ in range(2):
        with pytest.raises(InDoubtError):
            desk.deliver()
    assert discord.arrived == []
    desk.wait()

    assert desk.deliver().state is State.SENT
    assert len(discord.arrived) == 1


def test_message_is_found_behind_hundreds_of_others(desk: Desk, discord: FakeDiscord) -> None:
    discord.post(discord.to, "long ago", at=desk.now.timestamp() - 90_000)
    discord.fail_next(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    for number in range(250):
        discord.post(discord.to, f"talk {number}")
    discord.post(discord.other_to, "elsewhere")

    assert desk.deliver().state is State.SENT
    assert len(discord.arrived) == 1
    assert [method for method, _, _ in discord.requests] == ["POST", "GET", "GET", "GET"]


def test_search_stops_a_day_before_the_attempt(desk: Desk, discord: FakeDiscord) -> None:
    for hour in range(300):
        discord.post(discord.to, "talk", at=desk.now.timestamp() - hour * 3600)
    discord.fail_next(LOST_BEFORE)
    for _ in range(2):
        with pytest.raises(InDoubtError):
            desk.deliver()

    assert [method for method, _, _ in discord.requests] == ["POST", "GET"]  # one page has more than a day


def test_nonce_keeps_a_second_post_of_minutes_later_out(desk: Desk, discord: FakeDiscord) -> None:
    desk.deliver()
    delivery = desk.delivery()
    again = desk.channel.send(delivery)  # two processes at once, neither of which saw the other

    assert (again, len(discord.arrived)) == (delivery.receipt, 1)
    desk.wait()
    assert desk.channel.send(delivery) != again
    assert len(discord.arrived) == 2


def test_message_that_was_deleted_meanwhile_is_refused(desk: Desk, discord: FakeDiscord) -> None:
    desk.deliver()
    discord.messages.clear()

    with pytest.raises(RefusedError, match="somebody deleted this message"):
        desk.channel.send(desk.delivery())


def test_message_that_people_send_once_more_has_a_reference_of_its_own() -> None:
    assert reference(KEY) != reference(f"{KEY}#1")
    assert len(reference(KEY * 9)) == 16


def test_lookup_says_so_when_the_history_is_not_shown(desk: Desk, discord: FakeDiscord) -> None:
    discord.fail_next(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    discord.granted &= ~HISTORY
    desk.wait()

    with pytest.raises(RefusedError, match="give it the permission Read Message History"):
        desk.deliver()
    assert (desk.delivery().state, len(discord.arrived)) == (State.SENDING, 1)


def test_replies_go_into_one_thread(desk: Desk, discord: FakeDiscord) -> None:
    desk.freeze(*VENDOR.draw(make_message(lines=120), "local", {}), key="long")
    desk.deliver_all("long")

    parent, *replies = discord.arrived
    thread = discord.messages[0]["id"]
    assert {reply["to"] for reply in replies} == {thread}
    assert len(replies) == 2
    assert discord.channels[thread]["name"] == "Week 47"
    assert [path for _, path, _ in discord.requests].count(f"/channels/{discord.to}/messages/{thread}/threads") == 1
    assert "Acme 120" in replies[-1]["text"]
    assert "Acme 120" not in parent["text"]


def test_reply_is_found_again_in_the_thread_that_another_run_made(desk: Desk, discord: FakeDiscord) -> None:
    desk.freeze(*VENDOR.draw(make_message(lines=120), "local", {}), key="long")
    desk.deliver("long")
    discord.fail_next(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver_all("long")
    desk.open()

    desk.deliver_all("long")

    assert [part.state for part in desk.ledger.parts("long")] == [State.SENT, State.SENT]
    assert len(discord.arrived) == 3


def test_reply_follows_in_a_direct_message(desk: Desk, discord: FakeDiscord) -> None:
    desk.open(to=discord.direct)
    desk.freeze(*VENDOR.draw(make_message(lines=120), "local", {}), key="long")

    desk.deliver_all("long")

    assert [arrived["to"] for arrived in discord.arrived] == [discord.direct] * 3


@pytest.mark.parametrize("bit", [THREADS, IN_THREADS])
def test_reply_waits_for_a_permission(desk: Desk, discord: FakeDiscord, bit: int) -> None:
    desk.freeze(*VENDOR.draw(make_message(lines=120), "local", {}), key="long")
    discord.granted &= ~bit
    with pytest.raises(RefusedError, match="some permission in the channel is missing"):
        desk.deliver_all("long")
    discord.granted |= bit

    desk.deliver_all("long")
    assert len(discord.arrived) == 3


def test_reply_needs_a_message_that_was_sent(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="was not sent to Discord"):
        desk.channel.address(desk.delivery(), desk.delivery())


def test_address_of_an_account_goes_before_that_of_the_route(desk: Desk, discord: FakeDiscord) -> None:
    payload, _ = VENDOR.draw(make_message(), "local", {})
    desk.freeze({**payload, "to": discord.other_to}, key="theirs")
    desk.freeze({**payload, "to": "#general"}, key="wrong")

    desk.deliver("theirs")
    with pytest.raises(RefusedError, match="the id of a channel"):
        desk.deliver("wrong")
    assert [arrived["to"] for arrived in discord.arrived] == [discord.other_to]


def test_message_is_looked_up_where_it_went(desk: Desk, discord: FakeDiscord) -> None:
    discord.fail_next(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.open(to=discord.other_to)

    assert str(desk.deliver().receipt).startswith(discord.to)
    assert len(discord.arrived) == 1


def test_message_waits_for_a_short_limit_once(
    desk: Desk, discord: FakeDiscord, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(http.request, "__kwdefaults__", {**http.request.__kwdefaults__, "sleep": waited.append})
    discord.fail_next(rate_limited(3))

    assert desk.deliver().state is State.SENT
    assert waited == [3]


def test_refusal_says_what_to_do(desk: Desk, discord: FakeDiscord) -> None:
    desk.open(to="300000000000000099")
    with pytest.raises(RefusedError, match=r"there is no such channel.*\(code 10003\)"):
        desk.deliver()
    discord.is_down = True
    desk.open(secret=lambda name: {"token": discord.token, "api_url": "http://127.0.0.1:9"}.get(name))
    with pytest.raises(RefusedError, match="could not be reached"):
        desk.deliver()
    assert desk.delivery().state is State.FAILED


def test_token_is_in_no_error_log_payload_or_receipt(
    desk: Desk, discord: FakeDiscord, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, discord.token = discord.token, "another one"
    with pytest.raises(RefusedError, match="the token is not valid") as refused:
        desk.deliver()
    discord.token = secret
    discord.fail_next(Fault(body=f"<html>{secret}</html>"))
    with pytest.raises(InDoubtError) as doubted:
        desk.deliver()

    texts = [refused.value, doubted.value, desk.delivery(), *caplog.messages, *desk.channel.check()]  # type: ignore[attr-defined]
    assert secret not in " ".join(map(str, texts))


def test_check_finds_nothing_when_all_is_well(desk: Desk, discord: FakeDiscord) -> None:
    findings = desk.channel.check()  # type: ignore[attr-defined]

    assert [(each.subject, each.problem) for each in findings] == [
        ("token of headroom", ""),
        (f"channel {discord.to}", ""),
    ]
    assert discord.arrived == []


def test_check_names_missing_permissions(desk: Desk, discord: FakeDiscord) -> None:
    discord.granted &= ~HISTORY & ~THREADS

    [_, channel] = desk.channel.check()  # type: ignore[attr-defined]

    assert channel.problem.endswith("in the channel: Create Public Threads, Read Message History")


def test_check_says_what_is_wrong_with_token_or_channel(desk: Desk, discord: FakeDiscord) -> None:
    desk.open(to="300000000000000099")
    assert "no such channel" in desk.channel.check()[1].problem  # type: ignore[attr-defined]
    discord.token = "another one"
    [finding] = desk.channel.check()  # type: ignore[attr-defined]
    assert (finding.subject, "token is not valid" in finding.problem) == ("token", True)


def test_permalink_leads_to_the_message(desk: Desk, discord: FakeDiscord) -> None:
    delivery = desk.deliver()
    link = desk.channel.permalink(delivery)  # type: ignore[attr-defined]
    assert link == f"https://discord.com/channels/{GUILD}/{delivery.receipt}"


def test_owner_is_a_user_whom_the_options_name(desk: Desk) -> None:
    desk.open(options={"users": "ana@example.com=80351110224678912"})
    assert desk.channel.user_id("ana@example.com") == "80351110224678912"  # type: ignore[attr-defined]
    assert desk.channel.user_id("ben@example.com") is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"secret": lambda name: None}, "needs the token of a bot"),
        ({"secret": lambda name: "two words"}, "needs the token of a bot"),
        ({"to": "general"}, "needs the id of a Discord channel"),
        ({"options": {"users": "Ana"}}, "list users as"),
    ],
)
def test_route_with_a_wrong_setting_does_not_open(discord: FakeDiscord, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        VENDOR.open(target(discord, Promise.EXACTLY_ONCE, **wrong), None)  # type: ignore[arg-type]
