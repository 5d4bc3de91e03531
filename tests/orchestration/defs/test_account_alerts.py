"""Alerts of accounts by their routes: each once, whatever is pressed, killed or lost; none to a customer by accident.

The asset, the ledger, slack_sdk and its bytes are the real ones; Slack is on loopback, the marts are written by hand.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orchestration.channels.slack import channel as slack_module
from orchestration.cli.main import app
from orchestration.defs import account_alerts as alerts
from orchestration.defs.account_alerts import account_alerts
from orchestration.defs.automation import build_schedules
from orchestration.defs.resources import Project
from orchestration.defs.sending import Ways
from orchestration.ledger import ledger as ledger_module
from orchestration.ledger import routed
from orchestration.ledger.ledger import State
from orchestration.ledger.outbox import DOUBT_WINDOW
from orchestration.ledger.tables import deliveries, routed_crossings
from orchestration.settings import PROJECT_ROOT
from tests.fakes.email import FakeEmail
from tests.fakes.slack import LOST_AFTER, FakeSlack
from tests.orchestration.defs.installation import schedule_context
from tests.support import forks
from tests.support.notice_world import (
    NOON,
    Letterbox,
    make_notice_crossing,
    open_letterbox,
    publish,
    write_routes,
)
from tests.support.waiting import RUN_SECONDS

TEAM = """
[[route]]
name = "team"
takes = ["crossing", "limit_hit"]
channel = "slack"
to = "C0TEAM"
"""
CUSTOMERS = """
[[route]]
name = "customers"
takes = ["crossing", "limit_hit"]
channel = "email"
to_column = "contact_email"
"""
SENDING = CUSTOMERS + 'mode = "send"\nwhere = { segment = "smb" }\n'
KEY = "local|crossing|acme|api-calls|2026-11-01T00:00:00Z|1000000|80%|team"
LETTER = "local|crossing|acme|api-calls|2026-11-01T00:00:00Z|1000000|80%|customers/anna.smith@acme.example"
RUNNER = CliRunner()


@pytest.fixture
def slack(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        server.channels |= {"C0TEAM": {}, "C0ACME": {}, "C0BETA": {}}
        environment = {
            "SLACK_BOT_TOKEN": server.token,
            "SLACK_API_URL": server.url,
            "HEADROOM_SLACK_CHANNEL": server.channel,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def letterbox(data: Path, monkeypatch: pytest.MonkeyPatch) -> Letterbox:
    return open_letterbox(data, monkeypatch)


def run() -> str:
    """Materialize it: the outcome, or the sentence of the failure."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [account_alerts], instance=instance, resources={"project": Project()}, raise_on_error=False
        )
    if not result.success:
        data = result.all_node_events[-1].event_specific_data
        failure = getattr(data, "user_failure_data", None)
        return f"failed: {failure.description if failure else data}"
    [materialization] = result.asset_materializations_for_node(account_alerts.node_def.name)
    return str(materialization.metadata["outcome"].value)


def start(data: Path, routes: str) -> None:
    """The routes' first look, an hour before the crossings."""
    write_routes(data, routes)
    publish(data, as_of=NOON - timedelta(hours=2))
    run()


def recorded(*columns: str) -> list[tuple[Any, ...]]:
    query = sa.select(*(routed_crossings.c[name] for name in columns))
    with Project().ledger().reading() as connection:
        return sorted(tuple(row) for row in connection.execute(query))


def posted(slack: FakeSlack) -> Counter[str]:
    return Counter({key: count for key, count in slack.counts().items() if count})


# Once


def test_crossing_is_posted_once_however_often_it_is_materialized(data: Path, slack: FakeSlack) -> None:
    start(data, TEAM)
    publish(data, [make_notice_crossing(account_name="Acme")])

    assert [run() for _ in range(3)] == ["1 alert of this run, 0 drafts", "nothing new", "nothing new"]

    [message] = slack.messages
    assert message["text"].startswith("Acme crossed 80 % today 11:00")
    assert message["channel"] == "C0TEAM"
    assert posted(slack) == {KEY: 1}


def test_crossing_of_before_the_first_look_is_recorded_and_not_posted(data: Path, slack: FakeSlack) -> None:
    write_routes(data, TEAM)
    publish(data, [make_notice_crossing()])

    assert run() == "nothing new"

    assert recorded("route", "account_id", "threshold", "outcome", "message_key") == [
        ("team", "acme", "80%", "before_route", None)
    ]
    assert not slack.messages


