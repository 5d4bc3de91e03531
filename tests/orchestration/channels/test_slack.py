"""The real slack_sdk against a loopback Slack: what stands in the channel after failures, and how it reads there."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels import slack as channels
from orchestration.channels.slack import SlackChannel, digest_message
from orchestration.delivery.ledger import Delivery, Ledger, State
from orchestration.delivery.outbox import ATTEMPT_LIMIT, InDoubtError, RefusedError, deliver
from tests.builders import NOW
from tests.fakes import (
    CUT_OFF_AFTER,
    ERROR_AFTER,
    ERROR_BEFORE,
    GARBLED_AFTER,
    LOST_AFTER,
    LOST_BEFORE,
    PORTAL_BEFORE,
    FakeSlack,
    Fault,
    rate_limited,
    refused,
)

KEY = "local|digest|2026-11-20"
TOKEN = "xoxb-1234-very-secret"
ITEM = {
    "name": "Acme",
    "owner": "dana.reyes@example.com",
    "severity": "warm",
    "used": "83,801",
    "quota": "100,000",
    "pct": "83.8 %",
    "hits_cap": "Tue 24 Nov",
    "projected": "145,000",
    "mrr": "45.57",
    "sparkline": "▃▃█████▃▃████▅",
}
FOOTER = ["Data through 20 Nov 07:52 UTC", "20 lines rejected"]


def make_digest(items: int = 1, headline: str = "1 account crossed a threshold.", **fields: Any) -> dict[str, Any]:
    return {"date": "2026-11-20", "headline": headline, "items": [{**ITEM, **fields}] * items, "footer": FOOTER}


class Desk:
    """A ledger with one prepared message, the channel, and a clock that tests move."""

    def __init__(self, folder: Path, slack: FakeSlack) -> None:
        self.slack, self.now = slack, datetime.now(UTC)
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
        self.channel = SlackChannel(TOKEN, slack.channel, slack.url)
        self.prepare(digest_message(make_digest()))

    def prepare(self, message: dict[str, Any], key: str = KEY) -> None:
        with self.ledger.transaction() as connection:
            self.ledger.prepare(connection, key, "slack", {"message": message}, NOW)

    def deliver(self, key: str = KEY) -> Delivery:
        return deliver(self.ledger, key, self.channel, lambda: self.now)

    def state(self) -> State:
        delivery = self.ledger.delivery(KEY)
        assert delivery
        return delivery.state

    def wait_a_minute(self) -> None:
        self.now += ATTEMPT_LIMIT


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeSlack() as server:
        server.token = TOKEN
        yield server


@pytest.fixture
def desk(tmp_path: Path, slack: FakeSlack) -> Iterator[Desk]:
    desk = Desk(tmp_path, slack)
    yield desk
    desk.ledger.close()


def test_message_is_posted_once_with_metadata_and_a_text_for_notifications(desk: Desk) -> None:
    delivery = desk.deliver()
    again = desk.deliver()

    [message] = desk.slack.messages
    assert message["text"] == "1 account crossed a threshold."
    assert message["blocks"] == digest_message(make_digest())["blocks"]
    assert message["metadata"] == {"event_type": "headroom_delivery", "event_payload": {"key": KEY}}
    assert delivery == again
    assert (delivery.state, delivery.receipt) == (State.SENT, f"C0DIGEST/{message['ts']}")
    [(_, arguments)] = desk.slack.requests
    assert arguments["unfurl_links"] is arguments["unfurl_media"] is arguments["mrkdwn"] is False


@pytest.mark.parametrize("fault", [LOST_AFTER, ERROR_AFTER, CUT_OFF_AFTER, GARBLED_AFTER], ids=str)
def test_message_is_found_again_when_its_answer_was_lost(desk: Desk, fault: Fault) -> None:
    desk.slack.then(fault)
    with pytest.raises(InDoubtError, match="the next run looks before it posts again"):
        desk.deliver()
    assert desk.state() is State.SENDING

    delivery = desk.deliver()

    assert desk.slack.counts() == {KEY: 1}
    assert (delivery.state, delivery.receipt) == (State.SENT, f"C0DIGEST/{desk.slack.messages[0]['ts']}")
    assert desk.slack.methods() == ["chat.postMessage", "conversations.history"]


@pytest.mark.parametrize(
    "fault", [LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE, refused("internal_error"), refused("fatal_error")], ids=str
)
def test_message_is_posted_a_minute_later_when_it_was_lost_on_its_way(desk: Desk, fault: Fault) -> None:
    desk.slack.then(fault)
    for _ in range(2):  # at once, and again while the first attempt could still be under way
        with pytest.raises(InDoubtError):
            desk.deliver()
        assert desk.state() is State.SENDING
        assert not desk.slack.messages
    desk.wait_a_minute()

    assert desk.deliver().state is State.SENT
    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}


def test_message_is_posted_once_when_slack_asks_to_wait(desk: Desk) -> None:
    desk.slack.then(rate_limited(0))

    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}
    assert len(desk.slack.requests) == 2


@pytest.mark.parametrize("faults", [[rate_limited(0)] * 2, [rate_limited(channels.MAX_WAIT_SECONDS + 1)]], ids=str)
def test_rate_limit_is_a_refusal_when_waiting_does_not_help(desk: Desk, faults: list[Fault]) -> None:
    desk.slack.then(*faults)
    with pytest.raises(RefusedError, match="run again in a minute"):
        desk.deliver()
    assert desk.state() is State.FAILED
    assert len(desk.slack.requests) == len(faults)

    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}


def test_attempt_ends_within_half_of_the_limit_after_which_another_one_may_start() -> None:
    longest = 2 * channels.TIMEOUT_SECONDS + channels.MAX_WAIT_SECONDS + 1  # slack_sdk adds up to one second

    assert longest <= ATTEMPT_LIMIT.total_seconds() / 2


@pytest.mark.parametrize(
    ("broken", "repaired", "remedy"),
    [
        ({"is_member": False}, {"is_member": True}, "invite the bot"),
        ({"token": "xoxb-other"}, {"token": TOKEN}, "SLACK_BOT_TOKEN is not valid"),
        ({"scopes": set()}, {"scopes": {"chat:write"}}, "add the scopes chat:write and channels:history"),
        ({"channel": "C0OTHER"}, {"channel": "C0DIGEST"}, "set HEADROOM_SLACK_CHANNEL"),
    ],
    ids=["not_in_channel", "invalid_auth", "missing_scope", "channel_not_found"],
)
def test_refusal_names_its_remedy_and_is_sent_once_when_repaired(
    desk: Desk, broken: dict[str, Any], repaired: dict[str, Any], remedy: str
) -> None:
    vars(desk.slack).update(broken)
    with pytest.raises(RefusedError, match=remedy) as refusal:
        desk.deliver()
    assert desk.state() is State.FAILED
    assert TOKEN not in str(refusal.value)
    vars(desk.slack).update(repaired)

    assert desk.deliver().state is State.SENT
    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}


@pytest.mark.parametrize("code", ["account_inactive", "token_revoked", "not_authed"])
def test_refusal_names_its_remedy_when_slack_names_the_code(desk: Desk, code: str) -> None:
    desk.slack.then(refused(code))
    with pytest.raises(RefusedError, match=f"'{code}' for channel C0DIGEST: .* token"):
        desk.deliver()


def test_refusal_says_where_to_look_when_its_code_is_unknown(desk: Desk) -> None:
    desk.slack.then(refused("is_archived"))
    with pytest.raises(RefusedError, match=r"'is_archived' .* look the code up"):
        desk.deliver()


def test_message_is_not_posted_again_when_the_history_cannot_be_read(desk: Desk) -> None:
    desk.slack.then(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.wait_a_minute()
    desk.slack.scopes = {"chat:write"}
    with pytest.raises(RefusedError, match="channels:history"):
        desk.deliver()
    desk.slack.scopes |= {"channels:history"}
    for fault in (LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE):
        desk.slack.then(fault)
        with pytest.raises(InDoubtError, match="could not be looked up"):
            desk.deliver()
    assert desk.state() is State.SENDING

    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}


def test_message_is_found_on_a_later_page_of_the_history(desk: Desk) -> None:
    desk.slack.then(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    for number in range(7):
        desk.slack.post(f"chatter {number}", {"event_type": "headroom_delivery", "event_payload": {"key": "another"}})
    desk.slack.post("of a person")
    desk.slack.page_size = 3

    assert desk.deliver().state is State.SENT
    assert desk.slack.methods() == ["chat.postMessage", *["conversations.history"] * 3]
    assert desk.slack.counts()[KEY] == 1


@pytest.mark.parametrize("hours", [-3, 3])
def test_message_is_found_when_our_clock_differs_from_slacks(desk: Desk, hours: int) -> None:
    desk.now += timedelta(hours=hours)
    desk.slack.then(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()

    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}


def test_nothing_is_looked_up_when_nothing_was_attempted(desk: Desk) -> None:
    delivery = desk.ledger.delivery(KEY)

    assert delivery
    assert desk.channel.find(delivery) is None
    assert not desk.slack.requests


@pytest.mark.parametrize("fault", [LOST_AFTER, ERROR_AFTER, CUT_OFF_AFTER, GARBLED_AFTER, PORTAL_BEFORE], ids=str)
def test_token_is_in_no_error(
    desk: Desk, fault: Fault, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    desk.slack.then(fault)
    with pytest.raises(InDoubtError) as doubt:
        desk.deliver()

    assert TOKEN not in f"{doubt.value!r} {caplog.text} {''.join(capfd.readouterr())}"


@pytest.mark.parametrize("token", ["xoxb-1234\n5678", "xoxb 1234", "", "xoxb-é"])
def test_token_is_refused_and_not_shown_when_it_cannot_be_sent(token: str) -> None:
    with pytest.raises(ValueError, match="SLACK_BOT_TOKEN") as error:
        SlackChannel(token, "C0DIGEST")

    assert not token or token not in str(error.value)


def test_token_may_end_in_a_line_break(slack: FakeSlack, tmp_path: Path) -> None:
    desk = Desk(tmp_path, slack)
    desk.channel = SlackChannel(f"{TOKEN}\n", slack.channel, slack.url.rstrip("/"))

    assert desk.deliver().state is State.SENT
    desk.ledger.close()


@pytest.mark.parametrize("name", ["<!channel>", "<https://x.example|y>", "*b* _i_ ~s~ `c`", "R&D &amp; co", "acct_123"])
def test_name_reads_as_it_is_and_has_no_effect(desk: Desk, name: str) -> None:
    message = digest_message(make_digest(headline=f"First to call: {name}.", name=name, owner=name))
    desk.prepare(message, "names")
    desk.deliver("names")

    [posted] = desk.slack.messages
    assert {kind for block in posted["blocks"] for kind in _kinds(block)} == {"plain_text"}
    section = posted["blocks"][2]["text"]["text"]
    assert section.startswith(f"{name} · warm · ")
    assert f" · {name}\n" in section
    # outside of blocks Slack unescapes these three, and looks for mentions between < and >
    assert "<" not in posted["text"]
    readable = posted["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert readable == f"First to call: {name}."


def _kinds(block: dict[str, Any]) -> list[str]:
    return [text["type"] for text in block.get("elements", [block.get("text")])]


@pytest.mark.parametrize("name", ["Acme", "<&>" * 200, "🦊" * 300, "株式会社" * 100, "a\nb"], ids=range(5))
def test_every_account_is_drawn_or_counted_when_there_are_200(desk: Desk, name: str) -> None:
    message = digest_message(make_digest(200, headline=f"First to call: {name}.", name=name, owner=name))
    desk.prepare(message, "many")

    assert desk.deliver("many").state is State.SENT  # the fake has Slack's limits
    *_, last, footer = desk.slack.messages[0]["blocks"]
    drawn = [block for block in message["blocks"] if block["type"] == "section"][1:-1]
    assert 2 <= len(drawn) <= 40
    assert last["text"]["text"].startswith(f"… and {200 - len(drawn)} more: ")
    assert footer["elements"][0]["text"] == " · ".join(FOOTER)
    assert len(json.dumps(message["blocks"])) < 11_000


def test_ordinary_names_leave_room_for_thirty_accounts() -> None:
    blocks = digest_message(make_digest(30))["blocks"]

    assert len(blocks) == 3 + 30
    assert "more:" not in json.dumps(blocks)


def test_digest_draws_every_figure_of_an_account() -> None:
    text = digest_message(make_digest())["blocks"][2]["text"]["text"]

    assert text == (
        "Acme · warm · 83,801 / 100,000 (83.8 %) · hits cap: Tue 24 Nov · projected 145,000 · MRR 45.57"
        " · dana.reyes@example.com\n▃▃█████▃▃████▅"
    )


def test_digest_leaves_out_the_revenue_when_it_is_unknown() -> None:
    assert "MRR" not in digest_message(make_digest(mrr=""))["blocks"][2]["text"]["text"]


def test_quiet_day_says_so(desk: Desk) -> None:
    quiet = "No account crossed a threshold since the last digest."
    desk.prepare(digest_message(make_digest(0, headline=quiet)), "quiet")

    assert desk.deliver("quiet").state is State.SENT
    [message] = desk.slack.messages
    header, headline, footer = message["blocks"]
    assert message["text"] == headline["text"]["text"] == quiet
    assert header["text"]["text"] == "Usage digest 2026-11-20"
    assert footer["elements"][0]["text"] == " · ".join(FOOTER)


def test_text_without_blocks_is_posted(desk: Desk) -> None:
    desk.prepare({"text": "Headroom's daily_job failed: <!here> & co"}, "alert")

    assert desk.deliver("alert").state is State.SENT
    assert desk.slack.messages[0]["text"] == "Headroom's daily_job failed: &lt;!here&gt; &amp; co"
