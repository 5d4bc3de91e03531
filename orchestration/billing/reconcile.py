"""What became of the usage at Stripe: confirming it, noting what Stripe refuses later, and what people decide of it.

The assets, the sensor and the commands call this. Planning and sending is in report.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

from orchestration.billing import needs, usage_query
from orchestration.billing.budget import for_confirming
from orchestration.billing.confirm import ReconcileResult, confirm
from orchestration.billing.meter import Connect, ErrorEvent, connected
from orchestration.billing.meter_ledger import UNCONFIRMED, MeterLedger, meter_ledger
from orchestration.billing.metering import GIVE_UP, GIVE_UP_DIFFERENCE, HOUR, Mode, ReportState
from orchestration.billing.reads import note_reads, reads_left
from orchestration.billing.revisions import Report, earlier_totals, units_at_stripe
from orchestration.billing.usage_query import LOOK_BACK
from orchestration.ledger import restored
from orchestration.ledger.outbox import RefusedError
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.usage.periods import utc_hour
from orchestration.warehouse import queries


def look_back(config: Settings, connect: Connect, clock: Callable[[], datetime]) -> ReconcileResult | None:
    """Compare what Stripe took with what it shows, within the day's reads; None without a key.

    :raises engines.BusyError: another run plans or sends.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, connect)
        if meter is None:
            return None
        final_at, wanted = needs.of_invoices(config, ledger, clock())
        reads = for_confirming(config.stripe_reads_per_day, reads_left(config, ledger, clock), wanted)
        result = confirm(ledger, meter, clock, reads, final_at)
        note_reads(ledger, clock, result.reads)
        return result


def note_rejections(config: Settings, connect: Connect, clock: Callable[[], datetime]) -> list[str]:
    """Read Stripe's error events since the last look, and refuse the reports that they name: sentences for people.

    :raises engines.BusyError: another run plans or sends, and would not know what is noted meanwhile.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, connect)
        if meter is None:
            return []
        # The moment of the newest events that were seen, and which these are: there may be more of the same moment.
        moment, *seen = (ledger.mark("events") or (clock() - timedelta(days=1)).isoformat()).split()
        told: list[str] = []
        for event_id, group in groupby(meter.errors(datetime.fromisoformat(moment)), attrgetter("event_id")):
            if event_id in seen:
                continue
            rejections = list(group)
            reports = ledger.at_stripe({rejection.identifier for rejection in rejections})
            for rejection in rejections:
                told += _noted(ledger, rejection, reports.pop(rejection.identifier, None), clock())
            moment, seen = rejection.created, [event_id, *(seen if rejection.created == moment else ())]
            ledger.remember("events", " ".join([moment, *seen]))
        return told


def _noted(ledger: MeterLedger, rejection: ErrorEvent, report: Report | None, now: datetime) -> list[str]:
    if not rejection.identifier:
        return [f"{rejection.count:,} more reports: {rejection.sentence}"]
    if report is None:
        return []
    refused = replace(report, state=ReportState.REFUSED, finished_at=now, error=rejection.sentence)
    ledger.save([refused], "state", "finished_at", "error")
    return [f"{report.stripe_customer_id}, {report.hour_start:%Y-%m-%d %H:%M} UTC: {rejection.sentence}"]


def settle(config: Settings, clock: Callable[[], datetime], name: str, note: str) -> list[Report]:
    """People have dealt with what was held or refused, and say how: it is no problem any more, and not sent.

    `name` is a report's identifier, or a customer for all of its own.

    :raises LookupError: there is no such report among the problems.
    """
    ledger = meter_ledger(config)
    found = [
        replace(each, state=ReportState.SETTLED, finished_at=clock(), error=f"{note} (was: {each.error})")
        for each in ledger.problems()
        if name in (each.identifier, each.stripe_customer_id) and each.state is not ReportState.MISMATCH
    ]
    if not found:
        raise LookupError(f"{name} has no held or refused usage: `headroom stripe problems` lists all of it")
    ledger.save(found, "state", "finished_at", "error")
    return found


def adopt(config: Settings, connect: Connect, clock: Callable[[], datetime], customer: str, hour: datetime) -> Report:
    """Take the total that Stripe shows for the hour for what was reported: the next plan sends what is missing.

    :raises engines.BusyError: another run plans or sends.
    :raises LookupError: the ledger knows nothing of that hour, or its last report is in doubt.
    :raises StoppedError, ValueError, RefusedError: Stripe cannot be asked.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, connect)
        if meter is None:
            raise ValueError("STRIPE_API_KEY is not set, so Headroom cannot ask Stripe")
        revisions = ledger.of_customer(customer, hour, hour + HOUR)
        if not revisions:
            raise LookupError(f"no report of {customer} for {hour:%Y-%m-%d %H:%M} UTC")
        if revisions[-1].is_in_doubt:
            raise LookupError(
                f"the last report of {customer} for {hour:%Y-%m-%d %H:%M} UTC is in doubt: the next runs settle it"
            )
        units = meter.hourly_totals(customer, hour, hour + HOUR).get(hour, 0)
        if until := _not_before(revisions, units, meter.mode, clock()):
            raise LookupError(
                f"Stripe shows {counted(units, 'unit')} of {customer} for {hour:%Y-%m-%d %H:%M} UTC, and may not"
                f" have added up the last report yet. If it still does, adopt that total after"
                f" {until:%Y-%m-%d %H:%M} UTC"
            )
        known = units_at_stripe(revisions, meter.mode).get((customer, hour), 0)
        return ledger.adopt(customer, hour, units, known, clock())


