"""Sends what the ledger has prepared to a meter. Only one process at a time does. What became of it is in confirm.py.

Claims and outcomes are committed in batches, so a kill leaves one batch in doubt. What is in doubt is sent again under
its identifier, which Stripe takes once within a day. Later than that:

- a total is sent again: it replaces itself;
- a difference is not: it would be added a second time. The total that Stripe shows for the hour tells whether it
  arrived; not before it was missing for another day is it lost. Whatever fits neither is held for people.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from threading import Event

from orchestration.billing.meter import AnsweredError, Meter, StoppedError
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import GIVE_UP, HOUR, STANDS, Mode, ReportState
from orchestration.billing.revisions import Report
from orchestration.ledger.outbox import InDoubtError, RefusedError

IDENTIFIER_WINDOW = timedelta(hours=23)
"""Stripe's is at least 24 hours; one is for clocks that differ and for sending."""
BATCH = 100
PASSES = 3
SAME_ANSWER = 20
"""So many refusals in a row, and nothing taken: it is not the reports."""


@dataclass
class SendResult:
    """What became of the reports of one run."""

    taken: int = 0
    refused: int = 0
    doubtful: set[str] = field(default_factory=set)
    """Identifiers of those in doubt."""
    stopped: str = ""
    """Why it ended before all were sent."""
    refusals: list[Report] = field(default_factory=list)
    """The first few."""

    @property
    def in_doubt(self) -> int:
        return len(self.doubtful)


def send_due(
    ledger: MeterLedger,
    meter: Meter,
    clock: Callable[[], datetime],
    workers: int = 8,
    progress: Callable[[SendResult], object] = lambda _: None,
) -> SendResult:
    """Send all that is prepared, and once more what is in doubt. One customer's reports follow each other.

    It begins with one report and doubles: a Stripe that is down leaves one in doubt, not thousands. `clock` is the real
    one.
    """
    outcome = SendResult()
    since = None
    with ThreadPoolExecutor(workers) as pool:
        try:
            if meter.mode is Mode.DELTA:
                since = clock() - IDENTIFIER_WINDOW
                for batch in _batches(_looked_up(ledger, meter, clock, since)):
                    _send(ledger, meter, clock, pool, batch, outcome)
            for _ in range(PASSES):
                before, size = clock(), 1
                while batch := ledger.due(before, size, since):
                    _send(ledger, meter, clock, pool, batch, outcome)
                    progress(outcome)
                    size = min(size * 2, BATCH)
                if not outcome.doubtful:
                    break
        except StoppedError as error:
            outcome.stopped = str(error)
    return outcome


def _batches(reports: Iterable[Report]) -> Iterator[list[Report]]:
    waiting = list(reports)
    return (waiting[start : start + BATCH] for start in range(0, len(waiting), BATCH))


