"""The real slack_sdk against a loopback Slack: what stands in the channel after failures, and how it reads there."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from orchestration.channels.slack import channel as channels
from orchestration.channels.slack import short_wait
from orchestration.channels.slack.blocks import digest_message, message_text
from orchestration.channels.slack.channel import SlackChannel
from orchestration.channels.slack.files import chart_file
from orchestration.ledger.ledger import Delivery, Ledger, State
from orchestration.ledger.outbox import ATTEMPT_LIMIT, DOUBT_WINDOW, InDoubtError, RefusedError, deliver, deliver_parts
from orchestration.messages.picture import picture
from tests.fakes.slack import (
    CUT_OFF_AFTER,
    ERROR_AFTER,
    ERROR_BEFORE,
    GARBLED_AFTER,
    LOST_AFTER,
    LOST_BEFORE,
    PORTAL_BEFORE,
    UPLOAD,
    FakeSlack,
    Fault,
    rate_limited,
    refused,
)
from tests.support.builders import CHART, NOW, make_digest

KEY = "local|digest|2026-11-20"
TOKEN = "xoxb-1234-very-secret"


def make_message(**fields: Any) -> dict[str, Any]:
    return digest_message(make_digest(**fields), {})[0]


class Desk:
    """A ledger with one prepared message, the channel, and a clock that tests move."""

    def __init__(self, folder: Path, slack: FakeSlack) -> None:
        self.slack, self.now = slack, datetime.now(UTC)
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
        self.channel = SlackChannel(TOKEN, {"sales": slack.channel}, slack.url)
        self.prepare(make_message())

    def prepare(self, message: dict[str, Any], key: str = KEY, replies: Sequence[dict[str, Any]] = ()) -> None:
        with self.ledger.transaction() as connection:
            self.ledger.prepare(connection, key, "slack", {"message": message}, NOW, replies)

    def deliver(self, key: str = KEY) -> Delivery:
        return deliver(self.ledger, key, self.channel, lambda: self.now)

    def deliver_parts(self, key: str = "digest") -> None:
        deliver_parts(self.ledger, key, self.channel, lambda: self.now)

    def state(self) -> State:
        delivery = self.ledger.delivery(KEY)
        assert delivery
        return delivery.state

    def wait_for_the_doubt_to_end(self) -> None:
        self.now += DOUBT_WINDOW


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
    assert message["blocks"] == make_message()["blocks"]
    assert message["metadata"] == {"event_type": "headroom_delivery", "event_payload": {"key": KEY}}
    assert delivery == again
    assert (delivery.state, delivery.receipt) == (State.SENT, f"C0DIGEST/{message['ts']}")
    [_, (_, arguments)] = desk.slack.requests
    assert arguments["unfurl_links"] is arguments["unfurl_media"] is arguments["mrkdwn"] is False


def test_link_to_this_run_leads_to_the_run_that_sends(desk: Desk) -> None:
    address = "https://dagster.example.com/runs/"
    decided, sends = "3e1c1f7e-0d57-4d35-9f4b-0f6e7b0c5d11", "a81b2c9d-77f0-4f0e-8a53-5f5a4c3b2a10"
    payload = {"run_id": decided, "message": {"text": "1 account", "blocks": [make_link(f"{address}{decided}")]}}
    with desk.ledger.transaction() as connection:
        desk.ledger.prepare(connection, "linked", "slack", payload, NOW)
    desk.channel = SlackChannel(TOKEN, {"sales": desk.slack.channel}, desk.slack.url, run_id=sends)

    desk.deliver("linked")

    [message] = desk.slack.messages
    assert message["blocks"] == [make_link(f"{address}{sends}")]
    stored = desk.ledger.delivery("linked")
    assert stored
    assert stored.payload == payload  # as it was decided


def make_link(url: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": f"<{url}|this run>"}]}


@pytest.mark.parametrize("fault", [LOST_AFTER, ERROR_AFTER, CUT_OFF_AFTER, GARBLED_AFTER], ids=str)
def test_message_is_found_again_when_its_answer_was_lost(desk: Desk, fault: Fault) -> None:
    desk.slack.then(fault)
    with pytest.raises(InDoubtError, match="the next run looks before it posts again"):
        desk.deliver()
    assert desk.state() is State.SENDING

    delivery = desk.deliver()

    assert desk.slack.counts() == {KEY: 1}
    assert (delivery.state, delivery.receipt) == (State.SENT, f"C0DIGEST/{desk.slack.messages[0]['ts']}")
    assert desk.slack.methods() == ["conversations.info", "chat.postMessage", "conversations.history"]


@pytest.mark.parametrize(
    "fault", [LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE, refused("internal_error"), refused("fatal_error")], ids=str
)
def test_message_is_posted_five_minutes_later_when_it_was_lost_on_its_way(desk: Desk, fault: Fault) -> None:
    desk.slack.then(fault)
    for _ in range(2):  # at once, and again while the first attempt could still be under way
        with pytest.raises(InDoubtError):
            desk.deliver()
        assert desk.state() is State.SENDING
        assert not desk.slack.messages
    desk.wait_for_the_doubt_to_end()

    assert desk.deliver().state is State.SENT
    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}


def test_message_is_posted_once_when_slack_asks_to_wait(desk: Desk) -> None:
    desk.slack.then(rate_limited(0))

    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}
    assert desk.slack.methods() == ["conversations.info", *["chat.postMessage"] * 2]


def test_message_is_posted_when_as_many_seconds_are_over_as_slack_asks_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("slack_sdk.http_retry.builtin_handlers.time.sleep", waits.append)
    desk.slack.then(rate_limited(7))

    assert desk.deliver().state is State.SENT
    assert [int(wait) for wait in waits] == [7]
    assert desk.slack.counts() == {KEY: 1}


@pytest.mark.parametrize("faults", [[rate_limited(0)] * 2, [rate_limited(short_wait.MAX_WAIT_SECONDS + 1)]], ids=str)
def test_rate_limit_is_a_refusal_when_waiting_does_not_help(desk: Desk, faults: list[Fault]) -> None:
    desk.slack.then(*faults)
    with pytest.raises(RefusedError, match="Run again in a minute"):
        desk.deliver()
    assert desk.state() is State.FAILED
    assert desk.slack.methods().count("chat.postMessage") == len(faults)

    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}


def test_attempt_ends_within_half_of_the_time_before_another_may_start() -> None:
    longest = 2 * channels.TIMEOUT_SECONDS + short_wait.MAX_WAIT_SECONDS + 1  # slack_sdk adds up to one second

    assert longest <= ATTEMPT_LIMIT.total_seconds() / 2


@pytest.mark.parametrize(
    ("broken", "repaired", "remedy"),
    [
        ({"is_member": False}, {"is_member": True}, "invite the bot"),
        ({"token": "xoxb-other"}, {"token": TOKEN}, "SLACK_BOT_TOKEN is not valid"),
        ({"scopes": {"channels:read"}}, {"scopes": {"channels:read", "chat:write"}}, "add the scope chat:write to the"),
        ({"scopes": {"chat:write"}}, {"scopes": {"channels:read", "chat:write"}}, "add the scope channels:read to the"),
        ({"channels": {}}, {"channels": {"C0DIGEST": {}}}, "set HEADROOM_SLACK_CHANNEL"),
    ],
    ids=["not_in_channel", "invalid_auth", "missing_scope", "missing_scope of the check", "channel_not_found"],
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
    desk.slack.then(refused("some_new_code"))
    with pytest.raises(RefusedError, match=r"'some_new_code' .* look the code up"):
        desk.deliver()


def test_message_is_not_posted_again_when_the_history_cannot_be_read(desk: Desk) -> None:
    desk.slack.then(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.wait_for_the_doubt_to_end()
    desk.slack.scopes -= {"channels:history"}
    with pytest.raises(RefusedError, match="channels:history"):
        desk.deliver()
    desk.slack.scopes |= {"channels:history"}
    for fault in (LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE):
        desk.slack.then(fault, method="conversations.history")
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
    assert desk.slack.methods() == ["conversations.info", "chat.postMessage", *["conversations.history"] * 3]
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
        SlackChannel(token, {"sales": "C0DIGEST"})

    assert not token or token not in str(error.value)


def test_token_may_end_in_a_line_break(slack: FakeSlack, tmp_path: Path) -> None:
    desk = Desk(tmp_path, slack)
    desk.channel = SlackChannel(f"{TOKEN}\n", {"sales": slack.channel}, slack.url.rstrip("/"))

    assert desk.deliver().state is State.SENT
    desk.ledger.close()


@pytest.mark.parametrize("name", ["<!channel>", "<https://x.example|y>", "*b* _i_ ~s~ `c`", "R&D &amp; co", "acct_123"])
def test_name_reads_as_it_is_and_has_no_effect(desk: Desk, name: str) -> None:
    message = make_message(headline=f"First to call: {name}.", name=name, todo=f"{name}: call")
    desk.prepare(message, "names")
    desk.deliver("names")

    [posted] = desk.slack.messages
    kinds = {"header", "rich_text", "rich_text_section", "rich_text_list", "context", "plain_text", "text"}
    assert set(re.findall(r"'type': '([a-z_]+)'", str(posted["blocks"]))) == kinds
    [line] = [line for line in message_text(posted).splitlines() if line.startswith("1. ")]
    assert line.startswith(f"1. {name} · 83 k / 100 k")
    assert line.endswith(f" · {name}: call")
    # outside of blocks Slack unescapes these three, and looks for mentions between < and >
    assert "<" not in posted["text"]
    readable = posted["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert readable == f"First to call: {name}."


# Threads and files

FILE = {"name": "usage-digest-local-2026-11-20.csv", "title": "All accounts", "content": "account_id\r\nÄrzte\r\n"}
REPLIES = [{"message": {"text": "one"}}, {"message": {"text": "two"}}, {"file": FILE}]


@pytest.fixture
def thread(desk: Desk) -> Desk:
    """A digest with two messages and a file as replies, itself sent."""
    desk.prepare(make_message(), "digest", REPLIES)
    desk.deliver("digest")
    return desk


def replies(desk: Desk) -> list[str]:
    """What stands in the thread, in order."""
    [message] = desk.slack.messages
    shown = desk.slack.threads.get(message["ts"], [])
    return [reply["text"] or reply["files"][0]["name"] for reply in shown]


IN_ORDER = ["one", "two", FILE["name"]]


def test_replies_stand_in_the_thread_once_and_in_order(thread: Desk) -> None:
    for _ in range(2):
        thread.deliver_parts()

    assert replies(thread) == IN_ORDER
    assert thread.slack.counts() == {"digest": 1, "digest:1": 1, "digest:2": 1, FILE["name"]: 1}
    [upload] = thread.slack.uploads.values()
    assert upload["content"].decode() == FILE["content"]


def test_picture_arrives_byte_for_byte_with_a_text_for_screen_readers(desk: Desk) -> None:
    file = chart_file("acme.png", {**CHART, "name": "<!channel>"})
    desk.prepare(make_message(), "digest", [{"file": file}])
    desk.deliver("digest")
    desk.deliver_parts()

    [upload] = desk.slack.uploads.values()
    assert upload["content"] == picture(CHART)
    assert upload["alt"] == (
        "<!channel>. 40 of 100 used after 3 of 30 days. Projected at the end of the period: 145, between 130 and 160."
    )


REPLY_METHODS = ["chat.postMessage", "files.getUploadURLExternal", UPLOAD, "files.completeUploadExternal"]


@pytest.mark.parametrize("method", REPLY_METHODS)
@pytest.mark.parametrize("fault", [LOST_AFTER, ERROR_AFTER, LOST_BEFORE, ERROR_BEFORE], ids=str)
def test_reply_arrives_once_and_in_order_when_a_request_is_lost(thread: Desk, method: str, fault: Fault) -> None:
    thread.slack.then(fault, method=method)
    with pytest.raises(InDoubtError):
        thread.deliver_parts()
    thread.wait_for_the_doubt_to_end()

    thread.deliver_parts()

    assert replies(thread) == IN_ORDER


def test_failed_upload_leaves_no_connection_open(thread: Desk) -> None:
    thread.slack.then(ERROR_BEFORE, method=UPLOAD)
    with pytest.raises(InDoubtError) as raised:
        thread.deliver_parts()

    answer = raised.value.__context__
    assert isinstance(answer, HTTPError)
    assert answer.closed


def test_file_is_found_in_the_thread_at_once_when_its_answer_was_lost(thread: Desk) -> None:
    thread.slack.then(LOST_AFTER, method="files.completeUploadExternal")
    with pytest.raises(InDoubtError):
        thread.deliver_parts()
    thread.slack.page_size = 1

    thread.deliver_parts()

    assert replies(thread) == IN_ORDER
    assert {part.state for part in thread.ledger.parts("digest")} == {State.SENT}


def test_thread_goes_on_in_the_middle_when_slack_takes_no_more_messages(thread: Desk) -> None:
    thread.slack.room["C0DIGEST"] = 1
    with pytest.raises(RefusedError, match="ratelimited"):
        thread.deliver_parts()
    assert replies(thread) == ["one"]
    thread.slack.room.clear()

    thread.deliver_parts()

    assert replies(thread) == IN_ORDER


def test_file_is_left_out_when_the_workspace_forbids_it(desk: Desk) -> None:
    parts = [{"file": FILE}, {"message": {"text": "after it"}}]
    desk.prepare(make_message(), "digest", parts)
    desk.deliver("digest")
    desk.slack.then(refused("file_uploads_disabled"), method="files.getUploadURLExternal")
    desk.deliver_parts()

    assert replies(desk) == ["after it"]
    file, reply = desk.ledger.parts("digest")
    assert (file.state, reply.state) == (State.GIVEN_UP, State.SENT)
    assert file.error == (
        "the workspace forbids this file (file_uploads_disabled): HEADROOM_SLACK_FILES=off leaves files out"
    )
    before = desk.slack.counts()
    desk.deliver_parts()
    assert desk.slack.counts() == before


def test_thread_is_complete_but_for_the_file_when_the_scope_is_missing(thread: Desk) -> None:
    thread.slack.scopes -= {"files:write"}
    with pytest.raises(RefusedError, match="add the scope files:write"):
        thread.deliver_parts()
    assert replies(thread) == ["one", "two"]
    thread.slack.scopes |= {"files:write"}

    thread.deliver_parts()

    assert replies(thread) == IN_ORDER


def test_reply_is_refused_when_somebody_deleted_the_message(thread: Desk) -> None:
    thread.slack.messages.clear()
    with pytest.raises(RefusedError, match="was deleted"):
        thread.deliver_parts()


def test_upload_ends_within_half_of_the_time_before_another_may_start() -> None:
    assert ATTEMPT_LIMIT.total_seconds() / 2 >= 3 * channels.UPLOAD_SECONDS


# Which channel


def test_message_goes_to_the_channel_of_its_audience(desk: Desk) -> None:
    desk.slack.channels["C0DATA"] = {}
    desk.channel = SlackChannel(TOKEN, {"sales": "C0DIGEST", "data": "C0DATA"}, desk.slack.url)
    with desk.ledger.transaction() as connection:
        payload = {"audience": "data", "message": {"text": "failed"}}
        desk.ledger.prepare(connection, "alert", "slack", payload, NOW, [{"message": {"text": "why"}}])

    desk.deliver("alert")
    desk.deliver_parts("alert")

    [message] = desk.slack.messages
    [reply] = desk.slack.threads[message["ts"]]
    assert message["channel"] == reply["channel"] == "C0DATA"


def test_message_in_doubt_is_found_in_its_channel_when_the_setting_changed(desk: Desk) -> None:
    desk.slack.channels["C0NEW"] = {}
    desk.slack.then(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.channel = SlackChannel(TOKEN, {"sales": "C0NEW"}, desk.slack.url)
    desk.wait_for_the_doubt_to_end()

    assert desk.deliver().state is State.SENT
    assert desk.slack.counts() == {KEY: 1}


def test_channel_that_is_not_allowed_is_refused_before_slack_is_asked(desk: Desk) -> None:
    desk.channel = SlackChannel(TOKEN, {"sales": "C0DIGEST"}, desk.slack.url, allowed=["C0OTHER"])
    with pytest.raises(RefusedError, match="C0DIGEST is not among HEADROOM_SLACK_ALLOWED_CHANNELS"):
        desk.deliver()
    assert desk.state() is State.FAILED
    assert desk.slack.requests == []

    desk.channel = SlackChannel(TOKEN, {"sales": "C0DIGEST"}, desk.slack.url, allowed=["C0OTHER", "C0DIGEST"])
    assert desk.deliver().state is State.SENT


@pytest.mark.parametrize(
    "info", [{"is_ext_shared": True, "is_shared": True}, {"is_pending_ext_shared": True}, {"is_shared": True}], ids=str
)
def test_channel_that_another_company_reads_is_refused_unless_it_is_listed(desk: Desk, info: dict[str, bool]) -> None:
    desk.slack.channels["C0DIGEST"] = info
    with pytest.raises(RefusedError, match="HEADROOM_SLACK_SHARED_CHANNELS"):
        desk.deliver()
    assert desk.state() is State.FAILED
    assert desk.slack.messages == []

    desk.channel = SlackChannel(TOKEN, {"sales": "C0DIGEST"}, desk.slack.url, shared=["C0DIGEST"])
    assert desk.deliver().state is State.SENT


def test_channel_shared_by_workspaces_of_one_company_is_posted_to(desk: Desk) -> None:
    desk.slack.channels["C0DIGEST"] = {"is_shared": True, "is_org_shared": True, "is_ext_shared": False}

    assert desk.deliver().state is State.SENT


@pytest.mark.parametrize("fault", [LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE], ids=str)
def test_nothing_is_sent_when_it_is_not_known_who_reads_the_channel(desk: Desk, fault: Fault) -> None:
    desk.slack.then(fault, method="conversations.info")
    with pytest.raises(RefusedError, match="nothing was sent"):
        desk.deliver()
    assert desk.state() is State.FAILED
    assert desk.slack.methods() == ["conversations.info"]

    assert desk.deliver().state is State.SENT


# Users


def test_user_is_found_by_the_address(desk: Desk) -> None:
    desk.slack.users["dana@example.com"] = "U0DANA"

    assert desk.channel.user_id("dana@example.com") == "U0DANA"
    assert desk.channel.user_id("gone@example.com") is None


def test_user_id_is_none_when_it_could_carry_markup(desk: Desk) -> None:
    desk.slack.users["dana@example.com"] = "U0DANA> <!channel"

    assert desk.channel.user_id("dana@example.com") is None


@pytest.mark.parametrize(
    "fault", [LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE, refused("missing_scope"), rate_limited(60)], ids=str
)
def test_user_lookup_that_fails_is_a_refusal(desk: Desk, fault: Fault) -> None:
    desk.slack.then(fault, method="users.lookupByEmail")
    with pytest.raises(RefusedError):
        desk.channel.user_id("dana@example.com")


# The check


def problems(desk: Desk) -> dict[str, str]:
    """What the check finds to be wrong, by subject."""
    return {finding.subject: finding.problem for finding in desk.channel.check() if finding.problem}


def test_check_finds_nothing_and_posts_nothing_when_all_is_well(desk: Desk) -> None:
    findings = desk.channel.check()

    assert [finding.subject for finding in findings] == [
        "token of headroom at Example",
        *(f"scope {scope}" for scope in channels.SCOPES),
        "channel C0DIGEST (sales)",
    ]
    assert not any(finding.problem for finding in findings)
    assert desk.slack.methods() == ["auth.test", "conversations.info"]


def test_check_asks_nothing_more_when_the_token_is_wrong(desk: Desk) -> None:
    desk.slack.token = "xoxb-other"
    [finding] = desk.channel.check()

    assert finding.subject == "token"
    assert "SLACK_BOT_TOKEN is not valid" in finding.problem
    assert TOKEN not in finding.problem


def test_check_names_the_scopes_that_are_missing_and_what_for(desk: Desk) -> None:
    desk.slack.scopes -= {"files:write", "users:read.email"}
    found = {finding.subject: finding for finding in desk.channel.check() if finding.problem}

    assert set(found) == {"scope files:write", "scope users:read.email"}
    assert "table of all accounts" in found["scope files:write"].problem
    assert found["scope files:write"].is_needed
    assert not found["scope users:read.email"].is_needed


@pytest.mark.parametrize(
    ("info", "remedy"),
    [
        ({"is_member": False}, "/invite"),
        ({"is_archived": True}, "unarchive"),
        ({"is_ext_shared": True}, "HEADROOM_SLACK_SHARED_CHANNELS"),
        ({"is_private": True}, "add the scope groups:history"),
    ],
    ids=str,
)
def test_check_says_what_to_do_about_a_channel(desk: Desk, info: dict[str, bool], remedy: str) -> None:
    desk.slack.channels["C0DIGEST"] = info

    [(subject, problem)] = problems(desk).items()
    assert subject == "channel C0DIGEST (sales)"
    assert remedy in problem


def test_check_looks_at_each_channel_once_and_names_its_audiences(desk: Desk) -> None:
    desk.slack.channels["C0DATA"] = {}
    rooms = {"sales": "C0DIGEST", "cs": "C0DIGEST", "data": "C0DATA", "engineering": "C0GONE"}
    desk.channel = SlackChannel(TOKEN, rooms, desk.slack.url, allowed=["C0DIGEST", "C0GONE"])

    found = problems(desk)

    assert set(found) == {"channel C0DATA (data)", "channel C0GONE (engineering)"}
    assert "HEADROOM_SLACK_ALLOWED_CHANNELS" in found["channel C0DATA (data)"]
    assert "channel_not_found" in found["channel C0GONE (engineering)"]
    assert desk.slack.methods().count("conversations.info") == 3


def test_check_says_so_when_slack_does_not_answer(desk: Desk) -> None:
    desk.slack.then(LOST_BEFORE, method="conversations.info")

    [problem] = problems(desk).values()
    assert "no usable answer" in problem


def test_text_without_blocks_is_posted(desk: Desk) -> None:
    desk.prepare({"text": "Headroom's daily_job failed: <!here> & co"}, "alert")

    assert desk.deliver("alert").state is State.SENT
    assert desk.slack.messages[0]["text"] == "Headroom's daily_job failed: &lt;!here&gt; &amp; co"
