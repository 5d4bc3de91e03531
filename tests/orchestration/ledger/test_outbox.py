import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.ledger import engines, exits, outbox
from orchestration.ledger import ledger as ledger_module
from orchestration.ledger.ledger import Delivery, Ledger, State
from orchestration.ledger.outbox import (
    ATTEMPT_LIMIT,
    DOUBT_WINDOW,
    InDoubtError,
    Promise,
    RefusedError,
    deliver,
    deliver_parts,
)
from orchestration.ledger.tables import deliveries, messages
from tests.support import ledgers, programs
from tests.support.waiting import PATIENCE_SECONDS

KEY = "local|digest|2026-11-20"
NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class FakeChannel:
    """A channel that keeps what arrived; `before` and `after` happen around the arrival, for its failures."""

    name = "fake"
    promise = Promise.EXACTLY_ONCE

    def __init__(self, is_preview: bool = False) -> None:
        self.is_preview = is_preview
        self.arrived: list[Delivery] = []
        self.looked_up = 0
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None
        self.on_find: Callable[[], object] = lambda: None
        self.on_address: Callable[[], object] = lambda: None

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        self.on_address()
        return f"under {parent.receipt}" if parent else "main"

    def send(self, delivery: Delivery) -> str:
        self.before()
        self.arrived.append(delivery)
        self.after()
        return f"receipt {len(self.arrived)}"

    def find(self, delivery: Delivery) -> str | None:
        self.looked_up += 1
        found = [number for number, earlier in enumerate(self.arrived, 1) if earlier.key == delivery.key]
        self.on_find()
        return f"receipt {found[0]}" if found else None


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> None:
        self.now += by


def fail(error: Exception) -> Callable[[], object]:
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger(ledger_url)
    prepare(ledger, KEY)
    yield ledger
    ledger.close()


def prepare(ledger: Ledger, *keys: str) -> None:
    with ledger.transaction() as connection:
        for key in keys:
            ledger.prepare(connection, key, "fake", {"message": {"text": f"payload of {key}"}}, NOW)


def get(ledger: Ledger) -> Delivery:
    delivery = ledger.delivery(KEY)
    assert delivery is not None
    return delivery


def leave_in_doubt(ledger: Ledger, channel: FakeChannel, clock: Clock, *, did_arrive: bool) -> None:
    moment = "after" if did_arrive else "before"
    setattr(channel, moment, fail(InDoubtError("no answer")))
    with pytest.raises(InDoubtError, match="no answer"):
        deliver(ledger, KEY, channel, clock)
    setattr(channel, moment, lambda: None)
    assert get(ledger).state is State.SENDING


# The arrows of the state diagram


def test_delivery_is_sent_once_when_it_is_delivered_again(ledger: Ledger, clock: Clock) -> None:
    channel = FakeChannel()

    sent = deliver(ledger, KEY, channel, clock)
    clock.move(timedelta(days=1))

    assert deliver(ledger, KEY, channel, clock) == sent == get(ledger)
    assert (sent.state, sent.receipt, sent.attempts) == (State.SENT, "receipt 1", 1)
    assert (sent.attempted_at, sent.finished_at) == (NOW, NOW)
    assert len(channel.arrived) == 1
    assert channel.looked_up == 0


def test_channel_gets_the_frozen_payload_under_a_claim_that_is_committed(ledger: Ledger, clock: Clock) -> None:
    channel, seen = FakeChannel(), list[Delivery]()
    channel.before = lambda: seen.append(get(ledger))

    deliver(ledger, KEY, channel, clock)

    assert seen == channel.arrived
    assert (seen[0].state, seen[0].attempts, seen[0].attempted_at) == (State.SENDING, 1, NOW)
    assert seen[0].payload == {"message": {"text": f"payload of {KEY}"}}


def test_delivery_is_sent_with_the_same_payload_after_a_refusal(ledger: Ledger, clock: Clock) -> None:
    channel = FakeChannel()
    channel.before = fail(RefusedError("invite the bot"))
    with pytest.raises(RefusedError, match="invite the bot"):
        deliver(ledger, KEY, channel, clock)
    failed = get(ledger)
    assert (failed.state, failed.error, failed.finished_at, failed.receipt) == (
        State.FAILED,
        "invite the bot",
        NOW,
        None,
    )

    channel.before = lambda: None
    sent = deliver(ledger, KEY, channel, clock)

    assert (sent.state, sent.attempts, sent.error) == (State.SENT, 2, None)
    assert [delivery.payload for delivery in channel.arrived] == [failed.payload]
    assert channel.looked_up == 0  # a refusal is no doubt


