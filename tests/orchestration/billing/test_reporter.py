"""Sending what is prepared, and finding out what became of it, with a meter in memory."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestration.billing.confirm import CHECKS, LAG, ReconcileResult, confirm
from orchestration.billing.meter import AnsweredError, StoppedError
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import GIVE_UP, DayPlan, MeterReport, Mode, ReportState
from orchestration.billing.reporter import BATCH, IDENTIFIER_WINDOW, SAME_ANSWER, SILENT_CUSTOMERS, SendResult, send_due
from orchestration.billing.revisions import Report
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.outbox import InDoubtError, RefusedError
from tests.support.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEVEN = datetime(2026, 11, 20, 7, tzinfo=UTC)
OLD = SEVEN - 25 * HOUR
S = ReportState


class FakeMeter:
    """Keeps what it takes, as a meter of its mode adds it up; `on_send` happens before, for its failures."""

    def __init__(self, mode: Mode = Mode.TOTAL) -> None:
        self.mode = mode
        self.taken: list[Report] = []
        self.totals: dict[tuple[str, datetime], int] = {}
        self.problems: dict[str, str] = {}
        self.unknown: set[str] = set()
        self.is_down = False
        self.reads: list[tuple[str, datetime, datetime]] = []
        self.on_send: Callable[[Report], object] = lambda _: None
        self._lock = threading.Lock()

    def send(self, report: Report) -> None:
        self.on_send(report)
        with self._lock:
            self.taken.append(report)
            key = report.stripe_customer_id, report.hour_start
            before = self.totals.get(key, 0) if self.mode is Mode.DELTA else 0
            self.totals[key] = before + report.value

    def hourly_totals(self, customer: str, start: datetime, end: datetime) -> dict[datetime, int]:
        if self.is_down:
            raise StoppedError("Stripe is down")
        if customer in self.unknown:
            raise RefusedError("no such customer")
        self.reads.append((customer, start, end))
        return {hour: units for (name, hour), units in self.totals.items() if name == customer and start <= hour < end}

    def total(self, customer: str, start: datetime, end: datetime) -> int:
        return sum(self.hourly_totals(customer, start, end).values())

    def problem_of(self, customer: str) -> str:
        if self.is_down:
            raise StoppedError("Stripe is down")
        return self.problems.get(customer, "")


@dataclass
class World:
    """A ledger, a meter and a clock that stands still until it is moved."""

    ledger: MeterLedger
    meter: FakeMeter = field(default_factory=FakeMeter)
    now: datetime = NOW

    def prepare(self, *places: tuple[str, datetime], **fields: Any) -> None:
        rows = []
        for customer, hour in places:
            revision, units = fields.get("revision", 1), fields.get("units", 5)
            name = f"{customer} {hour:%d-%H} {revision}"
            value = fields.get("value", units)
            state = fields.get("state", S.PREPARED)
            rows.append(MeterReport(customer, hour, revision, units, value, name, state))
        with self.ledger.ledger.transaction() as connection:
            self.ledger.commit(connection, SEVEN.date(), "mark", DayPlan(rows), self.now)

    def send(self, **options: Any) -> SendResult:
        return send_due(self.ledger, self.meter, lambda: self.now, **options)

    def confirm(self, reads: int = 100) -> ReconcileResult:
        return confirm(self.ledger, self.meter, lambda: self.now, reads)

    def row(self, customer: str = "cus_1", hour: datetime = SEVEN) -> Report:
        return self.ledger.of_customer(customer, hour, hour + HOUR)[-1]

    def change(self, report: Report, **fields: Any) -> None:
        self.ledger.save([replace(report, **fields)], *fields)


@pytest.fixture
def world(ledger_url: str) -> Iterator[World]:
    ledger = Ledger(ledger_url)
    yield World(MeterLedger(ledger, "local", "api-calls"))
    ledger.close()


def fail(error: Exception, *customers: str) -> Callable[[Report], None]:
    """Raises it for these customers; for all, where none is named."""

    def on_send(report: Report) -> None:
        if not customers or report.stripe_customer_id in customers:
            raise error

    return on_send


def customers(number: int) -> list[tuple[str, datetime]]:
    return [(f"cus_{n:03}", SEVEN) for n in range(number)]


# Sending


def test_reports_are_sent_once_and_recorded_as_sent(world: World) -> None:
    world.prepare(("cus_1", SEVEN), ("cus_2", SEVEN), ("cus_1", SEVEN - HOUR))

    assert world.send() == SendResult(taken=3)
    row = world.row()
    assert (row.state, row.attempts, row.attempted_at, row.finished_at, row.error) == (S.SENT, 1, NOW, NOW, None)
    assert world.send() == SendResult()
    assert len(world.meter.taken) == 3


def test_batches_double_so_that_a_stripe_that_is_down_leaves_few_in_doubt(world: World) -> None:
    world.prepare(*customers(300))
    sizes: list[int] = []

    def progress(sent: SendResult) -> None:
        sizes.append(sent.taken - sum(sizes))

    world.send(progress=progress)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, BATCH, 73]


def test_claim_is_committed_before_the_report_is_sent(world: World) -> None:
    world.prepare(("cus_1", SEVEN))
    seen: list[Report] = []
    world.meter.on_send = lambda report: seen.append(world.row())

    world.send()
    assert [(row.state, row.attempts, row.first_attempt_at) for row in seen] == [(S.SENDING, 1, NOW)]


def test_reports_go_in_turn_for_a_customer_and_in_parallel_for_several(world: World) -> None:
    world.prepare(*((f"cus_{n % 4}", SEVEN - n // 4 * HOUR) for n in range(32)))
    under_way: Counter[str] = Counter()
    lock, together = threading.Lock(), threading.Event()
    crowded = []

    def on_send(report: Report) -> None:
        with lock:
            under_way[report.stripe_customer_id] += 1
            crowded.append(under_way[report.stripe_customer_id] > 1)
            if len(+under_way) > 1:
                together.set()
        if len(crowded) > 3:  # from there on batches have several customers
            together.wait(PATIENCE_SECONDS)
        with lock:
            under_way[report.stripe_customer_id] -= 1

    world.meter.on_send = on_send
    assert world.send().taken == 32
    assert not any(crowded)
    assert together.is_set()
    for customer in {report.stripe_customer_id for report in world.meter.taken}:
        hours = [report.hour_start for report in world.meter.taken if report.stripe_customer_id == customer]
        assert hours == sorted(hours)


def test_refused_report_stops_no_other(world: World) -> None:
    world.prepare(*customers(5))
    world.meter.on_send = fail(RefusedError("no such customer"), "cus_000")

    sent = world.send()
    assert (sent.taken, sent.refused, sent.stopped) == (4, 1, "")
    assert [(row.place, row.error) for row in sent.refusals] == [("cus_000, 2026-11-20 07:00 UTC", "no such customer")]
    row = world.row("cus_000")
    assert (row.state, row.finished_at, row.error) == (S.REFUSED, NOW, "no such customer")


def test_same_refusal_of_all_stops_the_run(world: World) -> None:
    world.prepare(*customers(100))
    world.meter.on_send = fail(RefusedError("the account is closed"))

    sent = world.send()
    assert sent.stopped == "Stripe refuses every report: the account is closed"
    assert SAME_ANSWER <= sent.refused < 100
    assert len(sent.refusals) == SAME_ANSWER


def test_refusals_stop_nothing_when_they_differ_or_a_report_was_taken(world: World) -> None:
    world.prepare(*customers(60))
    world.meter.on_send = fail(RefusedError("no"), *(name for name, _ in customers(60)[1:]))
    assert world.send().refused == 59

    world.prepare(*customers(60), revision=2)

    def refuse(report: Report) -> None:
        raise RefusedError(f"no {report.stripe_customer_id}")

    world.meter.on_send = refuse
    sent = world.send()
    assert (sent.refused, sent.stopped) == (60, "")


def test_report_without_an_answer_is_sent_again_under_its_identifier(world: World) -> None:
    world.prepare(("cus_1", SEVEN), ("cus_2", SEVEN))
    world.meter.on_send = fail(InDoubtError("no answer"), "cus_2")
    sent = world.send()
    assert (sent.taken, sent.in_doubt, sent.stopped) == (1, 1, "")
    doubtful = world.row("cus_2")
    assert (doubtful.state, doubtful.error, doubtful.finished_at) == (S.SENDING, "no answer", None)

    world.meter.on_send = lambda _: None
    world.now += HOUR
    assert world.send() == SendResult(taken=1)
    assert world.meter.taken[-1].identifier == doubtful.identifier
    row = world.row("cus_2")
    assert (row.state, row.attempts, row.first_attempt_at, row.error) == (S.SENT, 2, NOW, None)


def test_answered_error_is_counted_to_give_the_next_attempt_another_key(world: World) -> None:
    world.prepare(("cus_1", SEVEN), ("cus_2", SEVEN))
    world.meter.on_send = fail(AnsweredError("HTTP 500"), "cus_2")
    world.send()

    assert (world.row("cus_2").answered_errors, world.row("cus_2").is_in_doubt) == (1, True)


def test_what_is_in_doubt_is_tried_three_times_in_a_run_as_time_passes(world: World) -> None:
    world.prepare(("cus_1", SEVEN), ("cus_2", SEVEN))
    tries: Counter[str] = Counter()

    def on_send(report: Report) -> None:
        world.now += timedelta(seconds=1)
        tries[report.stripe_customer_id] += 1
        if report.stripe_customer_id == "cus_2":
            raise InDoubtError("no answer")

    world.meter.on_send = on_send
    sent = world.send()
    assert tries == {"cus_1": 1, "cus_2": 3}
    assert (sent.taken, sent.in_doubt, sent.stopped) == (1, 1, "")


def test_stripe_that_never_answers_stops_the_run_with_few_in_doubt(world: World) -> None:
    world.prepare(*customers(50))
    world.meter.on_send = fail(InDoubtError("no answer"))

    sent = world.send()
    assert sent.stopped == "Stripe gave no usable answer: no answer"
    counts = Counter(row["state"] for row in world.ledger.totals() for _ in range(row["reports"]))
    assert counts[S.PREPARED] + counts[S.SENDING] == 50
    assert SILENT_CUSTOMERS <= counts[S.SENDING] <= 7, "batches of one, two and four"


def test_one_customer_that_always_fails_keeps_no_other_waiting(world: World) -> None:
    """Its first report comes first of all."""
    world.prepare(*customers(3), ("cus_000", SEVEN - HOUR), ("cus_000", SEVEN - 2 * HOUR))
    world.meter.on_send = fail(InDoubtError("no answer"), "cus_000")

    sent = world.send()
    assert (sent.taken, sent.in_doubt, sent.stopped) == (2, 1, "")
    states = [row.state for row in world.ledger.of_customer("cus_000", SEVEN - 2 * HOUR, SEVEN + HOUR)]
    assert states == [S.SENDING, S.PREPARED, S.PREPARED], "one in doubt, however long it lasts"
    world.now += HOUR
    sent = world.send()
    assert (sent.taken, sent.in_doubt) == (0, 1)
    world.meter.on_send = lambda _: None
    world.now += HOUR
    assert world.send().taken == 3


@pytest.mark.parametrize("errors", [1, SILENT_CUSTOMERS - 1])
def test_errors_at_first_do_not_stop_the_run_for_everybody(world: World, errors: int) -> None:
    world.prepare(*customers(30))
    failures = iter(range(errors))

    def on_send(report: Report) -> None:
        world.now += timedelta(seconds=1)
        if next(failures, None) is not None:
            raise AnsweredError("HTTP 503")

    world.meter.on_send = on_send
    sent = world.send()
    assert (sent.taken, sent.in_doubt, sent.stopped) == (30, 0, "")


def test_hours_that_close_soon_go_first(world: World) -> None:
    world.prepare(*customers(3), ("cus_last", SEVEN))
    order: list[str] = []
    world.meter.on_send = lambda report: order.append(report.stripe_customer_id)
    world.send(closing={"cus_last": SEVEN + HOUR}, workers=1)
    assert order == ["cus_last", "cus_000", "cus_001", "cus_002"]


# What is in doubt when its invoice is final


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("arrived", [True, False])
def test_doubt_is_looked_at_and_not_sent_when_its_invoice_is_final(world: World, mode: Mode, arrived: bool) -> None:
    world.meter.mode = mode
    world.prepare(("cus_1", SEVEN))
    world.meter.on_send = fail(InDoubtError("no answer"))
    world.send()
    late: dict[str, Any] = {"too_late": lambda customer, hour: "its invoice is final"}
    tries = world.row().attempts
    world.meter.on_send = lambda _: None
    world.now += HOUR
    world.send(**late)
    assert (world.row().state, world.row().attempts) == (S.SENDING, tries), "Stripe may not have added it up"

    world.meter.totals = {("cus_1", SEVEN): 5} if arrived else {}
    world.now += GIVE_UP
    world.send(**late)
    row = world.row()
    assert row.attempts == tries
    if arrived:
        assert (row.state, row.error) == (S.SENT, None)
    else:
        assert (row.state, row.error) == (S.HELD, "+5 units not billed: its invoice is final")


def test_stop_leaves_what_was_not_sent_as_it_was(world: World) -> None:
    world.prepare(*customers(1), *((customer, SEVEN - n * HOUR) for customer, _ in customers(1) for n in range(1, 9)))
    count = 0

    def on_send(report: Report) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise StoppedError("the key was revoked")

    world.meter.on_send = on_send
    sent = world.send()
    assert (sent.taken, sent.in_doubt, sent.stopped) == (4, 0, "the key was revoked")
    rows = world.ledger.of_customer("cus_000", SEVEN - 9 * HOUR, SEVEN + HOUR)
    assert [row.state for row in rows] == [S.SENT] * 4 + [S.PREPARED] * 5
    assert {(row.attempts, row.first_attempt_at) for row in rows[4:]} == {(0, None)}
    assert count == 5


def test_total_is_sent_again_even_when_its_identifier_is_forgotten(world: World) -> None:
    world.prepare(("cus_1", OLD), units=7)
    world.ledger.claim([world.row(hour=OLD)], NOW - 40 * HOUR)

    assert world.send().taken == 1
    assert world.meter.totals == {("cus_1", OLD): 7}
    assert world.meter.reads == []


# Differences that are old


@pytest.fixture
def delta_world(world: World) -> World:
    world.meter = FakeMeter(Mode.DELTA)
    return world


def doubtful(delta_world: World, hour: datetime = SEVEN, **fields: Any) -> None:
    """A difference of 5 whose identifier Stripe may have forgotten."""
    delta_world.prepare(("cus_1", hour), **fields)
    delta_world.ledger.claim([delta_world.row(hour=hour)], NOW - IDENTIFIER_WINDOW - timedelta(seconds=1))


def test_recent_difference_is_sent_again_without_a_look(delta_world: World) -> None:
    delta_world.prepare(("cus_1", SEVEN))
    delta_world.ledger.claim([delta_world.row()], NOW - IDENTIFIER_WINDOW)

    assert delta_world.send().taken == 1
    assert delta_world.meter.reads == []


def test_old_difference_in_doubt_that_stripe_shows_was_taken(delta_world: World) -> None:
    doubtful(delta_world)
    delta_world.meter.totals["cus_1", SEVEN] = 5

    assert delta_world.send() == SendResult()
    row = delta_world.row()
    assert (row.state, row.stripe_units, row.finished_at, row.checked_at) == (S.SENT, 5, NOW, NOW)


def test_old_difference_in_doubt_is_lost_when_it_is_missing_for_a_day(delta_world: World) -> None:
    doubtful(delta_world)
    for hours, state in ((0, S.SENDING), (23.9, S.SENDING), (24, S.LOST)):
        delta_world.now = NOW + timedelta(hours=hours)
        assert delta_world.send() == SendResult()
        assert delta_world.row().state is state
        assert delta_world.row().checked_at == NOW
    assert delta_world.row().error == "never arrived at Stripe; sent again"
    assert delta_world.meter.taken == []


def test_old_difference_that_appears_while_it_is_missed_was_taken(delta_world: World) -> None:
    doubtful(delta_world)
    delta_world.send()
    delta_world.meter.totals["cus_1", SEVEN] = 5
    delta_world.now += 24 * HOUR
    delta_world.send()

    assert delta_world.row().state is S.SENT


@pytest.mark.parametrize("shown", [4, 6, -5])
def test_old_difference_is_a_mismatch_when_stripe_shows_what_fits_neither(delta_world: World, shown: int) -> None:
    doubtful(delta_world)
    delta_world.meter.totals["cus_1", SEVEN] = shown

    delta_world.send()
    row = delta_world.row()
    assert (row.state, row.stripe_units) == (S.MISMATCH, shown)
    assert f"Stripe shows {shown} units for this hour, and 0 were reported: `headroom stripe adopt cus_1" in str(
        row.error
    )
    assert "2026-11-20T07`" in str(row.error)


def test_old_difference_waits_while_the_one_before_may_not_be_added_up_yet(delta_world: World) -> None:
    delta_world.prepare(("cus_1", OLD), units=3, state=S.SENT)
    delta_world.change(delta_world.row(hour=OLD), finished_at=NOW)
    delta_world.prepare(("cus_1", OLD), revision=2, units=5, value=2)

    for hours, state in ((0, S.PREPARED), (23.9, S.PREPARED), (24, S.MISMATCH)):
        delta_world.now = NOW + timedelta(hours=hours)
        delta_world.send()
        assert delta_world.row(hour=OLD).state is state
    assert delta_world.meter.taken == []


def test_late_difference_of_an_old_hour_is_sent_unless_stripe_shows_it(delta_world: World) -> None:
    """It was sent by a ledger that is lost, perhaps."""
    delta_world.prepare(("cus_1", OLD), ("cus_2", OLD))
    delta_world.meter.totals["cus_2", OLD] = 5

    assert delta_world.send() == SendResult(taken=1)
    assert delta_world.meter.totals == {("cus_1", OLD): 5, ("cus_2", OLD): 5}
    assert {delta_world.row(name, OLD).state for name in ("cus_1", "cus_2")} == {S.SENT}
    assert len(delta_world.meter.reads) == 2


def test_what_was_taken_is_the_sum_of_the_differences_that_were(delta_world: World) -> None:
    delta_world.prepare(("cus_1", OLD), units=3, state=S.REFUSED)
    delta_world.prepare(("cus_1", OLD), revision=2, units=5, value=2, state=S.CONFIRMED)
    delta_world.prepare(("cus_1", OLD), revision=3, units=5, value=3)
    delta_world.meter.totals["cus_1", OLD] = 2

    assert delta_world.send().taken == 1
    assert delta_world.meter.totals["cus_1", OLD] == 5


def test_old_differences_are_refused_alone_when_the_customer_is_unknown(delta_world: World) -> None:
    delta_world.prepare(("cus_1", OLD), ("cus_1", OLD - HOUR), ("cus_2", OLD))
    delta_world.meter.unknown = {"cus_1"}

    assert delta_world.send().taken == 1
    assert delta_world.row(hour=OLD).state is delta_world.row(hour=OLD - HOUR).state is S.REFUSED
    assert delta_world.row(hour=OLD).error == "no such customer"


def test_nothing_is_sent_when_old_differences_cannot_be_looked_up(delta_world: World) -> None:
    delta_world.prepare(("cus_1", OLD), ("cus_2", SEVEN))
    delta_world.meter.is_down = True

    assert delta_world.send() == SendResult(stopped="Stripe is down")
    assert delta_world.row("cus_2").state is S.PREPARED


# Confirming


def sent(world: World, *places: tuple[str, datetime], **fields: Any) -> None:
    world.prepare(*(places or [("cus_1", SEVEN)]), **fields)
    world.send()


@pytest.mark.parametrize("mode", Mode)
def test_total_that_stripe_shows_is_confirmed_after_its_lag(world: World, mode: Mode) -> None:
    world.meter = FakeMeter(mode)
    sent(world, ("cus_1", SEVEN), ("cus_1", SEVEN - HOUR), ("cus_2", SEVEN))

    world.now = NOW + LAG
    assert world.confirm() == ReconcileResult()
    world.now += timedelta(seconds=1)
    assert world.confirm() == ReconcileResult(confirmed=3, reads=2)
    row = world.row()
    assert (row.state, row.stripe_units, row.checks, row.checked_at) == (S.CONFIRMED, 5, 1, world.now)
    assert world.confirm() == ReconcileResult()


def test_older_revisions_of_an_hour_are_confirmed_with_the_newest(world: World) -> None:
    sent(world)
    sent(world, units=9, revision=2)
    world.now += HOUR

    assert world.confirm().confirmed == 1
    assert {row.state for row in world.ledger.of_customer("cus_1", SEVEN, SEVEN + HOUR)} == {S.CONFIRMED}


def test_total_that_does_not_appear_is_sent_again_once_then_a_mismatch(world: World) -> None:
    sent(world)
    world.meter.totals.clear()
    for looks in range(1, CHECKS):
        world.now += GIVE_UP
        assert world.confirm() == ReconcileResult(waiting=1, reads=1)
        assert world.row().checks == looks
    world.now += HOUR
    assert world.confirm() == ReconcileResult(lost=1, reads=1)
    assert (world.row().state, world.row().error) == (S.LOST, "Stripe shows 0 units after 3 looks; sent again")

    sent(world, revision=2)
    world.meter.totals["cus_1", SEVEN] = 1_234
    for _ in range(CHECKS):
        world.now += GIVE_UP
        result = world.confirm()
    assert result == ReconcileResult(mismatched=1, reads=1)
    assert world.row().state is S.MISMATCH
    assert "Stripe shows 1,234 units, but accepted 5" in str(world.row().error)
    world.meter.totals["cus_1", SEVEN] = 5  # it comes right
    world.now += HOUR
    assert world.confirm().confirmed == 1
    assert (world.row().state, world.row().error) == (S.CONFIRMED, None)


def test_total_is_given_time_however_often_it_was_checked(world: World) -> None:
    sent(world)
    world.meter.totals.clear()
    world.now += LAG
    for _ in range(CHECKS + 1):
        world.now += timedelta(minutes=1)
        assert world.confirm().waiting == 1


def test_difference_that_does_not_appear_is_a_mismatch_after_a_day(world: World) -> None:
    """A Stripe that is five hours behind is no mismatch: taking its total would bill the difference twice."""
    world.meter = FakeMeter(Mode.DELTA)
    sent(world)
    world.meter.totals.clear()
    for _ in range(7):
        world.now += GIVE_UP
        assert world.confirm().waiting == 1
    world.now += GIVE_UP
    assert world.confirm().mismatched == 1
    assert world.row().state is S.MISMATCH


def test_total_that_fits_no_report_is_a_mismatch_in_hours(world: World) -> None:
    world.meter = FakeMeter(Mode.DELTA)
    sent(world)
    world.meter.totals["cus_1", SEVEN] = 1_234
    for _ in range(CHECKS):
        world.now += GIVE_UP
        result = world.confirm()
    assert (result.mismatched, world.row().state) == (1, S.MISMATCH)


@pytest.mark.parametrize("is_listed", [True, False])
def test_usage_of_a_deleted_customer_is_refused_with_its_reason(world: World, is_listed: bool) -> None:
    sent(world)
    world.meter.totals.clear()
    if is_listed:
        world.meter.problems["cus_1"] = "no such customer"
    else:
        world.meter.unknown = {"cus_1"}
    for _ in range(CHECKS):
        world.now += GIVE_UP
        result = world.confirm()

    assert (result.lost, world.row().state, world.row().error) == (1, S.REFUSED, "no such customer")
    assert world.row().finished_at == world.now


def test_hour_with_a_revision_in_doubt_or_just_taken_is_left_alone(world: World) -> None:
    sent(world)
    world.prepare(("cus_1", SEVEN), revision=2, units=9)
    world.ledger.claim([world.row()], NOW)
    world.meter.totals["cus_1", SEVEN] = 9
    world.now += HOUR
    assert world.confirm() == ReconcileResult(reads=1)
    assert [row.state for row in world.ledger.of_customer("cus_1", SEVEN, SEVEN + HOUR)] == [S.SENT, S.SENDING]

    world.change(world.row(), state=S.SENT, finished_at=world.now)
    assert world.confirm() == ReconcileResult(reads=1)


def test_reads_are_spent_on_those_that_wait_longest_and_count_their_pages(world: World) -> None:
    """Two pages of hours may take a third request, for their sum."""
    first = SEVEN - 150 * HOUR
    sent(world, ("cus_1", first), ("cus_1", SEVEN), ("cus_2", SEVEN), ("cus_3", SEVEN), ("cus_4", SEVEN))
    world.now += HOUR

    assert world.confirm(reads=2) == ReconcileResult(confirmed=2, reads=2, customers_left=2)
    assert [read[0] for read in world.meter.reads] == ["cus_2", "cus_3"]
    assert world.confirm(reads=3) == ReconcileResult(confirmed=3, reads=2)
    assert world.meter.reads[2:] == [("cus_1", first, SEVEN + HOUR), ("cus_4", SEVEN, SEVEN + HOUR)]


def test_hours_of_several_pages_are_compared_singly_when_the_sum_is_wrong(world: World) -> None:
    first = SEVEN - 150 * HOUR
    sent(world, ("cus_1", first), ("cus_1", SEVEN))
    world.meter.totals["cus_1", SEVEN] += 1
    world.now += HOUR

    assert world.confirm() == ReconcileResult(confirmed=1, waiting=1, reads=3)
    assert (world.row(hour=first).state, world.row().stripe_units) == (S.CONFIRMED, 6)


def test_look_ends_when_stripe_cannot_be_asked(world: World) -> None:
    sent(world, ("cus_1", SEVEN), ("cus_2", SEVEN))
    world.now += HOUR
    world.meter.is_down = True

    assert world.confirm() == ReconcileResult(reads=1, stopped="Stripe is down")
    assert world.row().checks == 0
