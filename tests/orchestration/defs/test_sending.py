"""Messages through several routes at once, with real channels and vendors on loopback."""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.defs.sending import AT_MOST, Ways, outcome
from orchestration.ledger import decided
from orchestration.ledger.ledger import Ledger, State
from orchestration.messages.message import Line, Message, Section
from orchestration.settings import PROJECT_ROOT, load
from tests.fakes.discord import FakeDiscord
from tests.fakes.email import FakeEmail
from tests.fakes.notion import FakeNotion
from tests.fakes.pagerduty import FakePagerDuty
from tests.fakes.slack_route import RoutedSlack
from tests.fakes.webhook import FakeWebhook
from tests.support import forks
from tests.support.waiting import RUN_SECONDS

SIX: Mapping[str, Callable[[], Any]] = {
    "chat": RoutedSlack,
    "mail": FakeEmail,
    "hook": FakeWebhook,
    "discord": FakeDiscord,
    "notion": FakeNotion,
    "pager": FakePagerDuty,
}


@dataclass
class Office:
    """An installation with routes to vendors on loopback; its clock goes on while a route waits for its vendor."""

    data: Path
    fakes: dict[str, Any]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    slept: list[float] = field(default_factory=list)

    def ways(self) -> Ways:
        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.now += timedelta(seconds=seconds)

        return Ways(load(), lambda: self.now, sleep=sleep)

    def ledger(self) -> Ledger:
        return Ledger(load().ledger_url)

    def decide(self, name: str = "one") -> str:
        return decide(self.ways(), self.ledger(), self.now, name)

    def texts(self, route: str) -> list[str]:
        return [each["text"] for each in self.fakes[route].arrived]


def decide(ways: Ways, ledger: Ledger, at: datetime, name: str) -> str:
    lines = [Line("82 %", name="Acme", account_id="acme", meter="api-calls")]
    message = Message(
        f"weekly|{name}", "cs", f"Weekly {name}-end", f"{name}-end: 1 growing", [Section("Growing", lines)]
    )
    with ledger.transaction() as connection:
        return ways.freeze(ledger, connection, message, at, {})


def routes(fakes: Mapping[str, Any], more: str = "") -> str:
    """A file with a route for each of the vendors, each named as in SIX."""
    text = ""
    for name, fake in fakes.items():
        options = ", ".join(f"{key} = '{value}'" for key, value in fake.options.items())
        text += f'[[route]]\nname = "{name}"\ntakes = "weekly"\nchannel = "{fake.name}"\noptions = {{ {options} }}\n'
        text += f"to = '{fake.to}'\n" if fake.to else ""
        text += more
    return text