def test_delivery_is_found_and_not_sent_again_when_the_answer_was_lost(ledger: Ledger, clock: Clock) -> None:
    channel = FakeChannel()
    leave_in_doubt(ledger, channel, clock, did_arrive=True)
    clock.move(SECOND)

    sent = deliver(ledger, KEY, channel, clock)

    assert (sent.state, sent.receipt, sent.finished_at, sent.attempts) == (State.SENT, "receipt 1", NOW + SECOND, 1)
    assert len(channel.arrived) == 1


def test_delivery_is_found_when_its_receipt_is_empty(ledger: Ledger, clock: Clock) -> None:
    class Terse(FakeChannel):
        def find(self, delivery: Delivery) -> str | None:
            return None if super().find(delivery) is None else ""

    channel = Terse()
    leave_in_doubt(ledger, channel, clock, did_arrive=True)
    clock.move(2 * DOUBT_WINDOW)

    assert deliver(ledger, KEY, channel, clock).state is State.SENT
    assert len(channel.arrived) == 1


@pytest.mark.parametrize("age", [timedelta(0), DOUBT_WINDOW - timedelta(microseconds=1), -timedelta(hours=1)], ids=str)
def test_delivery_stays_in_doubt_when_not_found_within_five_minutes(
    ledger: Ledger, clock: Clock, age: timedelta
) -> None:
    channel = FakeChannel()
    leave_in_doubt(ledger, channel, clock, did_arrive=False)
    before = get(ledger)
    clock.move(age)

    with pytest.raises(InDoubtError, match=rf"{age.total_seconds():.0f} s ago .*Run again in (a minute|\d+ minutes)"):
        deliver(ledger, KEY, channel, clock)

    assert get(ledger) == before
    assert channel.arrived == []
    assert channel.looked_up == 1


def test_delivery_is_sent_again_when_not_found_after_five_minutes(ledger: Ledger, clock: Clock) -> None:
    channel = FakeChannel()
    leave_in_doubt(ledger, channel, clock, did_arrive=False)
    clock.move(DOUBT_WINDOW)

    sent = deliver(ledger, KEY, channel, clock)

    assert (sent.state, sent.attempts, sent.attempted_at) == (State.SENT, 2, NOW + DOUBT_WINDOW)
    assert len(channel.arrived) == 1
    assert channel.looked_up == 1


@pytest.mark.parametrize("error", [RefusedError("missing scope"), InDoubtError("no history")], ids=str)
def test_delivery_stays_in_doubt_when_the_channel_cannot_be_asked(
    ledger: Ledger, clock: Clock, error: Exception
) -> None:
    channel = FakeChannel()
    leave_in_doubt(ledger, channel, clock, did_arrive=True)
    before = get(ledger)
    clock.move(2 * DOUBT_WINDOW)
    channel.on_find = fail(error)

    with pytest.raises(type(error), match=str(error)):
        deliver(ledger, KEY, channel, clock)

    assert get(ledger) == replace(before, error=str(error))
    assert len(channel.arrived) == 1


def test_delivery_is_in_doubt_when_the_channel_fails_in_another_way(ledger: Ledger, clock: Clock) -> None:
    channel = FakeChannel()
    channel.after = fail(ZeroDivisionError("a bug"))

    with pytest.raises(ZeroDivisionError):
        deliver(ledger, KEY, channel, clock)

    assert get(ledger).state is State.SENDING


def test_preview_is_recorded_once_and_sends_nothing(ledger: Ledger, clock: Clock) -> None:
    preview = FakeChannel(is_preview=True)
    preview.before = fail(AssertionError("a preview was sent"))

    previewed = deliver(ledger, KEY, preview, clock)
    clock.move(SECOND)

    assert deliver(ledger, KEY, preview, clock) == previewed
    assert (previewed.state, previewed.attempts, previewed.finished_at) == (State.PREVIEWED, 0, NOW)