def _not_before(revisions: Sequence[Report], shown: int, mode: Mode, now: datetime) -> datetime | None:
    """Until when Stripe's total of an hour may be one that lacks a report; None: it is not."""
    awaited: list[datetime] = []
    for each in revisions:
        if each.state is ReportState.CONFIRMED:
            awaited.clear()
        elif each.state in (*UNCONFIRMED, ReportState.LOST) and each.finished_at:
            awaited.append(each.finished_at)
    if not awaited:
        return None
    until = max(awaited) + (GIVE_UP_DIFFERENCE if shown in earlier_totals(revisions, mode) else GIVE_UP)
    return until if now < until else None


def adopt_all(config: Settings, connect: Connect, clock: Callable[[], datetime]) -> list[Report]:
    """Take what Stripe shows for what was reported, in all hours that usage is compared for: after the ledger was lost,
    or restored from a backup. Not sooner than three hours after the last report was sent, for Stripe adds up late; what
    the ledger knows to be sent more lately is left as it is.

    The hours that were different; the next plan sends what they lack.

    :raises engines.BusyError: another run plans or sends.
    :raises StoppedError, ValueError: Stripe cannot be asked.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, connect, adopts=True)
        if meter is None:
            raise ValueError("STRIPE_API_KEY is not set, so Headroom cannot ask Stripe")
        start, end = utc_hour(config.now() - LOOK_BACK), utc_hour(queries.data_quality(config.published)["as_of"])
        with usage_query.billable_usage(config.published, start, end, meter=config.billed_meter) as usage:
            customers = ledger.customers(start) | {c for day in usage.days() for c, _, _ in usage.hours(day) if c}
        adopted = []
        for customer in sorted(customers):
            revisions = ledger.of_customer(customer, start, end)
            newest = {report.hour_start: report for report in revisions}
            stands = {hour: units for (_, hour), units in units_at_stripe(revisions, meter.mode).items()}
            try:
                shown = meter.hourly_totals(customer, start, end)
            except RefusedError:
                continue  # nothing of an unknown customer is billed; its reports will say so
            for hour in sorted(stands.keys() | shown.keys()):
                known, units = stands.get(hour, 0), shown.get(hour, 0)
                of_hour = [each for each in revisions if each.hour_start == hour]
                is_in_doubt = hour in newest and newest[hour].is_in_doubt
                if units != known and not is_in_doubt and not _not_before(of_hour, units, meter.mode, clock()):
                    adopted.append(ledger.adopt(customer, hour, units, known, clock()))
        restored.note_adopted(ledger.ledger)
        return adopted