def test_route_that_is_widened_announces_nothing_of_before(data: Path, slack: FakeSlack) -> None:
    start(data, TEAM + 'where = { plan = "pro" }\n')
    crossings = [make_notice_crossing(plan="team"), make_notice_crossing("b", plan="pro")]
    publish(data, crossings)
    run()
    write_routes(data, TEAM)

    assert run() == "nothing new"
    later = make_notice_crossing(threshold="95%", plan="team", crossed_at=NOON + timedelta(minutes=5))
    publish(data, [*crossings, later], as_of=NOON + timedelta(minutes=15))
    run()

    assert [key.split("|")[2] + key.split("|")[6] for key in posted(slack)] == ["b80%", "acme95%"]


def test_crossing_is_posted_once_by_each_route_when_two_runs_decide_it(data: Path, slack: FakeSlack) -> None:
    other = TEAM.replace('"team"', '"other"')
    start(data, TEAM + other)
    publish(data, [make_notice_crossing(str(each)) for each in range(5)])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: run(), range(2)))
    run()

    assert len(slack.messages) == 10
    assert set(posted(slack).values()) == {1}
    assert len(recorded("route", "account_id")) == 10


def test_crossing_is_posted_once_when_its_answer_is_lost(data: Path, slack: FakeSlack) -> None:
    start(data, TEAM)
    publish(data, [make_notice_crossing()])
    slack.then(LOST_AFTER)
    assert run().startswith(f"failed: {KEY}: ")
    slack.calm()

    assert run() == "nothing new"

    assert posted(slack) == {KEY: 1}


def test_refused_alert_holds_up_no_other_route_and_is_sent_later(
    data: Path, slack: FakeSlack, letterbox: Letterbox
) -> None:
    start(data, TEAM + SENDING)
    publish(data, [make_notice_crossing()])
    slack.is_member = False

    assert "invite the bot" in run()
    assert [letter["mark"] for letter in letterbox.letters] == [LETTER]
    slack.is_member = True
    run()

    assert posted(slack) == {KEY: 1}
    assert len(letterbox.letters) == 1


