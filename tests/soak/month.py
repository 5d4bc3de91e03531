"""A month of one installation in minutes: what happens in it, hour by hour, and what has to be true in the end.

Events land every hour. At the visited hours the clock is set, the server looks, and what it starts works as in
production; in between the installation sleeps, as on a machine that is off, and at the next visit it makes up for it.
Each hour has random numbers of its own, so that a seed is the same month however fast the machine is: where minutes run
out, fewer hours are visited, and the others are as they would have been.

Invariants. I1: the published counts of each account and hour are those of what was sent, once for each id, counted
here. I2: Stripe has exactly these for each customer and closed hour, none doubled. I3: no message was posted twice,
each crossing was judged by a digest, and each morning that was visited by today's code has its digest. What an older
version failed at, the next digest announces. And no run, delivery or report is left that waits for a hand.
"""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.ledger import decided
from orchestration.ledger.ledger import Ledger, State
from orchestration.messages.crossings import crossing_key
from orchestration.warehouse import published_copy
from orchestration.warehouse.queries import CROSSINGS
from tests.e2e.program import INHERITED, SLACK_TOKEN, STRIPE_KEY
from tests.fakes.postgres import Postgres
from tests.fakes.slack import CUT_OFF_AFTER, ERROR_AFTER, ERROR_BEFORE, LOST_AFTER, LOST_BEFORE, FakeSlack, rate_limited
from tests.fakes.stripe import FAILED_AFTER, FAILED_BEFORE, FakeStripe
from tests.soak.clock import Clock
from tests.soak.processes import DownError, Machine
from tests.support.builders import land, make_event, make_quota
from tests.support.waiting import wait_until

HOUR = timedelta(hours=1)
START = datetime(2027, 3, 1, tzinfo=UTC)
ZONE = "America/New_York"
"""Its clocks are put forward on 14 March."""
ACCOUNTS = ("acme", "beta", "gamma", "delta")
CUSTOMERS = {"acme": "cus_acme", "beta": "cus_beta", "gamma": "cus_acme", "delta": "cus_delta"}
FAULTS = [LOST_BEFORE, LOST_AFTER, CUT_OFF_AFTER]
WORK_SECONDS = 900.0
"""No run works for so long; it only ends a soak that hangs."""
LOOKS = 12
"""At one visit, at most."""
TYPICAL_SECONDS = 6.0
"""Of the processor, that a run and its dbt work for; kills fall anywhere in them."""
RECOVERY = (1, 9, 34)
"""Hours after the last trouble: a run that an older version left is closed after six."""
AFTER_A_MORNING = (2, 8, 9)
"""Hours after a morning whose digest was not posted: the disk was full, say, or the clock too early for it.

A run that an older version left is closed after six hours, and its digest comes at the next tick, five minutes later.
"""
DAGSTER = """\
telemetry: {enabled: false}
nux: {enabled: false}
run_monitoring: {enabled: true, max_runtime_seconds: 21600}
concurrency: {runs: {max_concurrent_runs: 1}}
compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
run_launcher: {module: soak_launcher, class: ForkingLauncher}
"""
ON_POSTGRES = """\
storage:
  postgres:
    postgres_url: {env: HEADROOM_DAGSTER_POSTGRES_URL}
"""
KILLS = (
    *(("run",), ("dbt",), ("server",), ("collector",)),
    *(("run", "dbt"), ("server", "run"), ("server", "run", "dbt", "collector")),
)


@dataclass(frozen=True)
class Code:
    """A version of the project, and the hour from which it is installed."""

    name: str
    folder: Path
    since: datetime


