"""Random weeks of billing, each from a seed: usage that comes late or is corrected, accounts that move, customers that
are deleted, subscriptions with periods of their own that end or are missing, mappings that disappear, a warehouse
rebuilt with other numbers, a ledger restored from a backup; lost answers, errors, a customer that Stripe always fails
for, a Stripe that is down or adds up late, clocks that differ, kills, and two runs at once. However they went: what
Stripe bills of each customer and hour is what was used, or a row of the ledger names that hour and says what is wrong;
and each final invoice has the units that were used in its period, or a certificate says what differs.

Planning, the ledger, sending, the SDK and its bytes are the real ones; Stripe is on loopback, the clock is moved by
hand. As a program it goes through as many seeds as it is told, and prints what happened: `make billing-faults`.
"""

import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from orchestration.billing import (
    approval,
    certify,
    confirm,
    doubt,
    due,
    first_reports,
    forgotten,
    invoicing,
    meter,
    meter_ledger,
    metering,
    reconcile,
    report,
    report_rows,
    reporter,
)
from orchestration.billing import read_invoices as reading
from orchestration.billing.certificate import Status
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.meter import StoppedError
from orchestration.billing.metering import ReportState
from orchestration.billing.read_invoices import read_invoices
from orchestration.billing.revisions import Report
from orchestration.channels.stripe import connect_invoices, connect_meter
from orchestration.channels.stripe import meter as stripe_channel
from orchestration.ledger import ledger as ledger_module
from orchestration.ledger.engines import BusyError
from orchestration.usage.formatting import counted
from orchestration.usage.periods import month_start, utc_hour
from tests.fakes.slack import (
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
from tests.fakes.stripe import FAILED_AFTER, FAILED_BEFORE, METER_EVENTS, FakeStripe
from tests.fakes.stripe_store import Request
from tests.support.billing_world import DAY, HOUR, QuickWorld, World, naive, quick
from tests.support.killing import KilledError, at_line

MODES = {"totals": "hour", "differences": None}
"""The event_time_window of the meter."""
STARTS = [
    datetime(2026, 11, 10, 8, 5, tzinfo=UTC),
    datetime(2026, 11, 9, 8, 5, tzinfo=UTC),
    datetime(2026, 11, 29, 20, 5, tzinfo=UTC),
    datetime(2026, 11, 30, 20, 50, tzinfo=UTC),
]
FAULTS: dict[str, Fault] = {
    "request lost": LOST_BEFORE,
    "answer lost": LOST_AFTER,
    "500, nothing done": FAILED_BEFORE,
    "500, done": FAILED_AFTER,
    "502, nothing done": ERROR_BEFORE,
    "502, done": ERROR_AFTER,
    "answer cut off": CUT_OFF_AFTER,
    "answer garbled": GARBLED_AFTER,
    "login page": PORTAL_BEFORE,
    "429": replace(FAILED_BEFORE, status=429, headers={"Retry-After": "30"}),
    "429 by a proxy": rate_limited(30),
}
READS = ["/v1/billing/meters", "/v1/customers", "/v2/core/events"]
LINES = 700
"""About as many as a run has that sends a few reports."""
SENDING = {reporter.__file__, confirm.__file__, doubt.__file__}
FILES = SENDING | {
    each.__file__
    for each in (report, reconcile, meter, meter_ledger, metering, stripe_channel, approval, due, forgotten)
}
FILES |= {each.__file__ for each in (certify, invoicing, reading, first_reports, report_rows)}
ORDER = ["seeds", "happened", "fault", "runs", "stripe", "hours", "invoices"]
UNSETTLED = (ReportState.PREPARED, ReportState.SENDING, ReportState.SENT, ReportState.LOST)
APPROVALS = 3
PATIENCE = 14
"""Rounds of recovery at most."""


class Inline:
    """Sends in the thread of its caller, so that a seed is the same every time."""

    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    map = staticmethod(map)


class Weeks(QuickWorld):
    """The schedule of one seed."""

    def __init__(self, seed: int, folder: Path, stripe: FakeStripe, mode: str, meter: str = "") -> None:
        super().__init__(folder, stripe, meter=meter)
        self.random, self.mode, self.tally = random.Random(f"{seed} {mode}"), mode, Counter[str]()
        self.published: object = None
        self.now = self.random.choice(STARTS)
        self.began = self.now - DAY
        self.ahead = timedelta()
        """Of our clock before Stripe's."""
        self.calls: dict[tuple[str, datetime], int] = {}
        self.customers: dict[str, list[tuple[datetime, str]]] = {}
        """Of each account, with the hour from which on."""
        self.rebuilt: dict[tuple[str, datetime], int] = {}
        """What the warehouse said before it was rebuilt wrongly."""
        stripe.add_meter(self.event_name, MODES[mode])
        for account, customer in {"a1": "cus_a", "a2": "cus_a", "b": "cus_b", "c": "cus_c"}.items():
            self.customers[account] = [(self.now - 400 * DAY, customer)]
            self.calls[account, utc_hour(self.now) - HOUR] = self.random.randint(1, 9)
        self.fails_for = ""
        """A customer whose requests Stripe fails, for a run."""
        self.unmapped: dict[str, list[tuple[datetime, str]]] = {}
        """Accounts whose mapping disappeared, with the customers that they had."""
        for customer in "abcde":
            stripe.add_customer(f"cus_{customer}")
        for customer in "abcd" if self.random.random() < 0.8 else "abc":
            self.subscribe(f"cus_{customer}", self.random.choice([None, None, self.anchor()]))
        stripe.answer = partial(self.answer, stripe.answer)  # type: ignore[method-assign]
        self.publish()

    def anchor(self) -> datetime:
        """A period of its own: it ends within hours, or days; at a full hour, UTC."""
        return utc_hour(self.now) - 31 * DAY + self.random.choice([3, 20, 50, 200, 500]) * HOUR

    # What World does, sooner

    def clock(self) -> datetime:
        return self.now + self.ahead

    def publish(self) -> None:
        usage = {(a, self.customer(a, hour), hour): units for (a, hour), units in self.calls.items()}
        published = usage, month_start(self.clock())
        if published == self.published:  # most visits find the usage that the last one found
            self.memory.execute("update data_quality set as_of = ?", [naive(self.clock())])
            return
        self.usage, self.published = usage, published
        super().publish()

    def customer(self, account: str, hour: datetime) -> str | None:
        if account in self.unmapped:
            return None
        return next(customer for since, customer in reversed(self.customers[account]) if since <= hour)

    def answer(self, usual: Callable[[Request], Fault], request: Request) -> Fault:
        """Stripe's, but for a customer that it always fails for."""
        payload = request.params.get("payload")
        is_failed = bool(self.fails_for) and isinstance(payload, dict) and self.fails_for in payload.values()
        return FAILED_BEFORE if is_failed else usual(request)

    # What happens

    def disturb(self) -> None:
        report_hourly(self)  # the first hour that is billed
        self.backup()
        steps = self.random.randint(5, 9)
        jump = self.random.choice([None, None, self.random.choice([10 * DAY, 30 * DAY, 34 * DAY, 36 * DAY])])
        jumps_at = self.random.randrange(steps)
        for step in range(steps):
            self.pass_time(jump if jump and step == jumps_at else None)
            for _ in range(self.random.choice([0, 0, 1, 1, 2])):
                often, seldom = (
                    [self.late, self.corrected],
                    [
                        *(self.moved, self.deleted, self.rebuild, self.restore),
                        *(self.lose_mapping, self.end_subscription, self.begin_subscription),
                    ],
                )
                self.random.choice([*often, *often, *seldom])()
            if self.random.random() < 0.8:
                self.publish()
            self.trouble()
            self.disturbed(partial(report_hourly, self))
            if self.random.random() < 0.5:
                self.disturbed(partial(look, self))
            if self.random.random() < 0.5:
                self.disturbed(partial(compare, self))
            if self.random.random() < 0.3:
                self.disturbed(partial(note, self))
            if self.random.random() < 0.3:
                self.backup()

    def pass_time(self, jump: timedelta | None) -> None:
        hours = self.random.choice([1, 1, 1, 2, 3, 5, 23, 25, 26, 28, self.random.randint(1, 30)])
        before = self.now
        self.now += jump or timedelta(hours=hours, minutes=self.random.choice([0, 0, 7, 50]))
        if self.random.random() < 0.3:
            self.ahead = timedelta(minutes=self.random.randint(-10, 10))
        for _ in range(self.random.randint(1, 4)):
            hour = utc_hour(before + self.random.random() * min(self.now - before, 5 * HOUR))
            self.call(self.random.choice(list(self.customers)), hour, self.random.randint(1, 40))

    def call(self, account: str, hour: datetime, units: int) -> None:
        self.calls[account, hour] = self.calls.get((account, hour), 0) + units

    def late(self) -> None:
        self.tally["happened: usage came late"] += 1
        account, hour = self.random.choice(list(self.calls))
        self.call(account, hour, self.random.randint(1, 20))

    def corrected(self) -> None:
        self.tally["happened: usage corrected downwards"] += 1
        key = self.random.choice(list(self.calls))
        self.calls[key] = self.random.choice([0, self.calls[key] // 2])

    def moved(self) -> None:
        self.tally["happened: account moved to another customer"] += 1
        account = self.random.choice(list(self.customers))
        since = utc_hour(self.now) - self.random.choice([0, 2, 30, 2000]) * HOUR
        kept = [each for each in self.customers[account] if each[0] < since]
        self.customers[account] = [*kept, (since, self.random.choice(["cus_b", "cus_d", "cus_e"]))]

    def deleted(self) -> None:
        """A customer is deleted at Stripe, or the accounts file names the one that replaces it."""
        self.tally["happened: customer deleted at Stripe, or replaced"] += 1
        if self.stripe.has_customer("cus_c"):
            self.stripe.delete_customer("cus_c")
        else:
            self.customers["c"] = [(self.now - 400 * DAY, "cus_d")]

    def lose_mapping(self) -> None:
        """The files lose whose customer an account is; the next time that is repaired."""
        self.tally["happened: a mapping disappeared, or came back"] += 1
        if self.unmapped:
            self.unmapped = {}
        else:
            self.unmapped = {self.random.choice(list(self.customers)): []}

    def end_subscription(self) -> None:
        self.tally["happened: a subscription ended, or ends with its period"] += 1
        live = [each for each in self.stripe.subscriptions.objects.values() if each["status"] == "active"]
        if live:
            self.stripe.cancel(self.random.choice(live)["id"], at_period_end=self.random.random() < 0.7)

    def begin_subscription(self) -> None:
        """For customers that had none."""
        self.tally["happened: a subscription began"] += 1
        theirs = {each["customer"] for each in self.stripe.subscriptions.objects.values() if each["status"] == "active"}
        for customer in ("cus_d", "cus_e"):
            if customer not in theirs and self.stripe.has_customer(customer):
                self.subscribe(customer, utc_hour(self.now), start=int(utc_hour(self.now).timestamp()))

    def rebuild(self) -> None:
        """The warehouse says other numbers, by far; the next time that is repaired, or they were right."""
        self.tally["happened: warehouse rebuilt with other numbers, or repaired"] += 1
        if self.rebuilt:
            if self.random.random() < 0.5:
                self.calls |= self.rebuilt
            self.rebuilt = {}
        else:
            keys = self.random.sample(list(self.calls), 2)
            self.rebuilt = {key: self.calls[key] for key in keys}
            self.calls |= {key: self.calls[key] + 5_000 for key in keys}

    def backup(self) -> None:
        self.close()  # so that all of it is in one file
        for path in self.folder.glob("ledger.sqlite*"):
            if not path.name.endswith("lock"):
                shutil.copy(path, self.folder / f"backup-{path.name}")

    def restore(self) -> None:
        """The ledger as it was hours ago; whoever restores it waits for Stripe to add up, and takes its totals over."""
        self.tally["happened: ledger restored from a backup"] += 1
        self.close()
        for path in self.folder.glob("ledger.sqlite*"):
            if not path.name.endswith("lock"):
                path.unlink()
        for path in self.folder.glob("backup-ledger.sqlite*"):
            shutil.copy(path, self.folder / path.name.removeprefix("backup-"))
        self.now += 3 * HOUR
        self.stripe.calm()
        self.stripe.is_down = False
        reconcile.adopt_all(self.config, connect_meter, self.clock)

    def trouble(self) -> None:
        self.stripe.calm()
        self.stripe.is_down = self.random.random() < 0.15
        self.fails_for = self.random.choice([*[""] * 5, "cus_a", "cus_b"])
        self.tally["fault: one customer always fails"] += bool(self.fails_for)
        self.tally["happened: Stripe down during a run"] += self.stripe.is_down
        self.stripe.billing.settle()
        self.stripe.lag = self.random.choice([0, 0, 30, 600])
        self.stripe.summary_lag = self.random.choice([0, 0, 600, 5_400])
        for _ in range(self.random.choice([0, 0, 1, 1, 2, 3])):
            kind = self.random.choice(list(FAULTS))
            path = self.random.choice([*[METER_EVENTS] * 5, *READS])
            # one of four is there also when what is in doubt is sent again at the end of the run
            self.stripe.then(*[FAULTS[kind]] * self.random.choice([1, 1, 4]), path=path)
            self.tally[f"fault: {kind}"] += 1

    def disturbed(self, what: Callable[[], object]) -> None:
        """Something that is killed somewhere, or that another run comes across, or neither."""
        event, line = self.random.choice(["kill", "kill", "another", "nothing"]), self.random.randrange(1, LINES)
        act = {"kill": self.kill, "another": self.another}.get(event)
        files = FILES if event == "kill" else SENDING
        trace = at_line(line if event == "kill" else line // 5 + 1, files, act) if act else None
        before = sys.gettrace()  # of whoever measures coverage
        sys.settrace(trace or before)
        threading.settrace(trace or before)  # type: ignore[arg-type]
        try:
            what()
        except KilledError:
            self.close()
        finally:
            sys.settrace(before)
            threading.settrace(before)  # type: ignore[arg-type]

    def kill(self) -> None:
        self.tally["runs: killed"] += 1
        raise KilledError

    def another(self) -> None:
        report_hourly(self)

    # How it ends

    def recover(self) -> None:
        """Runs with nothing in their way, and somebody who reads what they say, until nothing waits any more."""
        self.stripe.calm()
        self.stripe.billing.settle()
        self.stripe.is_down, self.stripe.lag, self.stripe.summary_lag = False, 10, 600
        self.ahead, self.fails_for, self.unmapped = timedelta(), "", {}
        is_quiet = False
        for number in range(PATIENCE):
            self.now += [HOUR, HOUR, 2 * HOUR, 21 * HOUR][number % 4]
            self.publish()
            report_hourly(self, approves=True)
            self.now += timedelta(minutes=20)
            note(self)
            look(self)
            was_quiet, is_quiet = is_quiet, not any(total["state"] in UNSETTLED for total in self.ledger.totals())
            if was_quiet and is_quiet:
                break
        self.tally["runs: to recover"] += number + 1
        self.now += DAY
        self.close_books()

    def close_books(self) -> None:
        """Until the periods that run are over, and their invoices final and compared; with runs as the schedule has
        them around each end.
        """
        ends = {datetime.fromtimestamp(end, UTC) for end in self.stripe.billing.period_ends()}
        for end in sorted(ends | {month_start(self.now + 32 * DAY)}):
            for after in (timedelta(minutes=5), timedelta(minutes=25)):
                self.visit(end + after)
        for after in (3 * HOUR, 30 * HOUR):
            self.visit(self.now + after)
        # The last visit sends again what was refused the day before. What became of it shows after three looks.
        for _ in range(3):
            self.now += 2 * HOUR
            look(self)

    def visit(self, at: datetime) -> None:
        """What the schedule does then."""
        self.now = max(self.now, at)
        self.publish()
        report_hourly(self, approves=True)
        look(self)
        compare(self)

    def check(self) -> None:
        """Every hour of every customer is right, or said to be wrong; and none of those is right."""
        truth: dict[tuple[str, datetime], int] = {}
        for (_, customer, hour), units in self.usage.items():
            truth[str(customer), hour] = truth.get((str(customer), hour), 0) + units
        shown = {(customer, hour): units for customer in map("cus_{}".format, "abcde")
                 for hour, units in self.totals(customer).items()}  # fmt: skip
        ledger = self.ledger
        for customer in {key[0] for key in truth}:
            sent = [row for row in ledger.of_customer(customer, self.began, self.now) if row.attempts]
            self.tally["stripe: corrections sent"] += sum(row.revision > 1 for row in sent)
        said = {(row.stripe_customer_id, row.hour_start): row for row in ledger.problems()}
        said |= {(row.stripe_customer_id, row.hour_start): row for row in due.doubtful(ledger)}
        wrong = []
        for key in sorted(truth.keys() | shown.keys() | said.keys()):
            wanted, found, row = truth.get(key, 0), shown.get(key, 0), said.get(key)
            if not wanted and not self.stripe.has_customer(key[0]):
                found = 0  # what was counted before a customer was deleted is not billed either
            self.tally["hours: compared"] += 1
            if wanted == found and row is None:
                self.tally["hours: equal"] += 1
            elif row is not None and self.explains(row, wanted, found):
                self.tally[f"hours: reported, {row.state}: {kind(row)}"] += 1
            else:
                self.tally["hours: unexplained"] += 1
                wrong.append(f"{key[0]}, {key[1]:%d %b %H} h: used {wanted}, billed {found}; the ledger says:")
                wrong += [f"    {each.revision}: {each.units} ({each.value:+}) {each.state} since {each.finished_at};"
                          f" Stripe showed {each.stripe_units}: {each.error}"
                          for each in ledger.of_customer(key[0], key[1], key[1] + HOUR)]  # fmt: skip
        assert not wrong, "\n".join(wrong)

    def check_invoices(self) -> None:
        """Each final invoice has what was used in its period, or its certificate says what differs."""
        wrong = []
        certificates = Certificates(self.ledger).since(self.now - 33 * DAY)
        invoiced: dict[tuple[str, datetime], tuple[datetime, int]] = {}
        for customer in map("cus_{}".format, "abcde"):
            for bill in self.stripe.bills(customer):
                for line in bill["lines"] if bill["status_transitions"]["finalized_at"] else ():
                    start, end = (datetime.fromtimestamp(line["period"][name], UTC) for name in ("start", "end"))
                    if end > self.now - 33 * DAY:
                        _, units = invoiced.get((customer, start), (end, 0))
                        invoiced[customer, start] = end, units + line["quantity"]
        for key in sorted(invoiced.keys() | certificates.keys()):
            found, (end, units) = certificates.get(key), invoiced.get(key, (None, 0))
            end = end or (found.period_end if found else self.now)
            used = sum(n for (_, name, hour), n in self.usage.items() if name == key[0] and key[1] <= hour < end)
            self.tally["invoices: compared"] += 1
            if found is None and not used and not units:
                self.tally["invoices: without usage"] += 1
            elif found is not None and found.status is Status.CERTIFIED and used == units:
                self.tally["invoices: certified, equal"] += 1
            elif found is not None and found.status is Status.OPEN and found.difference and found.units == used:
                self.tally[f"invoices: listed, {'units differ' if used != units else 'units equal'}"] += 1
            else:
                self.tally["invoices: unexplained"] += 1
                wrong.append(f"{key[0]}, period from {key[1]}: used {used}, invoiced {units}; certificate: {found}")
        assert not wrong, "\n".join(wrong)

    def explains(self, row: Report, wanted: int, found: int) -> bool:
        """Whether a row says what the difference is."""
        if not row.error or row.units != wanted:
            return False
        if not self.stripe.has_customer(row.stripe_customer_id):
            return True
        if row.state is ReportState.HELD and row.stripe_units is None:
            return wanted != found and row.error.startswith(f"{counted(wanted - found, 'unit', sign='+')} not billed: ")
        return wanted != found and row.stripe_units in (None, found)


def kind(row: Report) -> str:
    """What a row says, without customers, hours and numbers."""
    said = re.sub(r"cus_\w+|[+-]?[\d,]+|`[^`]*`", "…", str(row.error))
    return said.partition(":")[0]


def report_hourly(weeks: Weeks, approves: bool = False) -> None:
    """The hourly run; what Stripe or the guard stops, the next one does."""
    weeks.tally["runs: planned and sent"] += 1
    try:
        outcome = report.report_usage(weeks.config, connect_meter, weeks.clock)
        if outcome.planned.waiting.code:
            weeks.tally["runs: sent the rest, something waited for approval"] += 1
            if approves or weeks.random.random() < 0.3:
                # what was in doubt until then may have to be approved as well: that is another code
                for _ in range(APPROVALS):
                    if code := outcome.planned.waiting.code:
                        outcome = report.report_usage(weeks.config, connect_meter, weeks.clock, approved=code)
                assert not outcome.planned.waiting.code
        weeks.tally["runs: stopped by Stripe"] += bool(outcome.sent and outcome.sent.stopped)
    except BusyError:
        weeks.tally["runs: met another, told so"] += 1
    except StoppedError:
        weeks.tally["runs: stopped by Stripe"] += 1


def look(weeks: Weeks) -> None:
    with suppress(BusyError, StoppedError):
        reconcile.look_back(weeks.config, connect_meter, weeks.clock)
        weeks.tally["runs: comparisons with Stripe's totals"] += 1


def compare(weeks: Weeks) -> None:
    """Subscriptions and invoices are read, and what they have is compared with what was counted."""
    with suppress(BusyError, StoppedError):
        read_invoices(weeks.config, connect_meter, connect_invoices, weeks.clock)
        certify.certify(weeks.config, connect_meter, weeks.clock)
        weeks.tally["runs: comparisons with Stripe's invoices"] += 1


def note(weeks: Weeks) -> None:
    with suppress(BusyError, StoppedError):
        weeks.tally["stripe: rejections noted"] += len(
            reconcile.note_rejections(weeks.config, connect_meter, weeks.clock)
        )


def go_through(seed: int, mode: str, folder: Path, meter: str = "") -> Counter[str]:
    """One schedule, of the main meter's usage or of another's.

    :raises AssertionError: an hour is billed wrongly, and nothing says so; the seed is in a note.
    """
    pool = ThreadPoolExecutor if seed % 5 == 0 else Inline
    with FakeStripe() as stripe, mock.patch.object(reporter, "ThreadPoolExecutor", pool):
        weeks = Weeks(seed, folder, stripe, mode, meter)
        try:
            with quick(weeks):
                weeks.disturb()
                weeks.recover()
                weeks.check()
                weeks.check_invoices()
        except BaseException as error:
            error.add_note(f"seed {seed}, {mode}")
            raise
        weeks.tally["stripe: requests"] += len(stripe.requests)
        weeks.tally["stripe: events taken"] += len(stripe.events)
        weeks.tally[f"seeds: {mode}"] += 1
    return weeks.tally


def report_of(task: tuple[int, str], meter: str = "") -> tuple[Counter[str], str]:
    """What happened in one schedule, and what is wrong with it."""
    seed, mode = task
    with tempfile.TemporaryDirectory() as folder:
        try:
            return go_through(seed, mode, Path(folder), meter), ""
        except AssertionError as error:
            return Counter({"hours: unexplained": 1}), f"seed {seed}, {mode}: {error}"


def main(seeds: int) -> int:
    """Go through so many schedules, half of them in each mode, and print what happened."""
    began, tally, wrong = time.monotonic(), Counter[str](), []
    tasks = [(seed, mode) for seed in range(seeds // 2) for mode in MODES]
    with ProcessPoolExecutor() as pool:
        for found, error in pool.map(report_of, tasks, chunksize=5):
            tally += found
            wrong += [error] if error else []
    tally["hours: unexplained"] += 0
    lines = [f"{len(tasks)} random weeks of billing in {time.monotonic() - began:.0f} s"]
    group = ""
    for name, number in sorted(tally.items(), key=lambda item: (ORDER.index(item[0].partition(":")[0]), item[0])):
        if group != (group := name.partition(": ")[0]):
            lines += ["", group]
        lines.append(f"  {name.partition(': ')[2]:<82}{number:>8,}")
    sys.stdout.write("\n".join([*lines, "", *wrong, ""]))
    return 1 if wrong else 0


def run_until_killed(folder: str, url: str, key: str, now: str, line: str, meter: str = "") -> None:
    """A process that ends with SIGKILL before that many lines were run."""
    world = World(Path(folder), SimpleNamespace(url=url, key=key), meter=meter)  # type: ignore[arg-type]
    world.now = datetime.fromisoformat(now)
    trace = at_line(int(line), {*FILES, ledger_module.__file__}, lambda: os.kill(os.getpid(), signal.SIGKILL))
    sys.settrace(trace)
    threading.settrace(trace)
    report.report_usage(world.config, connect_meter, world.clock)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