def test_outcomes_and_messages_are_there_together_or_not_at_all(
    data: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(data, TEAM)
    publish(data, [make_notice_crossing()])
    with monkeypatch.context() as context:
        context.setattr(routed, "record", lambda *_: 1 / 0)
        assert run().startswith("failed")
    assert (recorded("outcome"), slack.messages) == ([], [])

    run()

    assert posted(slack) == {KEY: 1}


def test_hits_are_posted_by_the_word_of_the_customers_system_and_once(data: Path, slack: FakeSlack) -> None:
    start(data, TEAM)
    below = make_notice_crossing(used=950_000, crossed_at=NOON - timedelta(hours=3))
    reported = [{"reached_at": NOON - timedelta(minutes=minutes)} for minutes in (5, 2)]
    old = {"account_id": "acme", "reached_at": datetime(2026, 10, 20, tzinfo=UTC)}
    publish(data, [below], [*reported, old, {"account_id": "stranger"}])
    run()
    full = make_notice_crossing(threshold="100%", used=1_000_000, crossed_at=NOON + timedelta(minutes=9))
    publish(data, [below, full], reported, as_of=NOON + timedelta(minutes=15))

    assert run() == "nothing new"

    [message] = slack.messages
    assert "reached its limit today 11:55, by its own system" in message["text"]
    assert list(posted(slack)) == ["local|limit_hit|acme|api-calls|2026-11-01T00:00:00Z|1000000|100%|team"]


def test_report_of_before_the_quota_was_raised_is_no_hit_of_the_new_one(data: Path, slack: FakeSlack) -> None:
    start(data, TEAM)
    raised = NOON - timedelta(minutes=1)
    calls = make_notice_crossing(used=100_000)
    unread = {"used_mtd": None, "pct_of_cap": None, "quota_since": raised}
    seats = make_notice_crossing(meter="seats", quota=50, **unread)
    at = {"reached_at": NOON - timedelta(minutes=5)}
    hits = [{**at, "quota": 500_000}, {**at, "meter": "seats", "quota": None}]
    publish(data, hits=hits, others=[calls, seats])
    assert run() == "nothing new"

    publish(data, hits=hits, others=[calls, {**seats, "quota_since": NOON - timedelta(days=2)}])
    assert run() == "1 alert of this run, 0 drafts"

    [message] = slack.messages
    assert message["text"].startswith("acme (seats) reached its limit today 11:55, by its own system: ? / 50 seats (–)")


def test_each_customer_has_its_own_channel_and_others_are_recorded(data: Path, slack: FakeSlack) -> None:
    start(data, TEAM.replace('to = "C0TEAM"', 'to_column = "slack_channel"'))
    channels = {"acme": "C0ACME", "beta": "C0BETA", "none": None}
    publish(data, [make_notice_crossing(name, slack_channel=to) for name, to in channels.items()])

    run()

    assert {message["channel"] for message in slack.messages} == {"C0ACME", "C0BETA"}
    assert recorded("account_id", "outcome") == [
        ("acme", "announced"),
        ("beta", "announced"),
        ("none", "no_address"),
    ]


def test_owner_is_mentioned_once(data: Path, slack: FakeSlack) -> None:
    start(data, TEAM)
    slack.users["dana.reyes@example.com"] = "U0DANA"
    publish(data, [make_notice_crossing()])

    run()

    assert str(slack.messages[0]["blocks"]).count("U0DANA") == 1


def test_quiet_hours_keep_an_alert_until_they_end(
    data: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(data, TEAM + 'quiet_hours = "11:30-11:00"\n')
    publish(data, [make_notice_crossing()])

    run()

    delivery = Project().ledger().delivery(KEY)
    assert delivery
    assert delivery.not_before == datetime(2026, 11, 21, 11, tzinfo=UTC)


def test_nothing_is_decided_without_a_route_for_it(data: Path, slack: FakeSlack) -> None:
    publish(data, [make_notice_crossing()])

    assert run() == "nothing sent: no route takes crossing or limit_hit"
    assert recorded("outcome") == []


def test_example_of_rate_limits_posts_each_threshold_once_to_each_customer(data: Path, slack: FakeSlack) -> None:
    """docs/examples/routes-rate-limit.toml, at the ticks of its schedule."""
    start(data, (PROJECT_ROOT / "docs" / "examples" / "routes-rate-limit.toml").read_text())
    crossings: list[dict[str, Any]] = []
    steps = [["80%"], [], ["90%"], ["95%"], ["100%"], ["120%"]]
    for tick, thresholds in enumerate(steps):
        at = NOON + timedelta(minutes=15 * tick)
        fields = {"slack_channel": "C0ACME", "used": 1_000_000, "crossed_at": at, "pace_matters": True}
        crossings += [make_notice_crossing(threshold=each, is_in_digest=each != "90%", **fields) for each in thresholds]
        publish(data, crossings, as_of=at, thresholds=(80, 90, 95, 100, 120))
        run()
    beta = {"slack_channel": "C0BETA", "used": 1_010_000, "crossed_at": at}
    crossings += [make_notice_crossing("beta", each, **beta) for each in ("80%", "90%", "95%", "100%")]
    publish(data, crossings, as_of=at, thresholds=(80, 90, 95, 100, 120))
    run()

    assert [(message["channel"], message["text"].split(" today")[0]) for message in slack.messages] == [
        ("C0ACME", "acme crossed 80 %"),
        ("C0ACME", "acme crossed 90 %"),
        ("C0ACME", "acme crossed 100 %"),
        ("C0BETA", "beta crossed 100 %"),
    ]


# Customers


def test_letter_is_a_draft_until_a_person_sends_it(data: Path, slack: FakeSlack, letterbox: Letterbox) -> None:
    start(data, CUSTOMERS)
    publish(data, [make_notice_crossing()])

    assert run() == "0 alerts of this run, 1 draft"
    assert run() == "nothing new"
    ledger = Project().ledger()
    assert ledger.waiting("local|") == []
    assert letterbox.letters == []
    listed = RUNNER.invoke(app, ["deliveries"], env={"COLUMNS": "250"}).output
    assert LETTER in listed
    assert "draft" in listed
    assert "Waiting" not in listed

    assert RUNNER.invoke(app, ["deliveries", "send", LETTER, "--note", " "]).exit_code == 1
    sent = RUNNER.invoke(app, ["deliveries", "send", LETTER, "--note", "Dana read it"])

    assert sent.output.startswith(f"{LETTER}: sent ")
    [letter] = letterbox.letters
    assert (letter["at"], letter["reply_to"]) == ("anna.smith@acme.example", "dana.reyes@example.com")
    again = RUNNER.invoke(app, ["deliveries", "send", LETTER, "--note", "again"])
    assert (again.exit_code, len(letterbox.letters)) == (1, 1)


def test_test_of_a_route_with_drafts_is_sent_to_oneself(data: Path, slack: FakeSlack, letterbox: Letterbox) -> None:
    write_routes(data, CUSTOMERS)

    assert RUNNER.invoke(app, ["test-route", "customers", "--to", "me@example.com"]).exit_code == 0

    [letter] = letterbox.letters
    assert letter["at"] == "me@example.com"


def test_draft_that_is_given_up_is_never_sent(data: Path, slack: FakeSlack, letterbox: Letterbox) -> None:
    start(data, CUSTOMERS)
    publish(data, [make_notice_crossing()])
    run()

    assert RUNNER.invoke(app, ["deliveries", "give-up", LETTER, "--note", "wrong contact"]).exit_code == 0
    run()

    assert letterbox.letters == []
    assert RUNNER.invoke(app, ["deliveries", "send", LETTER, "--note", "after all"]).exit_code == 1


def test_customers_of_named_segments_alone_get_letters_at_once(
    data: Path, slack: FakeSlack, letterbox: Letterbox
) -> None:
    start(data, SENDING)
    publish(data, [make_notice_crossing(), make_notice_crossing("b", segment="enterprise")])

    run()

    assert [letter["mark"] for letter in letterbox.letters] == [LETTER]


def test_letter_by_mail_has_customer_owner_and_a_way_to_unsubscribe(
    data: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeEmail() as mail:
        for name, value in mail.environment("customers").items():
            monkeypatch.setenv(name, value)
        start(data, SENDING + 'options = { from = "Usage <usage@example.com>" }\n')
        publish(data, [make_notice_crossing(account_name="Acme")])
        ways, ledger = project_ways(), Project().ledger()
        for _ in range(2):
            keys, _, _ = alerts.decide(Project(), ways, print)
            ways.send(ledger, keys, print)

    [(recipients, letter)] = mail.letters
    assert recipients == ["anna.smith@acme.example"]
    assert letter["Subject"] == "Acme: 801,234 of 1,000,000 calls used"
    assert letter["Reply-To"] == "dana.reyes@example.com"
    assert letter["List-Unsubscribe"] == "<mailto:dana.reyes@example.com?subject=unsubscribe>"
    text = letter.get_body(("plain",))
    assert text
    assert "Hello Anna," in text.get_content()


def project_ways() -> Ways:
    return replace(Project().ways(), sleep=lambda _: None)


def test_letters_without_named_segments_are_refused_as_a_mistake(
    data: Path, slack: FakeSlack, letterbox: Letterbox
) -> None:
    write_routes(data, CUSTOMERS + 'mode = "send"\n')
    publish(data, [make_notice_crossing()])

    assert "name the segments whose customers get mail" in run()
    assert letterbox.letters == []


def test_customer_never_gets_two_letters_a_day(data: Path, slack: FakeSlack, letterbox: Letterbox) -> None:
    start(data, SENDING)
    crossings = []
    for minutes, threshold in ((0, "80%"), (15, "100%"), (30, "120%")):
        at = NOON + timedelta(minutes=minutes)
        crossings.append(make_notice_crossing(threshold=threshold, used=1_210_000, crossed_at=at))
        publish(data, crossings, as_of=at)
        run()
    publish(data, crossings, as_of=NOON + timedelta(hours=20))
    run()
    publish(data, crossings, as_of=NOON + timedelta(hours=21))
    run()

    assert [letter["mark"].split("|")[6] for letter in letterbox.letters] == ["80%", "120%"]
    assert recorded("threshold", "outcome") == [
        ("100%", "superseded"),
        ("120%", "announced"),
        ("80%", "announced"),
    ]


def test_letter_is_sent_once_when_its_answer_is_lost(data: Path, slack: FakeSlack, letterbox: Letterbox) -> None:
    start(data, SENDING)
    publish(data, [make_notice_crossing()])
    letterbox.is_lost = True
    assert "no answer" in run()

    run()

    assert [letter["mark"] for letter in letterbox.letters] == [LETTER]


def test_address_that_unsubscribed_gets_no_letter(data: Path, slack: FakeSlack, letterbox: Letterbox) -> None:
    start(data, SENDING)
    address = "Anna.Smith@ACME.example"
    done = RUNNER.invoke(app, ["routes", "unsubscribe", address, "--note", "wrote on 20 Nov"])
    assert done.output == f"{address} gets no more letters. No letter was waiting.\n"
    publish(data, [make_notice_crossing()])

    run()

    assert recorded("outcome") == [("unsubscribed",)]
    assert RUNNER.invoke(app, ["routes", "resubscribe", address.lower()]).exit_code == 0
    assert RUNNER.invoke(app, ["routes", "resubscribe", address]).exit_code == 1
    later = make_notice_crossing(threshold="100%", used=1_000_000, crossed_at=NOON + timedelta(minutes=5))
    publish(data, [make_notice_crossing(), later], as_of=NOON + timedelta(minutes=15))
    run()
    assert len(letterbox.letters) == 1


def test_draft_is_dropped_when_its_customer_unsubscribes(data: Path, slack: FakeSlack, letterbox: Letterbox) -> None:
    start(data, CUSTOMERS + TEAM.replace('to = "C0TEAM"', 'to_column = "owner"'))
    publish(data, [make_notice_crossing(contact_email="dana.reyes@example.com")])
    run()
    before = {each.key.rpartition("|")[2]: each.state for each in Project().ledger().deliveries()}

    done = RUNNER.invoke(app, ["routes", "unsubscribe", "DANA.REYES@example.com", "--note", "asked"])

    assert "1 letter given up." in done.output
    states = {each.key.rpartition("|")[2]: each.state for each in Project().ledger().deliveries()}
    team, customer = "team/dana.reyes@example.com", "customers/dana.reyes@example.com"
    assert (before[customer], states[customer]) == (State.DRAFT, State.GIVEN_UP)
    assert states[team] is before[team]


def test_draft_to_an_address_that_unsubscribed_is_not_released(
    data: Path, slack: FakeSlack, letterbox: Letterbox
) -> None:
    start(data, CUSTOMERS)
    publish(data, [make_notice_crossing()])
    run()
    with Project().ledger().transaction() as connection:
        routed.unsubscribe(connection, "anna.smith@acme.example", "asked", NOON)

    refused = RUNNER.invoke(app, ["deliveries", "send", LETTER, "--note", "go"])

    assert "has unsubscribed" in refused.output
    assert letterbox.letters == []


def test_template_with_a_mistake_stops_its_route_alone_and_is_made_good(
    data: Path, slack: FakeSlack, letterbox: Letterbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_TEMPLATES", str(data))
    start(data, SENDING + 'template = "mine.txt"\n' + TEAM)
    publish(data, [make_notice_crossing()])
    (data / "mine.txt").write_text("Subject: {{ mrr }}\n\nHello")

    assert "no letter of the route 'customers'" in run()
    assert (len(slack.messages), letterbox.letters) == (1, [])
    (data / "mine.txt").write_text("Subject: {{ account }}\n\nHello")
    run()

    assert [letter["body"] for letter in letterbox.letters] == ["Hello"]


# The schedule


@pytest.mark.parametrize(
    ("routes", "skipped"),
    [(TEAM, None), (TEAM + 'when = "morning"\n', "at once"), ("", "at once")],
    ids=["at once", "morning", "none"],
)
def test_alerts_run_every_15_minutes_where_a_route_takes_them_at_once(
    data: Path, routes: str, skipped: str | None
) -> None:
    write_routes(data, routes)
    schedule = next(each for each in build_schedules(Project()) if each.name == "alerts_schedule")
    with dg.DagsterInstance.ephemeral() as instance:
        tick = schedule.evaluate_tick(schedule_context(instance))

    assert schedule.cron_schedule == "*/15 * * * *"
    assert bool(tick.run_requests) is (skipped is None)
    assert skipped is None or skipped in str(tick.skip_message)


# Killed, for real: a fork is.

MOMENTS = ["record", "prepare", "claim", "send", "finish"]
"""Functions on whose call a process is killed: within the decision, before and after the claim, after the post."""


def test_alert_is_posted_once_when_processes_are_killed(data: Path, slack: FakeSlack) -> None:
    start(data, TEAM)
    publish(data, [make_notice_crossing()])
    states = []
    for moment in MOMENTS:
        assert forks.call(PROJECT_ROOT, run_until_killed, moment, seconds=RUN_SECONDS) == -signal.SIGKILL
        delivery = Project().ledger().delivery(KEY)
        states.append((delivery and delivery.attempts, len(slack.messages)))
        let_the_doubt_end()

    run()

    assert states == [(None, 0), (None, 0), (0, 0), (1, 0), (2, 1)]
    assert posted(slack) == {KEY: 1}
    assert run() == "nothing new"
    assert recorded("outcome") == [("announced",)]


def let_the_doubt_end() -> None:
    """Attempts under way become so old that what Slack does not show did not arrive."""
    past = sa.update(deliveries).values(attempted_at=datetime.now(UTC) - 2 * DOUBT_WINDOW)
    with Project().ledger().transaction() as connection:
        connection.execute(past.where(deliveries.c.state == State.SENDING))


def run_until_killed(moment: str) -> None:
    files = {ledger_module.__file__, slack_module.__file__, routed.__file__}

    def trace(frame: FrameType, *_: object) -> None:
        if frame.f_code.co_name == moment and frame.f_code.co_filename in files:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.settrace(trace)
    project = Project()
    ways, ledger = project.ways(), project.ledger()
    keys, _, _ = alerts.decide(project, ways, print)
    ways.send(ledger, keys or ledger.waiting("local|crossing|"), print)
