"""Sends what the ledger has prepared to a meter. Only one process at a time does. What became of it is in confirm.py.

Claims and outcomes are committed in batches, so a kill leaves one batch in doubt. What is in doubt is sent again under
its identifier, which Stripe takes once within a day. Later than that, or when its invoice is final, doubt.py looks at
Stripe's totals first.

A customer of whom a report is in doubt is left alone for the rest of the pass; the others go on. Only where several
customers in a row get no usable answer is it Stripe, and the run ends.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from threading import Event, Lock

from orchestration.billing import doubt, due
from orchestration.billing.meter import AnsweredError, Meter, StoppedError
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import Mode, ReportState
from orchestration.billing.revisions import Report
from orchestration.ledger.outbox import InDoubtError, RefusedError

IDENTIFIER_WINDOW = timedelta(hours=23)
"""Stripe's is at least 24 hours; one is for clocks that differ and for sending."""
BATCH = 100
PASSES = 3
SILENT_CUSTOMERS = 5
"""So many customers without a usable answer, and nobody with one between them: it is not the customers."""
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


def _never(customer: str, hour: datetime) -> str:
    return ""


def send_due(
    ledger: MeterLedger,
    meter: Meter,
    clock: Callable[[], datetime],
    workers: int = 8,
    progress: Callable[[SendResult], object] = lambda _: None,
    too_late: Callable[[str, datetime], str] = _never,
    closing: Mapping[str, datetime] | None = None,
) -> SendResult:
    """Send all that is prepared, and once more what is in doubt. One customer's reports follow each other.

    It begins with one report and doubles: a Stripe that is down leaves few in doubt, not thousands. `clock` is the real
    one. `too_late` says why a customer's hour is on no invoice any more. `closing` are customers whose hours before
    that moment come first.
    """
    outcome = SendResult()
    with ThreadPoolExecutor(workers) as pool:
        sending = _Sending(ledger, meter, clock, pool, outcome, progress)
        try:
            sending.run(too_late, closing or {})
        except StoppedError as error:
            outcome.stopped = str(error)
    if outcome.doubtful and not (outcome.stopped or outcome.taken or outcome.refused):
        outcome.stopped = f"Stripe gave no usable answer: {sending.last_doubt}"
    return outcome


class _Sending:
    """One run."""

    def __init__(
        self,
        ledger: MeterLedger,
        meter: Meter,
        clock: Callable[[], datetime],
        pool: ThreadPoolExecutor,
        outcome: SendResult,
        progress: Callable[[SendResult], object],
    ) -> None:
        self._ledger, self._meter, self._clock = ledger, meter, clock
        self._pool, self._outcome, self._progress = pool, outcome, progress
        self._left: set[str] = set()
        """Customers of whom nothing more is sent in this pass."""
        self._silent: set[str] = set()
        """Customers without a usable answer since the last one."""
        self._lock, self._stop = Lock(), Event()
        self._problems: list[StoppedError] = []
        self._former: dict[str, Report] = {}
        """Of the batch: as they were before they were claimed."""
        self.last_doubt = ""

    def run(self, too_late: Callable[[str, datetime], str], closing: Mapping[str, datetime]) -> None:
        """:raises StoppedError: nothing more should be sent in this run."""
        now = self._clock()
        late = [(report, too_late(*report.key)) for report in due.doubtful(self._ledger)]
        doubt.settle_late(self._ledger, self._meter, self._clock, [(report, why) for report, why in late if why])
        since = now - IDENTIFIER_WINDOW if self._meter.mode is Mode.DELTA else None
        if since:
            for batch in _batches(doubt.looked_up(self._ledger, self._meter, self._clock, since)):
                self._send(batch)
        for _ in range(PASSES):
            now = self._clock()
            in_doubt = [each for each in due.doubtful(self._ledger, since=since) if not too_late(*each.key)]
            self._left = {report.stripe_customer_id for report in in_doubt}
            in_doubt = [report for report in in_doubt if report.attempted_at and report.attempted_at < now]
            if closing:
                self._send_prepared(since, closing)
            self._send_prepared(since)
            self._left -= {report.stripe_customer_id for report in in_doubt}
            for batch in _batches(in_doubt):
                self._send(batch)
            self._send_prepared(since)
            if not self._outcome.doubtful:
                break

    def _send_prepared(self, since: datetime | None, closing: Mapping[str, datetime] | None = None) -> None:
        size = 1
        while batch := due.prepared(self._ledger, size, since, self._left, closing):
            self._send(batch)
            self._progress(self._outcome)
            size = min(size * 2, BATCH)

    def _send(self, batch: Sequence[Report]) -> None:
        """:raises StoppedError: nothing more should be sent in this run."""
        outcome, by_customer = self._outcome, attrgetter("stripe_customer_id")
        self._former = former = {report.identifier: report for report in batch}
        claimed = self._ledger.claim(sorted(batch, key=by_customer), self._clock())
        customers = [list(reports) for _, reports in groupby(claimed, by_customer)]
        done = [report for reports in self._pool.map(self._send_of_customer, customers) for report in reports]
        self._ledger.save(
            done, "state", "attempts", "answered_errors", "first_attempt_at", "attempted_at", "finished_at", "error"
        )
        states = [report.state for report in done]
        refused = [report for report in done if report.state is ReportState.REFUSED]
        outcome.taken += states.count(ReportState.SENT)
        outcome.refused += len(refused)
        outcome.refusals = [*outcome.refusals, *refused][:SAME_ANSWER]
        outcome.doubtful -= former.keys()
        outcome.doubtful |= {report.identifier for report in done if report.is_in_doubt}
        if self._problems:
            raise self._problems[0]
        answers = {report.error for report in outcome.refusals}
        if len(answers) == 1 and len(outcome.refusals) == SAME_ANSWER and not outcome.taken:
            raise StoppedError(f"Stripe refuses every report: {answers.pop()}")

    def _send_of_customer(self, reports: Sequence[Report]) -> list[Report]:
        """What became of each of them; what was not sent is as it came."""
        done: list[Report] = []
        for report in reports:
            if self._stop.is_set() or report.stripe_customer_id in self._left:
                done.append(self._former[report.identifier])
                continue
            try:
                self._meter.send(report)
            except RefusedError as error:
                # An attempt before this one may have been taken: then Stripe's totals will tell, see _confirm.
                state = ReportState.REFUSED if report.attempts == 1 else ReportState.SENT
                done.append(replace(report, state=state, finished_at=self._clock(), error=str(error)))
            except AnsweredError as error:
                self._note_doubt(report, error)
                done.append(replace(report, answered_errors=report.answered_errors + 1, error=str(error)))
                continue
            except InDoubtError as error:
                self._note_doubt(report, error)
                done.append(replace(report, error=str(error)))
                continue
            except StoppedError as error:
                self._problems.append(error)
                self._stop.set()
                done.append(self._former[report.identifier])
                continue
            else:
                done.append(replace(report, state=ReportState.SENT, finished_at=self._clock(), error=None))
            with self._lock:
                self._silent.clear()
        return done

    def _note_doubt(self, report: Report, error: InDoubtError) -> None:
        with self._lock:
            self.last_doubt = str(error)
            self._left.add(report.stripe_customer_id)
            self._silent.add(report.stripe_customer_id)
            if len(self._silent) >= SILENT_CUSTOMERS:
                self._problems.append(StoppedError(f"Stripe gave no usable answer: {error}"))
                self._stop.set()


def _batches(reports: Iterable[Report]) -> Iterator[list[Report]]:
    waiting = list(reports)
    return (waiting[start : start + BATCH] for start in range(0, len(waiting), BATCH))