def test_previewed_delivery_is_sent_once_when_there_is_a_real_channel(ledger: Ledger, clock: Clock) -> None:
    previewed, channel = deliver(ledger, KEY, FakeChannel(is_preview=True), clock), FakeChannel()

    for _ in range(2):
        assert deliver(ledger, KEY, channel, clock).state is State.SENT

    assert [delivery.payload for delivery in channel.arrived] == [previewed.payload]


def test_failed_delivery_is_previewed_when_the_credentials_are_gone(ledger: Ledger, clock: Clock) -> None:
    channel = FakeChannel()
    channel.before = fail(RefusedError("token revoked"))
    with pytest.raises(RefusedError):
        deliver(ledger, KEY, channel, clock)

    assert deliver(ledger, KEY, FakeChannel(is_preview=True), clock).state is State.PREVIEWED


@pytest.mark.parametrize("did_arrive", [True, False])
def test_delivery_in_doubt_or_sent_stays_what_it_is_when_previewed(
    ledger: Ledger, clock: Clock, did_arrive: bool
) -> None:
    channel, preview = FakeChannel(), FakeChannel(is_preview=True)
    leave_in_doubt(ledger, channel, clock, did_arrive=did_arrive)
    assert deliver(ledger, KEY, preview, clock).state is State.SENDING
    clock.move(DOUBT_WINDOW)
    sent = deliver(ledger, KEY, channel, clock)

    assert deliver(ledger, KEY, preview, clock) == sent


def test_draft_and_its_replies_are_sent_only_after_a_person_released_them(ledger: Ledger, clock: Clock) -> None:
    channel, key = FakeChannel(), "local|crossing|acme"
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, "fake", {"to": "a@b.example"}, NOW, [{"part": 1}], is_draft=True)

    assert deliver(ledger, key, channel, clock).state is State.DRAFT
    deliver_parts(ledger, key, channel, clock)
    assert deliver(ledger, key, FakeChannel(is_preview=True), clock).state is State.DRAFT
    assert (ledger.waiting("local|crossing|"), exits.stuck(ledger, "local|crossing|", NOW), channel.arrived) == (
        [],
        [],
        [],
    )

    assert exits.release(ledger, key, "read it", NOW) == [key, f"{key}:1"]
    deliver(ledger, key, channel, clock)
    deliver_parts(ledger, key, channel, clock)

    assert [each.key for each in channel.arrived] == [key, f"{key}:1"]
    with pytest.raises(exits.UndecidableError, match="was sent"):
        exits.release(ledger, key, "again", NOW)


def test_unknown_key_is_refused(ledger: Ledger, clock: Clock) -> None:
    with pytest.raises(KeyError, match="nothing"):
        deliver(ledger, "nothing", FakeChannel(), clock)


# Two at once


