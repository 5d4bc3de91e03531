"""Finds out what became of the reports that a meter took: Stripe answers before it looks, and shows its totals later.

A report is confirmed when the total that Stripe shows for its hour is the one that was reported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orchestration.billing.budget import by_need
from orchestration.billing.meter import Meter, StoppedError
from orchestration.billing.meter_ledger import UNCONFIRMED, MeterLedger
from orchestration.billing.metering import GIVE_UP, GIVE_UP_DIFFERENCE, HOUR, CustomerHour, Mode, ReportState
from orchestration.billing.revisions import Report, earlier_totals, reports_at_stripe, units_at_stripe
from orchestration.ledger.outbox import RefusedError
from orchestration.usage.formatting import counted

LAG = timedelta(minutes=15)
"""Stripe adds up later than it answers; sooner its totals are not looked at."""
CHECKS = 3
"""After so many looks that do not show a total, and three hours, it will not appear."""
HOURS_OF_A_PAGE = 100


@dataclass
class ReconcileResult:
    """What a look at Stripe's totals has found."""

    confirmed: int = 0
    waiting: int = 0
    """Taken, and not shown yet."""
    lost: int = 0
    mismatched: int = 0
    reads: int = 0
    customers_left: int = 0
    """Not looked at: the reads were used up."""
    stopped: str = ""


def confirm(
    ledger: MeterLedger,
    meter: Meter,
    clock: Callable[[], datetime],
    reads: int,
    final_at: Mapping[str, datetime] | None = None,
) -> ReconcileResult:
    """Compare what Stripe took with what it shows, for as many customers as `reads` requests are enough for.

    Those come first whose invoice becomes final soonest, by `final_at`.

    A total that Stripe does not show is lost, and planned again. The second time, or where differences are sent, it is
    given a day, and is a mismatch then: it stays as it is, and people see it among the problems.
    """
    outcome = ReconcileResult()
    waiting = by_need(ledger.unconfirmed(clock() - LAG), final_at or {}, clock())
    for customer, (first, last) in waiting.items():
        pages = -(-int((last + HOUR - first) / HOUR) // HOURS_OF_A_PAGE)
        if outcome.reads + pages + (pages > 1) > reads:
            outcome.customers_left += 1
            continue
        try:
            _confirm(ledger, meter, clock(), customer, first, last + HOUR, outcome)
        except StoppedError as error:
            outcome.stopped = str(error)
            break
    return outcome


def _confirm(
    ledger: MeterLedger,
    meter: Meter,
    now: datetime,
    customer: str,
    start: datetime,
    end: datetime,
    outcome: ReconcileResult,
) -> None:
    revisions = ledger.of_customer(customer, start, end)
    lost = {report.hour_start for report in revisions if report.state is ReportState.LOST}
    stands = reports_at_stripe(revisions).values()
    try:
        shown, problem = _shown(meter, customer, start, end, units_at_stripe(revisions, meter.mode), outcome), ""
    except RefusedError as error:
        shown, problem = {}, meter.problem_of(customer) or str(error)
    judged = []
    for report in stands:
        if report.state not in UNCONFIRMED or not report.finished_at:
            continue  # in doubt, for one
        if report.finished_at > now - LAG:
            continue
        units = shown.get(report.hour_start, 0)
        seen = replace(report, stripe_units=units, checks=report.checks + 1, checked_at=now)
        if units == report.units and not problem:
            former = [each for each in revisions if each.hour_start == report.hour_start and each.state in UNCONFIRMED]
            judged += [replace(each, state=ReportState.CONFIRMED, error=None) for each in former if each != report]
            judged.append(replace(seen, state=ReportState.CONFIRMED, error=None))
            outcome.confirmed += 1
        elif seen.checks < CHECKS or now - report.finished_at < GIVE_UP:
            judged.append(seen)
            outcome.waiting += 1
        elif why := problem or _refusal(report) or meter.problem_of(customer):
            judged.append(replace(seen, state=ReportState.REFUSED, finished_at=now, error=why))
            outcome.lost += 1
        elif meter.mode is Mode.TOTAL and report.hour_start not in lost:
            said = f"Stripe shows {units:,} units after {seen.checks} looks; sent again"
            judged.append(replace(seen, state=ReportState.LOST, finished_at=now, error=said))
            outcome.lost += 1
        elif now - report.finished_at < GIVE_UP_DIFFERENCE and units in earlier_totals(
            (each for each in revisions if each.hour_start == report.hour_start), meter.mode
        ):
            judged.append(seen)  # as if it had not come yet: Stripe can be a day behind
            outcome.waiting += 1
        else:
            judged.append(replace(seen, state=ReportState.MISMATCH, error=_mismatch(seen)))
            outcome.mismatched += 1
    ledger.save(judged, "state", "finished_at", "error", "stripe_units", "checks", "checked_at")


def _shown(
    meter: Meter,
    customer: str,
    start: datetime,
    end: datetime,
    stands: Mapping[CustomerHour, int],
    outcome: ReconcileResult,
) -> dict[datetime, int]:
    """Stripe's totals by hour. Where they are more than a page, their sum is asked for first: if that is right, so are
    they.
    """
    pages = -(-int((end - start) / HOUR) // HOURS_OF_A_PAGE)
    if pages > 1:
        outcome.reads += 1
        if meter.total(customer, start, end) == sum(stands.values()):
            return {hour: units for (_, hour), units in stands.items()}
    outcome.reads += pages
    return meter.hourly_totals(customer, start, end)


def _refusal(report: Report) -> str:
    """Why a report that may have been taken before was refused when it was sent again."""
    return (report.error or "") if report.state is ReportState.SENT else ""


def _mismatch(report: Report) -> str:
    return (
        f"Stripe shows {counted(report.stripe_units or 0, 'unit')}, but accepted {report.units:,}: another program"
        f" writes to the meter, or an event was canceled. `headroom stripe adopt {report.stripe_customer_id}"
        f" {report.hour_start:%Y-%m-%dT%H}` accepts Stripe's total as reported, and the next run sends the"
        " difference"
    )