class Month:
    def __init__(
        self,
        seed: int,
        folder: Path,
        slack: FakeSlack,
        stripe: FakeStripe,
        versions: list[Code],
        postgres: Postgres | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.seed, self.folder, self.slack, self.stripe, self.postgres = seed, folder, slack, stripe, postgres
        self.versions = sorted(versions, key=lambda version: version.since)
        self.clock = clock or Clock(folder, START)
        self.tally = Counter[str]()
        self.sent: dict[str, tuple[str, datetime]] = {}
        """Account and hour of what a producer has been given a receipt for, by id."""
        self.produced = START
        self.mornings: dict[str, bool] = {}
        """Keys of the digests that have to be posted, and whether by an older version."""
        self.refused: list[dict[str, Any]] = []
        """Events that the collector did not take: sent again, with their ids."""
        self.full_disks = frozenset[datetime]()
        """Visits at which others take all of the data folder's disk."""
        self.resize: Callable[[int | None], object] = lambda _: None
        """Makes that disk so large, or as large as it was."""
        self.visited = START
        """The last moment that was."""
        self.data, self.landing = folder / "data", folder / "landing"
        self.data.mkdir(exist_ok=True)
        self.landing.mkdir()
        self.machine: Machine | None = None
        self._ended_runs = 0
        self._environment = self._variables()
        self._prepare()

    def _variables(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        unset = dict.fromkeys(("HEADROOM_ACCOUNTS", "HEADROOM_SUBJECTS", "HEADROOM_CUSTOMERS"), "")
        self.slack.token = SLACK_TOKEN
        self.stripe.keys[STRIPE_KEY] = None
        stores = {}
        if self.postgres:
            url = self.postgres.database()
            stores = {"HEADROOM_LEDGER_URL": url, "HEADROOM_DAGSTER_POSTGRES_URL": url}
        return {
            **inherited,
            **unset,
            **self.clock.variables,
            **stores,
            "DAGSTER_HOME": str(self.data / "dagster"),
            "HEADROOM_ENV": "production",
            "HEADROOM_TIMEZONE": ZONE,
            "HEADROOM_DATA": str(self.data),
            "HEADROOM_LANDING": str(self.landing),
            "SLACK_BOT_TOKEN": SLACK_TOKEN,
            "SLACK_API_URL": self.slack.url,
            "HEADROOM_SLACK_CHANNEL": self.slack.channel,
            "STRIPE_API_KEY": STRIPE_KEY,
            "STRIPE_API_BASE": self.stripe.url,
            "HEADROOM_STRIPE_REQUESTS_PER_SECOND": "1000",
            "HEADROOM_STRIPE_MAX_CHANGE_PCT": "1000",  # nobody is here to approve
            "HEADROOM_STRIPE_GRACE_HOURS": "72",  # the machine sleeps through the end of March: its usage still counts
            "HEADROOM_STALE_AFTER_HOURS": "48",
        }

    def _prepare(self) -> None:
        self.slack.clock = self.stripe.clock = self.clock.timestamp
        self.stripe.add_meter("api-calls")
        for customer in set(CUSTOMERS.values()):
            self.stripe.add_customer(customer)
        rows = [
            f"{account},{account.title()},dana@example.com,growth,499.00,{CUSTOMERS[account]}" for account in ACCOUNTS
        ]
        header = "account_id,name,owner,plan,mrr,stripe_customer_id"
        (self.data / "accounts.csv").write_text("\n".join([header, *rows, ""]))
        home = self.data / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text(DAGSTER + (ON_POSTGRES if self.postgres else ""))

    # Versions

    def version(self, at: datetime) -> Code:
        """What is installed at that moment, or has to be."""
        return [each for each in self.versions if each.since <= at][-1]

    def is_upgraded(self, at: datetime) -> bool:
        """Whether a visit at that moment begins with a newer version."""
        return self.machine is not None and self.machine.code != self.version(at).folder

    def install(self, version: Code) -> None:
        """The version takes over the data folder, as compose does it: tables first, then the processes."""
        if self.machine:
            with suppress(DownError):
                self.machine.look()  # what it starts is killed with it
            self.wait_for_work(self.chance("takeover", version.since).uniform(0, TYPICAL_SECONDS))
            self.tally["runs: killed by a newer version's start"] += len(self.machine.working("run"))
            self._ended_runs = self.runs
            self.machine.end()
            self.machine = None
            self.tally["happened: a newer version took over"] += 1
        self.machine = Machine(version.folder, self.folder / f"machine-{version.name}", self._environment)
        self.machine.command("orchestration.cli.main", "db", "upgrade")
        if version is not self.versions[0]:
            self.machine.command("dagster", "instance", "migrate")

    @property
    def runs(self) -> int:
        """Processes of runs that were started."""
        return self._ended_runs + (list(self.machine.started.values()).count("run") if self.machine else 0)

    def end(self) -> None:
        if self.machine:
            self.machine.end()

    # Producers

    def chance(self, what: str, at: datetime) -> random.Random:
        return random.Random(f"{self.seed} {what} {at.isoformat()}")

    def produce(self, until: datetime) -> None:
        """The events of the hours that have passed; some come late, some twice, some over HTTP."""
        lines: list[dict[str, Any]] = []
        if self.produced == START and until >= START + HOUR:
            land(self.landing, "quotas.ndjson", *(make_quota(name, 400, "2027-02-28T00:00:00Z") for name in ACCOUNTS))
        posted, self.refused = self.refused, []
        while self.produced + HOUR <= until:
            hour, chance = self.produced, self.chance("events", self.produced)
            for account in ACCOUNTS:
                for number in range(chance.choice([0, 1, 2, 3, 5])):
                    late = chance.choice([0, 0, 0, 0, 0, 1, 2, 20]) * HOUR
                    at = max(START, hour - late) + timedelta(seconds=chance.randrange(3600))
                    number_ = f"{account}-{hour:%m%d%H}-{number}"
                    event = make_event(account, f"{at:%Y-%m-%dT%H:%M:%SZ}", uuid=number_)
                    event["properties"]["endpoint"] = "/v1/soak"
                    (posted if chance.random() < 0.3 else lines).append(event)
                    if chance.random() < 0.1:
                        lines.append(event)
                        self.tally["happened: an event was sent twice"] += 1
            self.produced += HOUR
        if lines:
            path = land(self.folder, f"{self.produced:%m%dT%H}.ndjson", *lines)
            path.rename(self.landing / path.name)
            self._count(lines)
        if posted:
            assert self.machine
            if self.machine.send(posted):
                self._count(posted)
                self.tally["collector: requests taken"] += 1
            else:
                self.refused = posted
                self.tally["collector: requests not taken, sent again later"] += 1

    def _count(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            at = datetime.fromisoformat(event["timestamp"])
            self.sent[event["uuid"]] = event["properties"]["account_id"], at.replace(minute=0, second=0)

    # A visit

    def begin(self, at: datetime) -> None:
        """A first look, before anything has landed: schedules tick from there on."""
        self.clock.set(at)
        self.install(self.versions[0])
        assert self.machine
        self.machine.look()

    def visit(self, at: datetime, *, calmly: bool = False, kinds: Sequence[str] = ()) -> None:
        """What happens at that moment, until nothing works any more: `calmly` nothing bad, or these kills.

        A morning that did not get its digest is followed by calm hours of the same day.
        """
        self.visited = at
        version = self.version(at)
        self.clock.set(at)
        if self.machine is None or self.is_upgraded(at):
            self.install(version)
        chance = self.chance("trouble", at)
        is_old = version is not self.versions[-1]
        trouble = "kill" if kinds else "none" if calmly or is_old else self.trouble(at, chance)
        self.slack.calm()
        self.stripe.calm()
        self.slack.is_down = self.stripe.is_down = False
        local = at.astimezone(ZoneInfo(ZONE))
        if local.hour == 8:
            self.mornings[digest_of(local)] = is_old
        if not (calmly or kinds):
            self.vendors(chance)
        if trouble == "clock":
            self.clock.wrong_by(timedelta(minutes=chance.choice([-150, -45, -5, 5, 45])))
        with self.full_disk(chance) if trouble == "disk" else nullcontext():
            self.produce(at)
            self.settle(chance, trouble, kinds)
        self.clock.wrong_by(timedelta())
        self.tally["hours: visited"] += 1
        for after in AFTER_A_MORNING:
            if local.hour == 8 and not (kinds or posted(self.slack, digest_of(local))):
                self.tally["mornings: visited again, for their digest"] += 1
                self.visit(at + after * HOUR, calmly=True)

    def trouble(self, at: datetime, chance: random.Random) -> str:
        if at in self.full_disks:
            return "disk"
        return chance.choice(["none", "none", "kill", "kill", "kill", "postgres", "clock"])

    def vendors(self, chance: random.Random) -> None:
        happens = chance.choice(["nothing"] * 6 + ["slack down", "stripe down", "slack fault", "stripe fault"])
        if happens != "nothing":
            self.tally[f"happened: {happens}"] += 1
        self.slack.is_down, self.stripe.is_down = happens == "slack down", happens == "stripe down"
        if happens == "slack fault":
            self.slack.then(chance.choice([*FAULTS, ERROR_BEFORE, ERROR_AFTER, rate_limited(60)]))
        if happens == "stripe fault":
            self.stripe.then(*[chance.choice([*FAULTS, FAILED_BEFORE, FAILED_AFTER])] * 2)

    def settle(self, chance: random.Random, trouble: str, kinds: Sequence[str]) -> None:
        """Looks until no run works or waits; one trouble falls somewhere in it."""
        assert self.machine
        parts = chance.choice(["schedules", "schedules", "all"])  # what looks first when the hour has struck
        for _ in range(LOOKS):
            looked, parts = parts, "all"
            try:
                said = self.machine.look(looked)
            except DownError:
                self.tally["happened: the server ended by itself"] += 1
                said = {"failed": 1, "in_progress": []}
            self.tally["looks: all"] += 1
            self.tally["looks: with an error"] += bool(said["failed"])
            if self.machine.working():
                if trouble in ("kill", "postgres"):
                    self.disturb(chance, trouble, kinds)
                    trouble = "none"
                machine = self.machine
                wait_until(lambda: not machine.working(), WORK_SECONDS)  # noqa: B023 - waits here
            elif looked == "all" and not said["in_progress"] and not said["failed"]:
                return
            self.clock.set(self.clock.now() + timedelta(seconds=35))  # sensors look every 30
        self.tally["hours: where something still waited"] += 1

    def disturb(self, chance: random.Random, trouble: str, kinds: Sequence[str]) -> None:
        """Something breaks when what works has worked for so long, or at its end."""
        assert self.machine
        self.wait_for_work(chance.uniform(0, TYPICAL_SECONDS))
        if trouble == "postgres" and self.postgres:
            self.postgres.restart()
            self.tally["happened: Postgres crashed and came back"] += 1
        else:
            kinds = kinds or chance.choice(KILLS)
            if self.machine.kill(*kinds):
                self.tally[f"killed: {' and '.join(kinds)}"] += 1

    def wait_for_work(self, seconds: float) -> None:
        """Until what works has used so much of the processor, or has ended: seconds of the clock say nothing."""
        assert self.machine
        machine = self.machine
        wait_until(lambda: machine.worked_seconds() >= seconds or not machine.working(), WORK_SECONDS)

    @contextmanager
    def full_disk(self, chance: random.Random) -> Iterator[None]:
        """Of the data folder: all but a little is taken by others."""
        left = chance.choice([0, 16_384, 200_000, 3_000_000])
        self.resize(shutil.disk_usage(self.data).used + left)
        self.tally["happened: the disk was full"] += 1
        try:
            yield
        finally:
            self.resize(None)

    # The end

    def recover(self, at: datetime, hours: Sequence[int] = RECOVERY) -> None:
        """Calm visits, so many hours after that moment: nobody does anything by hand."""
        for after in hours:
            self.visit(at + after * HOUR, calmly=True)

    def wrong(self) -> list[str]:
        """What is not as it has to be; each in a line."""
        assert self.machine
        found: list[str] = []
        truth = Counter(self.sent.values())
        counted = {
            (row["account_id"], row["hour_start"]): row["calls"]
            for row in published_copy.query(
                self.data / "published.duckdb", "select account_id, hour_start, calls from hourly_usage where calls > 0"
            )
        }
        found += differences("I1", truth, counted)
        self.tally["I1: hours of accounts compared"] = len(truth)
        now = self.clock.now().replace(minute=0, second=0, microsecond=0)
        billed: Counter[tuple[str, datetime]] = Counter()
        for (account, hour), units in truth.items():
            if hour < now:
                billed[CUSTOMERS[account], hour] += units
        shown = {
            (customer, datetime.fromtimestamp(hour, UTC)): int(units)
            for customer in set(CUSTOMERS.values())
            for hour, units in self.stripe.totals(customer, "api-calls", at_once=True).items()
            if units
        }
        found += differences("I2", billed, shown)
        self.tally["I2: hours of customers compared"] = len(billed)
        counts = self.slack.counts()
        found += [f"I3 {key}: posted {times} times" for key, times in sorted(counts.items()) if times > 1]
        missing = {key: is_old for key, is_old in sorted(self.mornings.items()) if not posted(self.slack, key)}
        found += [f"I3 {key}: never posted" for key, is_old in missing.items() if not is_old]
        self.tally["I3: messages, replies and files"] = len(counts)
        self.tally["I3: mornings with a digest"] = len(self.mornings) - len(missing)
        self.tally["I3: mornings that an older version left without one"] = sum(missing.values())
        said = self.machine.look()
        found += [f"run {run} of {job} is still {status}" for run, job, status in said["in_progress"]]
        ledger = Ledger(self._environment.get("HEADROOM_LEDGER_URL") or f"sqlite:///{self.data / 'ledger.sqlite'}")
        found += [
            f"delivery {each.key} is {each.state}" for each in ledger.deliveries() if each.state is not State.SENT
        ]
        found += self._not_judged(ledger)
        ledger.close()
        return found

    def _not_judged(self, ledger: Ledger) -> list[str]:
        """Crossings from before the last digest on which none has a verdict: nobody would ever hear of them."""
        with ledger.transaction() as connection:
            last, verdicts = decided.last_digest_at(connection, "production"), ledger.verdicts(connection, "production")
        rows = published_copy.query(self.data / "published.duckdb", CROSSINGS)
        judged = [row for row in rows if last and row["crossed_at"] <= last]
        self.tally["I3: crossings compared"] = len(judged)
        return [f"I3 {key}: not judged" for key in map(crossing_key, judged) if key not in verdicts]


def digest_of(morning: datetime) -> str:
    """The key of its digest."""
    return f"production|digest|{morning.date().isoformat()}"


def posted(slack: FakeSlack, digest: str) -> int:
    """How often that digest is there: of an older version by its own key, else by that of its route."""
    counts = slack.counts()
    return counts[digest] + counts[f"{digest}|slack"]


def differences(name: str, truth: Any, found: Any) -> list[str]:
    return [
        f"{name} {key[0]}, {key[1]:%d %b %H} h: sent {truth.get(key, 0)}, found {found.get(key, 0)}"
        for key in sorted(truth.keys() | found.keys())
        if truth.get(key, 0) != found.get(key, 0)
    ]
