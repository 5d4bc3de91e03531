"""Usage periods that have ended, hour by hour: what was counted, what was reported, what Stripe shows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from orchestration.billing import usage_query
from orchestration.billing.certificate import Certificate, Status, differences, is_due
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.confirm import LAG
from orchestration.billing.meter import Connect, Meter, StoppedError, connected
from orchestration.billing.meter_ledger import MeterLedger, meter_ledger
from orchestration.billing.metering import HORIZON, HOUR, ReportState
from orchestration.billing.reads import note_reads, reads_left
from orchestration.billing.revisions import Report, units_at_stripe
from orchestration.billing.usage_query import BillableUsage
from orchestration.ledger.outbox import RefusedError
from orchestration.settings import Settings
from orchestration.usage.periods import utc_hour
from orchestration.warehouse import queries

PERIODS = 100
"""Usage periods whose hours are in memory at a time."""


@dataclass
class CertifyResult:
    """What a comparison of whole usage periods has found."""

    certified: int = 0
    open: list[Certificate] = field(default_factory=list)
    reads: int = 0
    left: int = 0
    """Periods that are due and were not compared: the reads were used up."""
    stopped: str = ""


def certify(config: Settings, connect: Connect, clock: Callable[[], datetime]) -> CertifyResult | None:
    """Compare usage periods that have ended hour by hour: what was counted, what was reported, what Stripe shows. None
    without a key. Within the day's reads; those that were never compared come first.

    :raises engines.BusyError: another run plans or sends.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger, since = meter_ledger(config), config.now() - HORIZON
    certificates, outcome = Certificates(ledger), CertifyResult()
    with ledger.alone():
        meter, live_since = connected(config, ledger, connect), ledger.live_since()
        if meter is None:
            return None
        # A period whose last hour was not closed at the last build is not whole yet.
        end = min(utc_hour(queries.data_quality(config.published)["as_of"]), utc_hour(config.now()))
        former, reads = certificates.since(since), reads_left(config, ledger, clock)
        with usage_query.billable_usage(config.published, since, end, config.bill_sampled) as usage:
            due = [
                period
                for period in usage.invoiced(since, end)
                if live_since and live_since < period["period_end"] <= end
                if is_due(former.get(_key(period)), period["units"], clock())
            ]
            due.sort(key=lambda period: former[_key(period)].certified_at if _key(period) in former else since)
            for number, (period, counted) in enumerate(_with_usage(usage, due)):
                pages = -(-int((period["period_end"] - period["period_start"]) / HOUR) // 100)
                outcome.left = len(due) - number
                if outcome.reads + pages > reads:
                    break
                try:
                    found = _compared(config, ledger, meter, period, counted, clock)
                except StoppedError as error:
                    outcome.stopped = str(error)
                    break
                outcome.left -= 1
                outcome.reads += pages if found.stripe_units is not None else 0
                certificates.save(found)
                if found.status is Status.CERTIFIED:
                    outcome.certified += 1
                else:
                    outcome.open.append(found)
        note_reads(ledger, clock, outcome.reads)
    return outcome


def _with_usage(
    usage: BillableUsage, periods: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], dict[datetime, int]]]:
    """Each period with its units by hour, some of them read at a time."""
    for first in range(0, len(periods), PERIODS):
        some = periods[first : first + PERIODS]
        start, end = min(each["period_start"] for each in some), max(each["period_end"] for each in some)
        counted = usage.of_customers([each["stripe_customer_id"] for each in some], start, end)
        for each in some:
            hours = counted[each["stripe_customer_id"]]
            yield each, {h: units for h, units in hours.items() if each["period_start"] <= h < each["period_end"]}


def _key(period: Mapping[str, Any]) -> tuple[str, datetime]:
    return period["stripe_customer_id"], period["period_start"]


def _compared(
    config: Settings,
    ledger: MeterLedger,
    meter: Meter,
    period: Mapping[str, Any],
    counted: Mapping[datetime, int],
    clock: Callable[[], datetime],
) -> Certificate:
    """:raises StoppedError: Stripe could not be asked."""
    customer, start, end = period["stripe_customer_id"], period["period_start"], period["period_end"]
    revisions = ledger.of_customer(customer, start, end)
    newest = {report.hour_start: report for report in revisions}
    reported = {hour: units for (_, hour), units in units_at_stripe(revisions, meter.mode).items()}
    errors = {hour: report.error for hour, report in newest.items() if report.error}
    under_way = [hour for hour, report in newest.items() if _is_under_way(report, clock())]
    shown: dict[datetime, int] | None = None
    difference = differences(counted, reported, "reported", errors)
    if not difference and under_way:
        difference = f"{len(under_way):,} hours are being reported, and compared by a later run"
    elif not difference:
        try:
            shown = meter.hourly_totals(customer, start, end)
            difference = differences(counted, shown, "shown by Stripe", errors)
        except RefusedError as error:
            shown, difference = {}, str(error)
    return Certificate(
        stripe_customer_id=customer,
        period_start=start,
        period_end=end,
        final_at=end + timedelta(hours=config.stripe_grace_hours),
        hours=len({*counted, *reported, *(shown or {})}),
        units=sum(counted.values()),
        reported_units=sum(reported.values()),
        stripe_units=None if shown is None else sum(shown.values()),
        status=Status.OPEN if difference else Status.CERTIFIED,
        difference=difference or None,
        certified_at=clock(),
    )


def _is_under_way(report: Report, now: datetime) -> bool:
    if report.state is ReportState.SENT:
        return report.finished_at is None or now - report.finished_at < LAG
    return report.state in (ReportState.PREPARED, ReportState.SENDING)
