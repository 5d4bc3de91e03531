"""Random mornings, each from a seed: lost answers, refusals, kills, two runs at once, the next day before the last one
is done, days without any run, crossings before the first digest and data that comes late. However they went, each part
of each digest stands in the channel once, in order, and each crossing in the first digest that could know of it.

The ledger, the outbox, slack_sdk and its bytes are the real ones; Slack is on loopback, the clock is moved by hand.
"""

import json
import os
import random
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration.channels.slack import blocks
from orchestration.channels.slack import channel as slack_module
from orchestration.channels.slack.channel import SlackChannel
from orchestration.ledger import decided, outbox
from orchestration.ledger import ledger as ledger_module
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import ATTEMPT_LIMIT, InDoubtError, RefusedError, deliver, deliver_parts
from orchestration.messages.crossings import judge
from tests.fakes.postgres import Postgres
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
    rate_limited,
    refused,
)
from tests.support import ledgers, programs
from tests.support.builders import CHART, make_digest, make_group
from tests.support.killing import KilledError, at_line

EIGHT = datetime(2026, 11, 20, 8, tzinfo=UTC)
DAYS = 3
PREFIX = "local|digest|"
FAULTS = [
    *(LOST_BEFORE, LOST_AFTER, ERROR_BEFORE, ERROR_AFTER, CUT_OFF_AFTER, GARBLED_AFTER, PORTAL_BEFORE),
    *(rate_limited(60), refused("internal_error"), refused("not_in_channel")),
]
METHODS = [
    *["chat.postMessage"] * 4,
    *("conversations.info", "conversations.history", "conversations.replies"),
    *("files.getUploadURLExternal", UPLOAD, "files.completeUploadExternal"),
]
LINES = 220
"""About as many as a run has, in the outbox and the channel, that sends a whole digest."""


@dataclass(frozen=True)
class Crossing:
    account: str
    crossed_at: datetime
    known_at: datetime

    @property
    def row(self) -> dict[str, Any]:
        key = {"account_id": self.account, "meter": "api-calls", "unit": "calls", "quota": 5, "threshold": "80%"}
        period = {"period_start": EIGHT.replace(day=1, hour=0), "period_end": EIGHT.replace(month=12, day=1, hour=0)}
        order = {"hits_cap_on": None, "hits_cap_in_period": None, "is_current_period": True, "limit_kind": None}
        order |= {"pct_of_cap": Decimal(80), "mrr": None}
        return {**key, **period, **order, "crossed_at": self.crossed_at}


def crossings(seed: int) -> list[Crossing]:
    """Those of a world, from the day before the first digest could tell of them on; some are known a while later."""
    chance = random.Random(seed)
    found = []
    for day in range(-1, DAYS):
        for _ in range(chance.choice([0, 1, 3, 5, 9])):
            at = EIGHT + timedelta(days=day, hours=-chance.uniform(0, 24))
            late = timedelta(hours=chance.choice([0, 0, 0, 3, 30]))
            found.append(Crossing(f"a{len(found):02}", at, at + late))
    return found


def decide(ledger: Ledger, on: date, seed: int, now: datetime) -> None:
    """Freeze the digest of the day and the verdicts, as prepare_digest does with rows of the marts."""
    key = f"{PREFIX}{on}"
    with ledger.transaction() as connection:
        if ledger.delivery(key, connection):
            return
        known = [crossing.row for crossing in crossings(seed) if crossing.known_at <= now]
        before, last = ledger.announced(connection, "local"), decided.last_digest_at(connection, "local")
        news, verdicts = judge(known, before, on, ZoneInfo("UTC"), last)
        digest = {**make_digest(1, chart=CHART), "date": on.isoformat()}
        digest["items"] = [{**item, "name": row["account_id"]} for row in news for item in digest["items"]]
        digest["groups"] = [make_group(count=len(news))] if news else []
        message, replies = blocks.digest_payloads(digest, digest["items"], "local", {})
        ledger.prepare(connection, key, "slack", message, now, replies)
        names = ("account_id", "meter", "period_start", "quota", "threshold")
        ledger.record_crossings(
            connection,
            [
                {
                    **dict(zip(names, verdict.key, strict=True)),
                    "env": "local",
                    "crossed_at": verdict.crossed_at,
                    "detected_at": now,
                    "outcome": verdict.outcome,
                    "message_key": key,
                }
                for verdict in verdicts
            ],
        )


