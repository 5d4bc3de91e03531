"""Every channel with everything that goes wrong: what people see in the end is what its promise says.

Each fake is a vendor on loopback that behaves as its documentation says; the channel is the real one with its SDK.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.channels import vendors
from orchestration.ledger import exits
from orchestration.ledger.ledger import Delivery, State
from orchestration.ledger.outbox import DOUBT_WINDOW, InDoubtError, Promise, RefusedError, deliver_parts
from tests.fakes import faults
from tests.fakes.discord import FakeDiscord
from tests.fakes.email import FakeEmail
from tests.fakes.faults import Fault
from tests.fakes.notion import FakeNotion
from tests.fakes.pagerduty import FakePagerDuty
from tests.fakes.slack_route import RoutedSlack
from tests.fakes.teams import FakeTeams
from tests.fakes.telegram import FakeTelegram
from tests.fakes.webhook import FakeWebhook
from tests.support.posting import ROUTE, Desk, Fake, opened, run_as_program

KEY = "message-end"
FAKES: dict[str, Callable[[], Fake]] = {
    "email": FakeEmail,
    "webhook": FakeWebhook,
    "slack": RoutedSlack,
    "discord": FakeDiscord,
    "telegram": FakeTelegram,
    "teams": FakeTeams,
    "notion": FakeNotion,
    "pagerduty": FakePagerDuty,
}
CASES = {f"{name} {promise}": (name, promise) for name in vendors.NAMES for promise in vendors.vendor(name).promises}
ANY_ANSWER_IS_A_YES = ("webhook", "teams")
"""Their servers promise no body: what has status 2xx was taken."""


@dataclass
class World:
    fake: Fake
    desk: Desk
    folder: Path

    def shown(self, key: str = KEY) -> list[str]:
        """The messages of that key that people see."""
        return [each["text"] for each in self.fake.arrived if key in each["text"]]


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    name, promise = request.param
    for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with FAKES[name]() as fake:
        for variable, value in fake.environment(ROUTE).items():
            monkeypatch.setenv(variable, value)
        with opened(tmp_path, name, promise, fake.to, fake.options) as desk:
            desk.prepare(KEY)
            yield World(fake, desk, tmp_path)


def parametrized(cases: Mapping[str, tuple[str, Promise]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", cases.values(), ids=cases.keys(), indirect=True)


every_channel = parametrized(CASES)
every_channel_that_tries_again = parametrized(
    {title: case for title, case in CASES.items() if case[1] is not Promise.AT_MOST_ONCE}
)


def keep_the_promise(world: World, key: str = KEY) -> None:
    """Bring it to its end; what people see then is what the promise says."""
    desk, found = world.desk, world.desk.bring_to_its_end(key)
    shown = world.shown(key)
    match desk.promise:
        case Promise.EXACTLY_ONCE:
            assert (found.state, len(shown)) == (State.SENT, 1)
        case Promise.AT_LEAST_ONCE:
            assert found.state is State.SENT
            assert shown
            assert all("may be a repetition" in later for later in shown[1:])
        case Promise.AT_MOST_ONCE:
            assert len(shown) <= 1
            if found.state is State.SENT:
                assert len(shown) == 1
            else:
                have_it_sent_once_more(world, found)


def have_it_sent_once_more(world: World, given_up: Delivery) -> None:
    """People can: it has a reason, and a way out."""
    assert given_up.state is State.GIVEN_UP
    assert "its route sends at most once" in str(given_up.error)
    before = len(world.shown(given_up.key))
    exits.resend(world.desk.ledger, given_up.key, "it is not in the channel", world.desk.now)
    assert world.desk.bring_to_its_end(given_up.key).state is State.SENT
    assert len(world.shown(given_up.key)) == before + 1


def run(desk: Desk) -> Delivery | None:
    """One run; None where it failed."""
    try:
        return desk.deliver(KEY)
    except (RefusedError, InDoubtError):
        return None


LOST = {
    "answer lost": faults.LOST_AFTER,
    "failed after it": faults.ERROR_AFTER,
    "answer cut off": faults.CUT_OFF_AFTER,
    "answer garbled": faults.GARBLED_AFTER,
    "lost on its way": faults.LOST_BEFORE,
    "failed before it": faults.ERROR_BEFORE,
    "taken by a portal": faults.PORTAL_BEFORE,
}
ARRIVED_OR_NOT = {"arrived": faults.LOST_AFTER, "lost": faults.LOST_BEFORE}


@every_channel
@pytest.mark.parametrize("fault", LOST.values(), ids=LOST.keys())
def test_promise_holds_when_there_was_no_usable_answer(world: World, fault: Fault) -> None:
    if fault is faults.PORTAL_BEFORE and world.fake.name in ANY_ANSWER_IS_A_YES:
        pytest.skip("its servers may answer anything")
    world.fake.fail_next(fault)

    failed = run(world.desk) is None

    assert failed or world.fake.name in ANY_ANSWER_IS_A_YES
    assert len(world.shown()) == fault.applies
    keep_the_promise(world)


@every_channel_that_tries_again
@pytest.mark.parametrize("second", ARRIVED_OR_NOT.values(), ids=ARRIVED_OR_NOT.keys())
def test_promise_holds_when_two_attempts_had_no_answer(world: World, second: Fault) -> None:
    world.fake.fail_next(faults.LOST_BEFORE, second)

    keep_the_promise(world)


@every_channel
def test_refusal_sends_nothing_and_says_why_until_it_is_mended(world: World) -> None:
    world.fake.fail_next(faults.REFUSED)

    with pytest.raises(RefusedError) as refused:
        world.desk.deliver(KEY)

    failed = world.desk.delivery(KEY)
    assert (failed.state, failed.error) == (State.FAILED, str(refused.value))
    assert world.shown() == []
    assert world.desk.deliver(KEY).state is State.SENT
    assert len(world.shown()) == 1


@every_channel
def test_rate_limit_leaves_no_doubt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    world.fake.fail_next(faults.rate_limited(0))

    sent = run(world.desk) or world.desk.deliver(KEY)

    assert (sent.state, sent.doubts) == (State.SENT, 0)
    assert len(world.shown()) == 1


@every_channel
def test_promise_holds_when_an_outage_ends(world: World) -> None:
    world.fake.is_down = True
    for _ in range(3):
        assert run(world.desk) is None or world.desk.promise is Promise.AT_MOST_ONCE
        world.desk.now += DOUBT_WINDOW
    assert world.shown() == []

    world.fake.is_down = False

    keep_the_promise(world)


@every_channel
@pytest.mark.parametrize("fault", ARRIVED_OR_NOT.values(), ids=ARRIVED_OR_NOT.keys())
def test_promise_holds_when_the_address_has_changed_since(world: World, fault: Fault) -> None:
    if world.fake.other_to is None:
        pytest.skip("its address is a secret")
    world.fake.fail_next(fault)
    assert run(world.desk) is None

    world.desk.to = world.fake.other_to

    keep_the_promise(world)


@every_channel
def test_delivery_that_people_have_sent_once_more_is_another_one(world: World) -> None:
    assert world.desk.deliver(KEY).state is State.SENT

    exits.resend(world.desk.ledger, KEY, "somebody deleted it", world.desk.now)
    world.fake.fail_next(faults.LOST_AFTER)
    sent = world.desk.bring_to_its_end(KEY)

    assert len(world.shown()) == 2 or world.desk.promise is Promise.AT_LEAST_ONCE
    assert sent.state is (State.GIVEN_UP if world.desk.promise is Promise.AT_MOST_ONCE else State.SENT)


@every_channel
def test_parts_arrive_in_order_when_an_answer_to_one_was_lost(world: World) -> None:
    desk, key = world.desk, "long-end"
    desk.prepare(key, lines=250)
    if not desk.ledger.parts(key):
        pytest.skip("its messages have no further parts")
    assert desk.deliver(key).state is State.SENT
    world.fake.fail_next(faults.LOST_AFTER)

    for _ in range(3):
        try:
            deliver_parts(desk.ledger, key, desk.open(), lambda: desk.now)
        except InDoubtError:
            desk.now += DOUBT_WINDOW

    text = "\n".join(world.shown(key))
    states = {part.state for part in desk.ledger.parts(key)}
    if desk.promise is Promise.EXACTLY_ONCE:
        assert states <= {State.SENT}
        found = [text.count(f"{key}, fact {n}.") for n in range(1, 251)]
        assert max(found) == 1
        assert found == sorted(found, reverse=True)  # what is left out is left out at the end
    else:
        assert states <= {State.SENT, State.GIVEN_UP}


@every_channel
def test_promise_holds_when_processes_are_killed_at_any_line(world: World) -> None:
    desk = world.desk
    keys = run_as_program("kill", world.folder, world.fake, desk.promise)
    *killed, lived = keys
    states = [desk.delivery(key).state for key in killed]
    arrived = [len(world.shown(key)) for key in killed]
    assert {State.PREPARED, State.SENDING} <= set(states)
    assert set(arrived) == {0, 1}  # some were killed before the line, some after it
    assert desk.delivery(lived).state is State.SENT

    for key in killed:
        keep_the_promise(world, key)


@every_channel
def test_message_arrives_once_when_processes_race(world: World) -> None:
    keys = run_as_program("race", world.folder, world.fake, world.desk.promise)

    assert [len(world.shown(key)) for key in keys] == [1] * len(keys)
    assert {world.desk.delivery(key).state for key in keys} == {State.SENT}