def _send(
    ledger: MeterLedger,
    meter: Meter,
    clock: Callable[[], datetime],
    pool: ThreadPoolExecutor,
    batch: Sequence[Report],
    outcome: SendResult,
) -> None:
    """:raises StoppedError: nothing more should be sent in this run."""
    by_customer = attrgetter("stripe_customer_id")
    former = {report.identifier: report for report in batch}
    claimed = ledger.claim(sorted(batch, key=by_customer), clock())
    stop = Event()
    problems: list[StoppedError] = []

    def send(reports: list[Report]) -> list[Report]:
        done = []
        for report in reports:
            if stop.is_set():
                done.append(former[report.identifier])
                continue
            try:
                meter.send(report)
            except RefusedError as error:
                # An attempt before this one may have been taken: then Stripe's totals will tell, see _confirm.
                state = ReportState.REFUSED if report.attempts == 1 else ReportState.SENT
                done.append(replace(report, state=state, finished_at=clock(), error=str(error)))
            except AnsweredError as error:
                done.append(replace(report, answered_errors=report.answered_errors + 1, error=str(error)))
            except InDoubtError as error:
                done.append(replace(report, error=str(error)))
            except StoppedError as error:
                problems.append(error)
                stop.set()
                done.append(former[report.identifier])
            else:
                done.append(replace(report, state=ReportState.SENT, finished_at=clock(), error=None))
        return done

    customers = [list(reports) for _, reports in groupby(claimed, by_customer)]
    done = [report for reports in pool.map(send, customers) for report in reports]
    ledger.save(
        done, "state", "attempts", "answered_errors", "first_attempt_at", "attempted_at", "finished_at", "error"
    )
    states = [report.state for report in done]
    refused = [report for report in done if report.state is ReportState.REFUSED]
    outcome.taken += states.count(ReportState.SENT)
    outcome.refused += len(refused)
    outcome.refusals = [*outcome.refusals, *refused][:SAME_ANSWER]
    doubtful = [report for report in done if report.is_in_doubt]
    outcome.doubtful -= former.keys()
    outcome.doubtful |= {report.identifier for report in doubtful}
    if problems:
        raise problems[0]
    if len(doubtful) == len(done) and (len(done) > 1 or not (outcome.taken or outcome.refused)):
        raise StoppedError(f"Stripe gives no usable answer: {doubtful[0].error}")
    answers = {report.error for report in outcome.refusals}
    if len(answers) == 1 and len(outcome.refusals) == SAME_ANSWER and not outcome.taken:
        raise StoppedError(f"Stripe refuses whatever it is sent: {answers.pop()}")


def _looked_up(ledger: MeterLedger, meter: Meter, clock: Callable[[], datetime], since: datetime) -> Iterator[Report]:
    """Differences whose identifier may be forgotten at Stripe, or was sent by a ledger that is lost: those of them that
    may be sent. The others wait, or the total that Stripe shows has settled them.
    """
    by_customer = attrgetter("stripe_customer_id")
    for customer, group in groupby(sorted(ledger.old(since), key=by_customer), by_customer):
        old = list(group)
        first, last = min(r.hour_start for r in old), max(r.hour_start for r in old)
        try:
            shown = meter.hourly_totals(customer, first, last + HOUR)
        except RefusedError as error:
            why = meter.problem_of(customer) or str(error)
            ledger.save([replace(r, state=ReportState.REFUSED, finished_at=clock(), error=why) for r in old],
                        "state", "finished_at", "error")  # fmt: skip
            continue
        others = {r.identifier for r in old}
        earlier = ledger.of_customer(customer, first, last + HOUR)
        earlier = [r for r in earlier if r.state in STANDS and r.identifier not in others]
        judged = []
        for report in old:
            taken = [r for r in earlier if r.hour_start == report.hour_start]
            verdict = _judged(report, taken, shown.get(report.hour_start, 0), clock())
            if verdict is None:
                yield report
            else:
                judged.append(verdict)
        ledger.save(judged, "state", "finished_at", "error", "stripe_units", "checked_at")


def _judged(report: Report, taken: Sequence[Report], shown: int, now: datetime) -> Report | None:
    """What the total that Stripe shows says of a difference to those taken before; None: it is not there and may be
    sent.
    """
    known = sum(before.value for before in taken)
    seen = replace(report, stripe_units=shown)
    if any(each.state is not ReportState.CONFIRMED and now - (each.finished_at or now) < GIVE_UP for each in taken):
        return report  # what was sent before it may not be added up yet
    if shown == known + report.value:
        return replace(seen, state=ReportState.SENT, finished_at=now, checked_at=now, error=None)
    if shown != known:
        said = (
            f"Stripe shows {shown:,} units for this hour, and {known:,} were reported: `headroom stripe adopt"
            f" {report.stripe_customer_id} {report.hour_start:%Y-%m-%dT%H}` takes Stripe's total for what was reported"
        )
        return replace(seen, state=ReportState.MISMATCH, finished_at=now, checked_at=now, error=said)
    if not report.is_in_doubt:
        return None
    if report.checked_at is None:
        return replace(seen, checked_at=now, error="not to be found at Stripe; sent anew if it is not there tomorrow")
    if now - report.checked_at < timedelta(hours=24):
        return report
    return replace(seen, state=ReportState.LOST, finished_at=now, error="never arrived at Stripe; sent anew")