def run(ledger: Ledger, url: str, day: int, seed: int, clock: Callable[[], datetime]) -> None:
    """The digest's run on that day, from the decision on: what waits, then the digest and its replies."""
    channel = SlackChannel("xoxb-fake-token", {"sales": "C0DIGEST"}, url)
    try:
        decide(ledger, EIGHT.date() + timedelta(days=day), seed, clock())
        for key in ledger.waiting(PREFIX):
            try:
                deliver(ledger, key, channel, clock)
                deliver_parts(ledger, key, channel, clock)
            except (RefusedError, InDoubtError):
                continue
    finally:
        ledger.close()  # as the end of a process does


class SeededDays:
    """One schedule: the world of a seed, and what happens in it."""

    def __init__(self, seed: int, database: str, slack: FakeSlack) -> None:
        self.random, self.database, self.slack, self.seed = random.Random(seed), database, slack, seed
        self.ledger = Ledger(database)
        """Of all runs: what is opened again knows the statements, which take longer to put together than to run."""
        self.now, self.day = EIGHT, 0
        slack.clock = lambda: self.now.timestamp()
        slack.page_size = 2

    def run(self, ledger: Ledger | None = None) -> None:
        run(ledger or self.ledger, self.slack.url, self.day, self.seed, lambda: self.now)

    def disturbed_run(self) -> None:
        """A run that is killed somewhere, or that another one comes across, or neither."""
        event, line = self.random.choice(["kill", "another", "nothing"]), self.random.randrange(1, LINES)
        trace = None
        if event == "kill":
            trace = at_line(line, {outbox.__file__, slack_module.__file__}, self.kill)
        if event == "another":
            trace = at_line(line // 2, {outbox.__file__}, self.another)
        before = sys.gettrace()  # of whoever measures coverage
        sys.settrace(trace or before)
        try:
            self.run()
        except KilledError:
            pass
        finally:
            sys.settrace(before)

    def kill(self) -> None:
        raise KilledError

    def another(self) -> None:
        self.now += timedelta(seconds=self.random.choice([0, 1, 25]))  # an attempt lasts no longer than half a minute
        self.run(Ledger(self.database))

    def disturb(self) -> None:
        """Runs with whatever goes wrong, until all days have had some."""
        while self.day < DAYS:
            for _ in range(self.random.choice([0, 0, 1, 2])):
                self.slack.then(self.random.choice(FAULTS), method=self.random.choice(METHODS))
            self.disturbed_run()
            self.now += self.random.choice([timedelta(seconds=5), ATTEMPT_LIMIT, timedelta(hours=1)])
            if self.random.random() < 0.4:
                self.day += self.random.choice([1, 1, 2])
                self.now = EIGHT + self.day * timedelta(days=1)

    def recover(self) -> None:
        """Runs of the last day with nothing in their way."""
        self.day = DAYS - 1
        self.now = max(self.now, EIGHT + self.day * timedelta(days=1))
        self.slack.calm()
        for _ in range(2):
            self.now += ATTEMPT_LIMIT
            self.run()

    def check(self) -> None:
        found = self.ledger.deliveries()
        self.ledger.close()
        states = {delivery.key: delivery.state for delivery in found}
        assert set(states.values()) == {State.SENT}
        days = {key: key.removeprefix(PREFIX) for key in states if ":" not in key}
        assert set(self.slack.counts().values()) == {1}
        posted = {message["metadata"]["event_payload"]["key"]: message for message in self.slack.messages}
        assert set(posted) == set(days)
        expected = self.expected({days[each.key]: each.created_at for each in found if each.key in days})
        for key, message in posted.items():
            thread = self.slack.threads.get(message["ts"], [])
            assert [name for shown in thread for name in drawn(shown)] == expected[days[key]]
            assert drawn(message) == expected[days[key]][: blocks.MAX_NEWS]
            accounts = len(expected[days[key]])
            files = [file["name"] for reply in thread for file in reply.get("files", ())]
            ends = [*(f"-{n}.png" for n in range(1, min(accounts, 3) + 1)), *[".csv"][:accounts]]
            assert files == [f"usage-digest-local-{days[key]}{end}" for end in ends]
            assert not any(reply["text"] for reply in thread[len(thread) - len(files) :])

    def expected(self, decided_at: dict[str, datetime]) -> dict[str, list[str]]:
        """The accounts of each digest: every crossing in the first that could know of it, but for those so old that
        the very first digest took them for the past."""
        told: dict[str, list[str]] = {on: [] for on in decided_at}
        first = min(decided_at)
        past = datetime.fromisoformat(f"{first}T08:00:00Z") - timedelta(days=1)
        for crossing in crossings(self.seed):
            on = next((on for on in sorted(told) if decided_at[on] >= crossing.known_at), None)
            if on and (on != first or crossing.crossed_at >= past):
                told[on].append(crossing.account)
        return told


def drawn(message: dict[str, Any]) -> list[str]:
    """The accounts that the message has, in their order."""
    return re.findall(r'"text": "(a\d\d)\b', json.dumps(message.get("blocks", ())))


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    monkeypatch.setattr(blocks, "MAX_ITEMS", 3)  # so that few accounts make several replies
    with FakeSlack() as server:
        yield server


@pytest.fixture
def new_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes a ledger and returns its URL."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        return server.ledger

    def copied() -> str:
        path = Path(tempfile.mkdtemp(dir=tmp_path), "ledger.sqlite")  # a killed one leaves more than one file
        path.write_bytes(ledgers.empty())
        return f"sqlite:///{path}"

    return copied


@pytest.mark.parametrize(
    ("new_ledger", "seeds"),
    [*(("sqlite", range(first, first + 20)) for first in range(0, 60, 20)), ("postgres", range(6))],
    indirect=["new_ledger"],
    ids=str,
)
def test_every_part_is_posted_once_and_in_order_whatever_happened(
    slack: FakeSlack, new_ledger: Callable[[], str], seeds: range
) -> None:
    for seed in seeds:
        slack.calm()
        slack.clear()
        seeded = SeededDays(seed, new_ledger(), slack)
        try:
            seeded.disturb()
            seeded.recover()
            seeded.check()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


# Killed, for real.


@pytest.mark.parametrize(
    ("new_ledger", "seed"), [("sqlite", 1), ("sqlite", 2), ("postgres", 1)], indirect=["new_ledger"]
)
def test_every_part_is_posted_once_and_in_order_when_processes_are_killed(
    slack: FakeSlack, new_ledger: Callable[[], str], seed: int
) -> None:
    seeded = SeededDays(seed, new_ledger(), slack)
    ends = []
    for day in range(DAYS):
        seeded.now = EIGHT + day * timedelta(days=1)
        line = seeded.random.randrange(1, 2 * LINES)
        arguments = (seeded.database, slack.url, day, seed, seeded.now.isoformat(), line)
        ends.append(programs.run(run_until_killed, *arguments).returncode)

    seeded.recover()
    seeded.check()
    assert set(ends) <= {-signal.SIGKILL, 0}  # a day without news may be over before that line
    assert ends.count(-signal.SIGKILL) >= 2


def run_until_killed(database: str, url: str, day: str, seed: str, now: str, line: str) -> None:
    blocks.MAX_ITEMS = 3
    files = {outbox.__file__, ledger_module.__file__, slack_module.__file__}
    sys.settrace(at_line(int(line), files, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    run(Ledger(database), url, int(day), int(seed), lambda: datetime.fromisoformat(now))
