"""`headroom deliveries`: the exits that people have when a message cannot be sent, on the real slack_sdk."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration import settings
from orchestration.channels.slack import channel as slack_channel
from orchestration.cli import deliveries as commands
from orchestration.cli import doctor_deliveries
from orchestration.cli.main import app
from orchestration.ledger import exits
from orchestration.ledger.exits import Decision
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import DOUBT_WINDOW, InDoubtError, RefusedError, deliver, deliver_parts
from tests.fakes.slack import LOST_AFTER, LOST_BEFORE, FakeSlack
from tests.support import ledgers
from tests.support.builders import NOW

KEY = "local|digest|2026-11-20"
PARTS = [KEY, f"{KEY}:1", f"{KEY}:2"]


class Desk:
    """A digest of two replies, one of them a file, and a clock that tests move."""

    def __init__(self, slack: FakeSlack, patch: pytest.MonkeyPatch) -> None:
        self.slack, self.now, self._patch = slack, NOW, patch
        slack.clock = lambda: self.now.timestamp()
        patch.setattr(commands, "_clock", self.clock)
        self.ledger = Ledger(settings.load().ledger_url)
        message = {"audience": "sales", "message": {"text": "1 account crossed 80 %."}}
        file = {"name": "usage.csv", "title": "All accounts", "content": "account_id\n"}
        with self.ledger.transaction() as connection:
            replies = [{"message": {"text": "a draft"}}, {"file": file}]
            self.ledger.prepare(connection, KEY, "slack", message, NOW, replies)

    def clock(self) -> datetime:
        return self.now

    def send(self) -> None:
        channel = slack_channel.configured(settings.load())
        assert channel
        deliver(self.ledger, KEY, channel, self.clock)
        deliver_parts(self.ledger, KEY, channel, self.clock)

    def leave_in_doubt(self, *, did_arrive: bool) -> None:
        self.slack.then(LOST_AFTER if did_arrive else LOST_BEFORE)
        with pytest.raises(InDoubtError):
            self.send()
        self.now += DOUBT_WINDOW

    def replace_channel(self) -> None:
        """The old one is gone; there is a new one."""
        self.slack.channels = {"C0NEW": {}}
        self._patch.setenv("HEADROOM_SLACK_CHANNEL", "C0NEW")

    def states(self) -> list[str]:
        return [str(delivery.state) for delivery in map(self.ledger.delivery, PARTS) if delivery]


@pytest.fixture
def desk(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    (data / "ledger.sqlite").write_bytes(ledgers.empty())
    with FakeSlack() as slack:
        monkeypatch.setenv("SLACK_BOT_TOKEN", slack.token)
        monkeypatch.setenv("SLACK_API_URL", slack.url)
        monkeypatch.setenv("HEADROOM_SLACK_CHANNEL", slack.channel)
        desk = Desk(slack, monkeypatch)
        yield desk
        desk.ledger.close()


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["deliveries", *arguments])
    return result.exit_code, " ".join(result.output.split())


# A channel that is gone


def test_digest_in_doubt_waits_for_people_when_its_channel_is_gone(desk: Desk) -> None:
    desk.leave_in_doubt(did_arrive=False)
    desk.replace_channel()

    for _ in range(3):
        with pytest.raises(RefusedError, match="channel_not_found"):
            desk.send()
        desk.now += timedelta(days=1)

    assert not desk.slack.messages
    status, said = run()
    assert status == 0
    assert f"Waiting: {KEY}: in doubt since Fri 20 Nov 08:00 UTC: it may have arrived. Slack refused" in said
    assert "for channel C0DIGEST" in said
    assert "`headroom deliveries resend KEY` sends a message to the channel that is set now" in said


def test_doctor_lists_what_waits_and_what_people_can_do(desk: Desk) -> None:
    desk.leave_in_doubt(did_arrive=False)
    desk.replace_channel()
    with pytest.raises(RefusedError):
        desk.send()

    alerts, waits, exits_ = doctor_deliveries.examine(settings.load(), True)

    assert "set HEADROOM_SLACK_CHANNEL_DATA" in alerts.problem
    assert waits.problem.startswith(f"{KEY}: in doubt since Fri 20 Nov 08:00 UTC")
    assert "resend KEY" in exits_.subject
    assert not (waits.is_needed or exits_.problem)
    run("give-up", KEY, "--note", "the channel is gone")
    assert [finding.subject for finding in doctor_deliveries.examine(settings.load(), True)] == ["alerts"]


def test_resend_posts_message_and_replies_once_where_the_channel_is_now(desk: Desk) -> None:
    desk.leave_in_doubt(did_arrive=False)
    desk.replace_channel()

    status, said = run("resend", KEY, "--note", "#old-sales was deleted")
    desk.send()

    assert (status, said) == (0, f"{KEY}: sent with 2 replies (C0NEW/{desk.slack.messages[0]['ts']}).")
    assert [message["channel"] for message in desk.slack.messages] == ["C0NEW"]
    assert desk.states() == ["sent"] * 3
    assert set(desk.slack.counts().values()) == {1}


def test_resend_of_a_reply_whose_parent_was_deleted_needs_the_parent(desk: Desk) -> None:
    desk.slack.scopes -= {"files:write"}
    with pytest.raises(RefusedError):
        desk.send()
    desk.slack.clear()  # somebody deleted the message
    desk.slack.scopes |= {"files:write"}
    with pytest.raises(RefusedError, match="the message that it replies to was deleted"):
        desk.send()

    assert run("resend", KEY, "--note", "somebody deleted it")[0] == 0

    assert desk.states() == ["sent"] * 3
    [parent] = desk.slack.messages
    assert len(desk.slack.threads[parent["ts"]]) == 2


# A wrong channel


def test_message_sent_once_more_is_not_taken_for_the_one_before(desk: Desk) -> None:
    desk.send()
    desk.slack.then(LOST_BEFORE)
    status, said = run("resend", KEY, "--note", "the first was in the wrong thread")
    assert status == 1
    assert "the next run sends" in said
    desk.now += DOUBT_WINDOW

    desk.send()
    desk.send()

    assert desk.states() == ["sent"] * 3
    marks = [KEY, f"{KEY}#1", f"{KEY}:1", f"{KEY}:1#1", "usage.csv", "usage-2.csv"]
    assert desk.slack.counts() == dict.fromkeys(marks, 1)


@pytest.mark.parametrize("decision", ["give-up", "settle"])
def test_what_was_sent_can_only_be_sent_once_more(desk: Desk, decision: str) -> None:
    desk.send()

    status, said = run(decision, KEY, "--note", "by mistake")

    assert (status, desk.states()) == (1, ["sent"] * 3)
    assert "was sent: `headroom deliveries resend` sends it once more" in said


# Enough of it


def test_message_that_was_given_up_is_never_sent_and_waits_no_more(desk: Desk) -> None:
    desk.slack.is_member = False
    with pytest.raises(RefusedError):
        desk.send()

    assert run("give-up", KEY, "--note", "of last week") == (
        0,
        f"{KEY}: given up, with 2 replies. Nothing is sent.",
    )

    desk.slack.is_member = True
    desk.send()
    assert (desk.slack.messages, desk.states()) == ([], ["given_up"] * 3)
    assert desk.ledger.waiting("local|") == []
    assert "Waiting" not in run()[1]
    assert run("resend", KEY, "--note", "they want it after all")[0] == 0
    assert desk.states() == ["sent"] * 3


def test_replies_alone_are_given_up_when_the_message_was_sent(desk: Desk) -> None:
    desk.slack.scopes -= {"files:write"}
    with pytest.raises(RefusedError):
        desk.send()

    assert run("give-up", f"{KEY}:2", "--note", "files are forbidden here")[0] == 0

    assert desk.states() == ["sent", "sent", "given_up"]
    assert desk.ledger.waiting("local|") == []


# Somebody has seen it


def test_settled_message_has_its_replies_below_the_link_that_was_given(desk: Desk) -> None:
    desk.leave_in_doubt(did_arrive=True)
    desk.slack.scopes -= {"channels:history"}
    with pytest.raises(RefusedError, match="missing_scope"):
        desk.send()
    [message] = desk.slack.messages
    link = f"https://example.slack.com/archives/C0DIGEST/p{message['ts'].replace('.', '')}"

    assert run("settle", KEY, "--note", "I see it", "--link", link) == (0, f"{KEY}: recorded as sent.")
    desk.send()

    assert desk.states() == ["sent"] * 3
    assert desk.slack.counts() == dict.fromkeys([KEY, f"{KEY}:1", "usage.csv"], 1)
    assert len(desk.slack.threads[message["ts"]]) == 2


def test_settled_message_without_a_link_has_no_replies(desk: Desk) -> None:
    desk.leave_in_doubt(did_arrive=True)

    assert run("settle", KEY, "--note", "Ingrid has seen it") == (0, f"{KEY}: recorded as sent. 2 replies given up.")

    desk.send()
    assert desk.states() == ["sent", "given_up", "given_up"]
    assert desk.slack.counts() == {KEY: 1}


# What is refused, and what is remembered


@pytest.mark.parametrize("decision", ["resend", "give-up", "settle"])
def test_decision_waits_while_an_attempt_may_be_under_way(desk: Desk, decision: str) -> None:
    delivery = desk.ledger.delivery(KEY)
    assert delivery
    desk.ledger.claim(delivery, desk.now, "C0DIGEST")
    desk.now += timedelta(seconds=59)

    status, said = run(decision, KEY, "--note", "impatient")

    assert (status, desk.states()[0]) == (1, "sending")
    assert "may be under way: wait a minute" in said
    assert not exits.decisions(desk.ledger, KEY)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["give-up", "local|digest|2026-11-21", "--note", "x"], "there is no delivery"),
        (["give-up", KEY, "--note", " "], "say why"),
        (["give-up", KEY], "Missing option '--note'"),
        (["settle", KEY, "--note", "x", "--link", "https://example.com/1"], "--link needs an address"),
    ],
)
def test_decision_without_a_message_or_a_reason_is_refused(desk: Desk, arguments: list[str], words: str) -> None:
    status, said = run(*arguments)

    assert status
    assert words in said
    assert desk.states() == ["prepared"] * 3


def test_decisions_are_kept_with_what_was_known_before(desk: Desk) -> None:
    desk.send()
    receipt = f"C0DIGEST/{desk.slack.messages[0]['ts']}"
    run("resend", KEY, "--note", "wrong channel")

    [decided] = exits.decisions(desk.ledger, KEY)

    assert (decided.decision, decided.note, decided.decided_at) == (Decision.RESEND, "wrong channel", NOW)
    assert (decided.state_before, decided.receipt_before) == (State.SENT, receipt)
    shown = CliRunner().invoke(app, ["deliveries", "--show", f"{KEY}:2"]).output
    assert "2026-11-20 08:00 UTC: resend, was sent" in shown


def test_run_that_read_before_a_resend_cannot_claim_after_it(desk: Desk) -> None:
    read = desk.ledger.delivery(KEY)
    assert read
    exits.resend(desk.ledger, KEY, "twice at once", desk.now)

    assert desk.ledger.claim(read, desk.now, "C0DIGEST") is None
