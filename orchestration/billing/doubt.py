"""What became of reports in doubt that may not simply be sent again: the totals that Stripe shows tell.

- A difference whose identifier Stripe may have forgotten would be added a second time.
- A report whose invoice is final would be on no invoice, and still be shown in Stripe's totals.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

from orchestration.billing import due
from orchestration.billing.meter import Meter
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import GIVE_UP, GIVE_UP_DIFFERENCE, HOUR, STANDS, ReportState
from orchestration.billing.revisions import Report, units_at_stripe
from orchestration.ledger.outbox import RefusedError
from orchestration.usage.formatting import counted


def settle_late(
    ledger: MeterLedger, meter: Meter, clock: Callable[[], datetime], late: Sequence[tuple[Report, str]]
) -> None:
    """Reports in doubt, each with why it is too late to send it: taken where Stripe shows it, else held for people.

    Not looked at before Stripe had the time to add it up.

    :raises StoppedError: Stripe could not be asked.
    """
    by_customer = attrgetter("stripe_customer_id")
    why = {report.identifier: reason for report, reason in late}
    old = [r for r, _ in late if clock() - (r.attempted_at or r.created_at) >= GIVE_UP]
    for customer, group in groupby(sorted(old, key=by_customer), by_customer):
        reports = list(group)
        first, last = min(r.hour_start for r in reports), max(r.hour_start for r in reports) + HOUR
        revisions, seen = ledger.of_customer(customer, first, last), []
        try:
            shown = meter.hourly_totals(customer, first, last)
        except RefusedError as error:
            words = meter.problem_of(customer) or str(error)
            refused = [replace(r, state=ReportState.REFUSED, finished_at=clock(), error=words) for r in reports]
            ledger.save(refused, "state", "finished_at", "error")
            continue
        for report in reports:
            others = [r for r in revisions if r.key == report.key and r.identifier != report.identifier]
            before = units_at_stripe(others, meter.mode).get(report.key, 0)
            after = units_at_stripe([*others, report], meter.mode)[report.key]
            units = shown.get(report.hour_start, 0)
            looked = replace(report, stripe_units=units, checked_at=clock(), finished_at=clock(), error=None)
            if units == after:
                seen.append(replace(looked, state=ReportState.SENT, finished_at=report.attempted_at))
            elif units == before:
                words = f"{counted(after - before, 'unit', sign='+')} not billed: {why[report.identifier]}"
                seen.append(replace(looked, state=ReportState.HELD, error=words))
            else:
                words = (
                    f"Stripe shows {counted(units, 'unit')} for this hour, and {before:,} or {after:,} reported."
                    f" {why[report.identifier]}: correct it by a credit note or the next invoice"
                )
                seen.append(replace(looked, state=ReportState.HELD, error=words))
        ledger.save(seen, "state", "finished_at", "error", "stripe_units", "checked_at")


def looked_up(ledger: MeterLedger, meter: Meter, clock: Callable[[], datetime], since: datetime) -> Iterator[Report]:
    """Differences whose identifier may be forgotten at Stripe, or was sent by a ledger that is lost: those of them that
    may be sent. The others wait, or the total that Stripe shows has settled them.
    """
    by_customer = attrgetter("stripe_customer_id")
    for customer, group in groupby(sorted(due.old(ledger, since), key=by_customer), by_customer):
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
    late = [each for each in taken if each.state is not ReportState.CONFIRMED]
    if any(now - (each.finished_at or now) < GIVE_UP_DIFFERENCE for each in late):
        return report  # what was sent before it may not be added up yet
    if shown == known + report.value:
        return replace(seen, state=ReportState.SENT, finished_at=now, checked_at=now, error=None)
    if shown != known:
        said = (
            f"Stripe shows {counted(shown, 'unit')} for this hour, and {known:,} were reported: `headroom stripe"
            f" adopt {report.stripe_customer_id} {report.hour_start:%Y-%m-%dT%H}` accepts Stripe's total as reported"
        )
        return replace(seen, state=ReportState.MISMATCH, finished_at=now, checked_at=now, error=said)
    if not report.is_in_doubt:
        return None
    if report.checked_at is None:
        return replace(seen, checked_at=now, error="not found at Stripe; sent again if it is still missing tomorrow")
    if now - report.checked_at < timedelta(hours=24):
        return report
    return replace(seen, state=ReportState.LOST, finished_at=now, error="never arrived at Stripe; sent again")