@pytest.fixture
def office(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    names = getattr(request, "param", ["hook", "discord"])
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    with ExitStack() as stack:
        fakes = {name: stack.enter_context(SIX[name]()) for name in names}
        for name, fake in fakes.items():
            for variable, value in fake.environment(name).items():
                monkeypatch.setenv(variable, value)
        (tmp_path / "routes.toml").write_text(routes(fakes))
        yield Office(tmp_path, fakes)


def test_message_arrives_by_each_of_its_routes_once(office: Office) -> None:
    ways, ledger, key = office.ways(), office.ledger(), office.decide()

    sent = ways.send_message(ledger, key, print)
    again = ways.send_message(ledger, key, print)

    assert {each.delivery.key for each in sent} == {"local|weekly|one|hook", "local|weekly|one|discord"}
    assert [each.delivery.state for each in (*sent, *again)] == [State.SENT] * 4
    assert [len(office.texts(route)) for route in office.fakes] == [1, 1]
    assert "discord: sent" in outcome(sent)


def test_route_that_fails_holds_up_no_other(office: Office) -> None:
    ledger, key = office.ledger(), office.decide()
    office.fakes["discord"].is_down = True

    failed, arrived = office.ways().send_message(ledger, key, print)

    assert arrived.error == ""
    assert failed.delivery.route == "discord"
    assert "Discord" in failed.error
    office.fakes["discord"].is_down = False
    office.now += timedelta(hours=1)
    office.ways().send_waiting(ledger, "local|weekly|", logging.getLogger())
    assert [len(office.texts(route)) for route in office.fakes] == [1, 1]
    assert ledger.waiting("local|") == []


def test_delivery_waits_with_a_sentence_when_its_route_is_gone(office: Office) -> None:
    ledger, key = office.ledger(), office.decide()
    (office.data / "routes.toml").write_text(routes({"hook": office.fakes["hook"]}))

    failed, arrived = office.ways().send_message(ledger, key, print)

    assert arrived.error == ""
    assert failed.error == "routes.toml has no route 'discord': add it, or give the message up"


def test_route_that_is_added_later_gets_nothing_of_before(office: Office) -> None:
    both, ledger = (office.data / "routes.toml").read_text(), office.ledger()
    (office.data / "routes.toml").write_text(routes({"hook": office.fakes["hook"]}))
    key = office.decide()
    (office.data / "routes.toml").write_text(both)

    office.ways().send_message(ledger, key, print)

    assert [len(office.texts(route)) for route in office.fakes] == [1, 0]


def test_quiet_hours_end_before_it_is_sent(office: Office) -> None:
    office.now = datetime(2026, 11, 20, 22, tzinfo=UTC)
    text = routes({"hook": office.fakes["hook"]}, 'quiet_hours = "20:00-07:00"\n')
    (office.data / "routes.toml").write_text(text)
    ledger, key = office.ledger(), office.decide()

    [early] = office.ways().send_message(ledger, key, print)
    office.now = datetime(2026, 11, 21, 7, tzinfo=UTC)
    [sent] = office.ways().send_message(ledger, key, print)

    assert outcome([early]) == "hook: waits until 2026-11-21 07:00 UTC: quiet hours"
    assert (early.error, early.delivery.attempts, sent.delivery.state) == ("", 0, State.SENT)


def prepared(office: Office, many: int) -> list[str]:
    keys = [office.decide(f"n{number}") for number in range(many)]
    return [each.key for key in keys for each in decided.deliveries_of(office.ledger(), key)]


@pytest.mark.parametrize("office", [["hook", "mail"]], indirect=True)
def test_each_route_keeps_its_vendors_pace(office: Office) -> None:
    sent = office.ways().send(office.ledger(), prepared(office, 3), print)

    assert not any(each.error for each in sent)
    assert sorted(round(seconds, 1) for seconds in office.slept) == [0.1] * 3 + [2.0] * 3


@pytest.mark.parametrize("office", [["hook"]], indirect=True)
def test_run_ends_while_messages_are_left_and_the_next_one_goes_on(office: Office) -> None:
    keys = prepared(office, 5)

    def wait_long(_: float) -> None:
        office.now += AT_MOST / 2

    sent = Ways(load(), lambda: office.now, sleep=wait_long).send(office.ledger(), keys, print)

    assert [each.error == "" for each in sent] == [True, True, True, False, False]
    assert sent[4].error.endswith("waits for the next run: this one has sent for 10 minutes")
    office.ways().send(office.ledger(), keys, print)
    assert len(office.texts("hook")) == 5


# Killed, for real: a fork is.

MESSAGES = 20


@pytest.mark.parametrize("office", [list(SIX)], indirect=True)
def test_six_channels_get_everything_once_when_the_run_is_killed(office: Office) -> None:
    ledger = office.ledger()
    keys = [office.decide(f"n{number:02}") for number in range(MESSAGES)]
    deliveries = [each.key for key in keys for each in decided.deliveries_of(ledger, key)]
    assert len(deliveries) == 6 * MESSAGES

    assert forks.call(PROJECT_ROOT, run_until_killed, 40, seconds=RUN_SECONDS) == -signal.SIGKILL
    before = sum(len(office.texts(route)) for route in office.fakes)
    assert 0 < before < 6 * MESSAGES
    office.now = datetime.now(UTC) + timedelta(
        hours=1
    )  # what is in doubt is looked up, and sent only if it is not there
    office.ways().send_waiting(ledger, "local|weekly|", logging.getLogger())
    expected = sorted(f"n{number:02}-end" for number in range(MESSAGES))
    for route in office.fakes:
        shown = [name for text in office.texts(route) for name in expected if name in text]
        assert sorted(shown) == expected, route
    assert ledger.waiting("local|") == []


def run_until_killed(finished: int) -> None:
    """Send all that waits, and be killed by itself when so many deliveries are done."""
    done, finish = [0], Ledger.finish

    def count(*arguments: Any, **named: Any) -> bool:
        done[0] += 1
        if done[0] > finished:
            os.kill(os.getpid(), signal.SIGKILL)
        return finish(*arguments, **named)

    Ledger.finish = count  # type: ignore[method-assign]
    ways = Ways(load(), lambda: datetime.now(UTC), sleep=lambda _: None)
    ways.send_waiting(Ledger(load().ledger_url), "local|weekly|", logging.getLogger())