def test_delivery_is_not_sent_when_another_claims_it_first(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, claim = FakeChannel(), ledger.claim
    monkeypatch.setattr(ledger, "claim", lambda *seen: claim(*seen) and claim(*seen))

    assert deliver(ledger, KEY, channel, clock).state is State.SENDING
    assert channel.arrived == []


def test_delivery_is_not_sent_again_when_it_arrives_behind_a_slow_look(ledger: Ledger, clock: Clock) -> None:
    living, slow = FakeChannel(), FakeChannel()
    leave_in_doubt(ledger, living, clock, did_arrive=False)
    clock.move(DOUBT_WINDOW / 3)

    # the look was 100 s after the claim, its answer comes 400 s after it; meanwhile the living attempt arrived
    slow.on_find = lambda: clock.move(DOUBT_WINDOW)
    with pytest.raises(InDoubtError):
        deliver(ledger, KEY, slow, clock)

    assert slow.arrived == []


def test_delivery_is_not_sent_when_its_claim_took_too_long(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, claim = FakeChannel(), ledger.claim

    def claim_slowly(*seen: Any) -> Delivery | None:
        clock.move(ATTEMPT_LIMIT / 2 + SECOND)
        return claim(*seen)

    monkeypatch.setattr(ledger, "claim", claim_slowly)
    with pytest.raises(RefusedError, match="nothing was sent"):
        deliver(ledger, KEY, channel, clock)
    assert get(ledger).state is State.FAILED
    assert channel.arrived == []

    monkeypatch.undo()
    assert deliver(ledger, KEY, channel, clock).state is State.SENT


@pytest.mark.parametrize("outcome", [None, RefusedError("refused")], ids=str)
def test_late_outcome_changes_nothing_when_another_attempt_has_finished(
    ledger: Ledger, clock: Clock, outcome: Exception | None
) -> None:
    channel, other = FakeChannel(), FakeChannel()

    def other_finishes() -> None:
        clock.move(2 * DOUBT_WINDOW)
        other.arrived.append(get(ledger))
        assert deliver(ledger, KEY, other, clock).state is State.SENT
        if outcome:
            raise outcome

    channel.before = other_finishes
    if outcome:
        with pytest.raises(RefusedError):
            deliver(ledger, KEY, channel, clock)
    else:
        deliver(ledger, KEY, channel, clock)

    assert (get(ledger).state, get(ledger).receipt) == (State.SENT, "receipt 1")
    assert get(ledger).finished_at == NOW + 2 * DOUBT_WINDOW


def test_delivery_is_sent_once_when_threads_race(ledger: Ledger) -> None:
    keys = [f"race {number}" for number in range(25)]
    prepare(ledger, *keys)
    channel, barrier, problems = FakeChannel(), threading.Barrier(4, timeout=PATIENCE_SECONDS), list[BaseException]()

    def run() -> None:
        for key in keys:
            barrier.wait()
            try:
                deliver(ledger, key, channel, lambda: datetime.now(UTC))
            except InDoubtError:
                continue  # another is about to send it
            except BaseException as error:  # noqa: BLE001 - a thread has nobody who catches it
                problems.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert Counter(delivery.key for delivery in channel.arrived) == Counter(keys)
    assert {delivery.state for delivery in ledger.deliveries() if delivery.key in keys} == {State.SENT}


# Several parts


def prepare_thread(ledger: Ledger, key: str, replies: int) -> list[str]:
    """A delivery with that many replies; their keys in order."""
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, "fake", {"part": 0}, NOW, [{"part": n} for n in range(1, replies + 1)])
    return [f"{key}:{n}" for n in range(1, replies + 1)]


def test_replies_follow_their_parent_in_order(ledger: Ledger, clock: Clock) -> None:
    channel, replies = FakeChannel(), prepare_thread(ledger, "digest", 11)

    deliver_parts(ledger, "digest", channel, clock)
    assert channel.arrived == []  # nothing before the parent

    deliver(ledger, "digest", channel, clock)
    for _ in range(2):
        deliver_parts(ledger, "digest", channel, clock)

    assert [delivery.key for delivery in channel.arrived] == ["digest", *replies]
    assert [delivery.payload["part"] for delivery in channel.arrived] == list(range(12))
    assert {delivery.address for delivery in channel.arrived[1:]} == {"under receipt 1"}


@pytest.mark.parametrize("error", [RefusedError("missing scope"), InDoubtError("no answer")], ids=str)
def test_reply_that_fails_holds_back_those_after_it_alone(ledger: Ledger, clock: Clock, error: Exception) -> None:
    channel, replies = FakeChannel(), prepare_thread(ledger, "digest", 3)
    deliver(ledger, "digest", channel, clock)
    channel.before = lambda: fail(error)() if len(channel.arrived) == 2 else None
    with pytest.raises(type(error), match=str(error)):
        deliver_parts(ledger, "digest", channel, clock)
    assert [delivery.key for delivery in channel.arrived] == ["digest", replies[0]]
    assert ledger.waiting("digest") == ["digest"]

    channel.before = lambda: None
    clock.move(DOUBT_WINDOW)
    deliver_parts(ledger, "digest", channel, clock)

    assert [delivery.key for delivery in channel.arrived] == ["digest", *replies]
    assert ledger.waiting("digest") == []


def test_replies_wait_when_another_process_has_the_one_before(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, claim = FakeChannel(), ledger.claim
    prepare_thread(ledger, "digest", 2)
    deliver(ledger, "digest", channel, clock)
    monkeypatch.setattr(ledger, "claim", lambda *seen: claim(*seen) and claim(*seen))

    deliver_parts(ledger, "digest", channel, clock)

    assert [delivery.key for delivery in channel.arrived] == ["digest"]
    assert [part.state for part in ledger.parts("digest")] == [State.SENDING, State.PREPARED]


def test_replies_are_previewed_with_their_parent_and_sent_with_it(ledger: Ledger, clock: Clock) -> None:
    preview, channel, replies = FakeChannel(is_preview=True), FakeChannel(), prepare_thread(ledger, "digest", 2)
    deliver(ledger, "digest", preview, clock)
    deliver_parts(ledger, "digest", preview, clock)
    assert {part.state for part in ledger.parts("digest")} == {State.PREVIEWED}
    assert ledger.waiting("digest") == []

    deliver(ledger, "digest", channel, clock)
    assert ledger.waiting("digest") == ["digest"]
    deliver_parts(ledger, "digest", channel, clock)

    assert [delivery.key for delivery in channel.arrived] == ["digest", *replies]


def test_delivery_fails_without_an_attempt_when_it_may_not_go_anywhere(ledger: Ledger, clock: Clock) -> None:
    channel = FakeChannel()
    channel.on_address = fail(RefusedError("shared with another company"))
    with pytest.raises(RefusedError, match="shared"):
        deliver(ledger, KEY, channel, clock)
    assert (get(ledger).state, get(ledger).attempts) == (State.FAILED, 0)
    assert get(ledger).error == "shared with another company"

    channel.on_address = lambda: None
    assert deliver(ledger, KEY, channel, clock).state is State.SENT


def test_delivery_in_doubt_stays_so_when_it_may_not_go_anywhere(ledger: Ledger, clock: Clock) -> None:
    channel = FakeChannel()
    leave_in_doubt(ledger, channel, clock, did_arrive=False)
    clock.move(DOUBT_WINDOW)
    channel.on_address = fail(RefusedError("shared"))
    with pytest.raises(RefusedError):
        deliver(ledger, KEY, channel, clock)

    assert get(ledger).state is State.SENDING


EVENTS = st.sampled_from(["sent", "refused", "lost before", "lost after", "preview", "wait", "restart"])


@given(events=st.lists(EVENTS, max_size=12))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_delivery_arrives_once_when_anything_goes_wrong_in_any_order(ledger_url: str, events: list[str]) -> None:
    clock, channel = Clock(), FakeChannel()
    ledger = Ledger(ledger_url)
    with ledger.transaction() as connection:
        connection.execute(sa.delete(deliveries))
        connection.execute(sa.delete(messages))
    prepare(ledger, KEY)
    for event in [*events, "wait", "sent"]:
        clock.move(SECOND)
        if event == "wait":
            clock.move(DOUBT_WINDOW)
            continue
        if event == "restart":
            ledger.close()
            ledger = Ledger(ledger_url)
            continue
        errors = {"refused": RefusedError("refused"), "lost before": InDoubtError("?"), "lost after": InDoubtError("?")}
        channel.before = fail(errors[event]) if event in ("refused", "lost before") else lambda: None
        channel.after = fail(errors[event]) if event == "lost after" else lambda: None
        was_sent = get(ledger).state is State.SENT
        try:
            deliver(ledger, KEY, FakeChannel(is_preview=True) if event == "preview" else channel, clock)
        except (RefusedError, InDoubtError):
            assert not was_sent
        assert len(channel.arrived) <= 1
        assert not was_sent or get(ledger).state is State.SENT

    assert get(ledger).state is State.SENT
    assert len(channel.arrived) == 1
    ledger.close()


# Killed, for real, or at the same moment.


def run_as_program(*arguments: object) -> str:
    process = programs.run(as_program, *arguments)
    assert process.stderr == ""
    assert process.returncode == 0
    return process.stdout


def test_delivery_is_sent_once_when_processes_race(ledger_url: str, tmp_path: Path) -> None:
    run_as_program("race", ledger_url, tmp_path)

    ledger = Ledger(ledger_url)
    keys = [delivery.key for delivery in ledger.deliveries()]
    assert len(keys) == RACES
    assert Counter(FileChannel(tmp_path).lines()) == Counter(keys)
    assert {delivery.state for delivery in ledger.deliveries()} == {State.SENT}
    ledger.close()


@pytest.mark.parametrize(
    ("ledger_url", "kills"), [("sqlite", 1), ("sqlite", 2), ("postgres", 1)], indirect=["ledger_url"]
)
def test_delivery_arrives_once_when_the_process_is_killed_at_any_line(
    ledger_url: str, tmp_path: Path, kills: int
) -> None:
    killed = run_as_program("kill", ledger_url, tmp_path, kills).splitlines()

    ledger, channel = Ledger(ledger_url), FileChannel(tmp_path)
    keys = [delivery.key for delivery in ledger.deliveries() if delivery.key in killed]
    assert len(keys) == len(killed) > 25  # lines of deliver, claim, send and finish
    states = Counter(delivery.state for delivery in ledger.deliveries() if delivery.key in killed)
    assert states[State.PREPARED] > 0
    assert states[State.SENDING] > 0
    arrived = Counter(channel.lines())
    assert set(arrived.values()) == {1}
    assert 0 < sum(arrived[key] for key in keys) < len(keys)  # some were killed before the line, some after it

    for key in keys:  # at once: what arrived is found, what may be under way is left alone
        try:
            deliver(ledger, key, channel, lambda: NOW + SECOND)
        except InDoubtError:
            assert key not in channel.lines()
    for key in keys:  # later: what was left alone is sent
        assert deliver(ledger, key, channel, lambda: NOW + 9 * DOUBT_WINDOW).state is State.SENT
    assert Counter(channel.lines()) == Counter([*keys, *(arrived.keys() - keys)])
    ledger.close()


RACES, RACERS = 25, 3


class FileChannel:
    """Appends the key to a file that all processes share, as one write."""

    name = "file"
    is_preview = False
    promise = Promise.EXACTLY_ONCE

    def __init__(self, folder: Path) -> None:
        self._path = folder / "arrived"

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        return "arrived"

    def send(self, delivery: Delivery) -> str:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{delivery.key}\n".encode())
        os.close(descriptor)
        return delivery.key

    def find(self, delivery: Delivery) -> str | None:
        return delivery.key if delivery.key in self.lines() else None

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


def race(url: str, folder: Path) -> None:
    keys = [f"race {number}" for number in range(RACES)]
    ledger = Ledger(url)
    prepare(ledger, *keys)
    ledger.close()
    context = get_context("fork")
    barrier = context.Barrier(RACERS, timeout=PATIENCE_SECONDS)
    processes = [context.Process(target=_deliver_each, args=(url, folder, keys, barrier)) for _ in range(RACERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit(1)


def _deliver_each(url: str, folder: Path, keys: list[str], barrier: Any) -> None:
    ledger, channel = Ledger(url), FileChannel(folder)
    for key in keys:
        barrier.wait()
        try:
            deliver(ledger, key, channel, lambda: datetime.now(UTC))
        except InDoubtError:
            continue  # another is about to send it
    ledger.close()


def kill_at_each_line(url: str, folder: Path, kills: int) -> None:
    """For line 1, 2, 3, … of a delivery: run it in a process that dies there, `kills` times, a while apart.

    Prints the keys whose process died; ends with the first that lived.
    """
    ledger, keys = Ledger(url), [f"killed at line {line}" for line in range(1, 1000)]
    prepare(ledger, "lived", *keys)
    deliver(ledger, "lived", FileChannel(folder), lambda: NOW)  # so that no process has to put the statements together
    ledger.close()  # SQLite's connections must not be carried over a fork
    for line, key in enumerate(keys, 1):
        for kill in range(kills):
            status = _fork_and_die(ledger, folder, key, line, NOW - (kills - 1 - kill) * 2 * DOUBT_WINDOW)
            if kill == 0 and status == 0:
                return
        print(key, flush=True)  # noqa: T201 - the answer to the parent


def _fork_and_die(ledger: Ledger, folder: Path, key: str, line: int, now: datetime) -> int:
    process = os.fork()
    if process == 0:
        _kill_at(line)
        deliver(ledger, key, FileChannel(folder), lambda: now)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    if status not in (0, signal.SIGKILL):
        sys.exit(f"the process for {key!r} ended with {status}")
    return status


def _kill_at(line: int) -> None:
    files = {outbox.__file__, ledger_module.__file__, engines.__file__, __file__}
    lines_left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines_left
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            lines_left -= 1
            if not lines_left:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def as_program(program: str, database: str, directory: str, *numbers: str) -> None:
    with ledgers.quick_disk():
        if program == "race":
            race(database, Path(directory))
        else:
            kill_at_each_line(database, Path(directory), *map(int, numbers))
