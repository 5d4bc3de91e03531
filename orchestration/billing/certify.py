"""Usage periods that have ended, by Stripe's subscriptions: is what was counted on their invoices?

Before an invoice is final, what was counted is compared with what was reported and what Stripe's meter shows: soon
after the period's end, and once more within the last hour. Afterwards with the invoice itself, which costs no request.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestration.billing import usage_query
from orchestration.billing.billed_periods import BilledPeriod, billed_periods
from orchestration.billing.budget import wanted_by_invoices
from orchestration.billing.catalog_prices import ExpectedAmounts
from orchestration.billing.certificate import LAST_LOOK, Certificate, Status, differences, is_due
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.confirm import HOURS_OF_A_PAGE, LAG
from orchestration.billing.invoicing import Invoicing
from orchestration.billing.meter import Connect, Meter, StoppedError, connected
from orchestration.billing.meter_ledger import MeterLedger, meter_ledger
from orchestration.billing.metering import HORIZON, HOUR, STANDS, ReportState
from orchestration.billing.read_invoices import subscriptions_read_at
from orchestration.billing.reads import note_reads, reads_left
from orchestration.billing.revisions import Report, units_at_stripe
from orchestration.billing.usage_query import BillableUsage
from orchestration.billing.verdict import Facts, Shown, judge
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
    awaiting: list[Certificate] = field(default_factory=list)
    reads: int = 0
    left: int = 0
    """Periods that are due and were not compared: the requests were used up."""
    stopped: str = ""


class _NoReadsError(Exception):
    """The day's requests are used up."""


def certify(config: Settings, connect: Connect, clock: Callable[[], datetime]) -> CertifyResult | None:
    """Compare usage periods that have ended: what was counted, reported, shown by Stripe's meter and invoiced. None
    without a key. Within the day's reads; what becomes final soonest comes first.

    :raises engines.BusyError: another run plans or sends.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, connect)
        if meter is None:
            return None
        return _Comparison(config, ledger, meter, clock).run()


class _Comparison:
    def __init__(self, config: Settings, ledger: MeterLedger, meter: Meter, clock: Callable[[], datetime]) -> None:
        self._config, self._ledger, self._meter, self._clock = config, ledger, meter, clock
        self._certificates, self._amounts = Certificates(ledger), ExpectedAmounts(config, ledger)
        self._read_at, self._live_since = subscriptions_read_at(ledger), ledger.live_since()
        self._outcome = CertifyResult()
        self._reads = 0

    def run(self) -> CertifyResult:
        config, ledger, outcome, now = self._config, self._ledger, self._outcome, self._clock()
        since = config.now() - HORIZON
        # A period whose last hour was not closed at the last build is not whole yet.
        end = min(utc_hour(queries.data_quality(config.published)["as_of"]), utc_hour(config.now()))
        former = self._certificates.since(since)
        with usage_query.billable_usage(
            config.published, since, end, config.bill_sampled, config.billed_meter
        ) as usage:
            periods = [each for each in self._periods(usage, since, end) if self._is_whole(each, end)]
            units = usage.within([(each.stripe_customer_id, each.start, each.end) for each in periods])
            counted = {_key(each): count for each, count in zip(periods, units, strict=True)}
            periods = [each for each in periods if counted[_key(each)] or each.invoice_units]
            self._certificates.drop(_vanished(former, periods))
            due = [each for each in periods if self._is_due(each, counted[_key(each)], former.get(_key(each)), now)]
            due.sort(key=lambda each: _need(each, former.get(_key(each)), counted[_key(each)], now))
            spared = wanted_by_invoices(now, len({each.stripe_customer_id for each in due}), 0)
            spared = min(config.stripe_reads_per_day // 4, spared)
            self._reads = max(0, reads_left(config, ledger, self._clock) - spared)
            for number, (period, hours) in enumerate(_with_usage(usage, due)):
                try:
                    found = self._compared(period, hours, former.get(_key(period)))
                except _NoReadsError:
                    outcome.left += 1
                    continue
                except StoppedError as error:
                    outcome.stopped = str(error)
                    outcome.left += len(due) - number
                    break
                self._certificates.save(found)
                if found.status is Status.CERTIFIED:
                    outcome.certified += 1
                else:
                    (outcome.open if found.status is Status.OPEN else outcome.awaiting).append(found)
        note_reads(ledger, self._clock, outcome.reads)
        return outcome

    def _periods(self, usage: BillableUsage, since: datetime, end: datetime) -> list[BilledPeriod]:
        """Subscription periods, and what of the accounts' own periods no subscription has."""
        store, grace = Invoicing(self._ledger), timedelta(hours=self._config.stripe_grace_hours)
        periods = store.periods(since)
        subscribed = {each.stripe_customer_id for each in periods}
        accounts = []
        for row in usage.invoiced(since, end):
            customer, start, ends = row["stripe_customer_id"], row["period_start"], row["period_end"]
            if customer in subscribed and self._read_at:
                # a subscription that began since they were read may have what comes later
                ends = min(ends, utc_hour(self._read_at))
            elif ends > end or (self._read_at and self._read_at < ends):
                continue
            if start < ends:
                accounts.append((customer, start, ends))
        return billed_periods(accounts, periods, store.lines(since), self._clock(), grace)

    def _is_due(self, period: BilledPeriod, units: int, before: Certificate | None, now: datetime) -> bool:
        return is_due(before, units, period.invoice_units, period.invoice_amount, period.final_at, now)

    def _is_whole(self, period: BilledPeriod, end: datetime) -> bool:
        live_since = self._live_since
        return live_since is not None and live_since < period.end and (period.end <= end or not period.items)

    def _compared(
        self, period: BilledPeriod, counted: Mapping[datetime, int], before: Certificate | None
    ) -> Certificate:
        """:raises StoppedError: Stripe could not be asked. :raises _NoReadsError: it may not be asked any more."""
        revisions = self._ledger.of_customer(period.stripe_customer_id, period.start, period.end)
        newest = {report.hour_start: report for report in revisions}
        reported = _stands(revisions, self._meter)
        now, units = self._clock(), sum(counted.values())
        expected = self._amounts.of(period, units)
        in_time = _stands(_taken_before(revisions, period.final_at), self._meter) if period.is_closed else reported
        facts = Facts(
            billed=period,
            counted=counted,
            reported=reported,
            errors={hour: report.error for hour, report in newest.items() if report.error},
            under_way=sum(_is_under_way(report, now) for report in newest.values()),
            late_units=sum(reported.values()) - sum(in_time.values()),
            expected_amount=expected,
            is_read=self._read_at is not None,
            now=now,
        )
        is_confirmed = all(report.state is ReportState.CONFIRMED for report in newest.values())
        confirmed = sum(reported.values()) if is_confirmed else None
        is_last_look = period.final_at - LAST_LOOK <= now < period.final_at
        if confirmed is not None and not period.is_closed and not is_last_look:
            status, difference, shown = judge(facts, lambda: Shown(confirmed))
        else:
            status, difference, shown = judge(facts, lambda: self._shown(facts))
        lines = period.billing_lines
        return Certificate(
            stripe_customer_id=period.stripe_customer_id,
            period_start=period.start,
            period_end=period.end,
            final_at=period.final_at,
            hours=len({*counted, *reported}),
            units=units,
            reported_units=sum(reported.values()),
            stripe_units=shown if shown is not None else confirmed,
            status=status,
            difference=difference or None,
            certified_at=now,
            subscription_id=period.subscription_id,
            invoice_ids=period.invoice_ids,
            line_ids=period.line_ids,
            invoice_units=period.invoice_units,
            invoice_amount=period.invoice_amount,
            expected_amount=expected,
            currency=lines[0].currency if lines else None,
        )

    def _shown(self, facts: Facts) -> Shown:
        """Stripe's total, by one request; the hours only where it is another one than was reported."""
        period, reported = facts.billed, sum(facts.reported.values())
        start, end = _hour_from(period.start), _hour_from(period.end)
        if start >= end:
            return Shown(0)
        if not self._may_read(1):
            if period.is_closed:
                return Shown()
            raise _NoReadsError
        try:
            total = self._meter.total(period.stripe_customer_id, start, end)
            if total == reported:
                return Shown(total)
            if not self._may_read(-(-int((end - start) / HOUR) // HOURS_OF_A_PAGE)):
                return Shown(total, f"{reported:,} reported, {total:,} shown by Stripe's meter")
            hours = self._meter.hourly_totals(period.stripe_customer_id, start, end)
        except RefusedError as error:
            return Shown(0, str(error))
        found = differences(facts.counted, hours, "shown by Stripe", facts.errors)
        return Shown(total, found or f"{reported:,} reported, {total:,} shown by Stripe's meter")

    def _may_read(self, requests: int) -> bool:
        if self._outcome.reads + requests > self._reads:
            return False
        self._outcome.reads += requests
        return True


def _need(
    period: BilledPeriod, before: Certificate | None, units: int, now: datetime
) -> tuple[bool, bool, float, bool]:
    """What needs no request first, then what becomes final soonest, and of that what changed or was never compared."""
    needs_request = bool(period.items) and not period.is_closed and not period.is_trial
    seconds = abs((period.final_at - now).total_seconds())
    is_unchanged = before is not None and before.units == units
    return needs_request, period.final_at <= now, seconds, is_unchanged


def _vanished(
    former: Mapping[tuple[str, datetime], Certificate], periods: Sequence[BilledPeriod]
) -> list[tuple[str, datetime]]:
    """Open ones of usage that no subscription billed, and that one bills by now, or that is not counted any more."""
    kept = {_key(each) for each in periods}
    return [
        key
        for key, each in former.items()
        if key not in kept and each.subscription_id is None and each.status is Status.OPEN
    ]


def _with_usage(
    usage: BillableUsage, periods: Sequence[BilledPeriod]
) -> Iterator[tuple[BilledPeriod, dict[datetime, int]]]:
    """Each period with its units by hour, some of them read at a time."""
    for first in range(0, len(periods), PERIODS):
        some = periods[first : first + PERIODS]
        start, end = min(each.start for each in some), max(each.end for each in some)
        counted = usage.of_customers([each.stripe_customer_id for each in some], start, end)
        for each in some:
            hours = counted[each.stripe_customer_id]
            yield each, {hour: units for hour, units in hours.items() if each.start <= hour < each.end}


def _key(period: BilledPeriod) -> tuple[str, datetime]:
    return period.stripe_customer_id, period.start


def _stands(revisions: Iterable[Report], meter: Meter) -> dict[datetime, int]:
    return {hour: units for (_, hour), units in units_at_stripe(revisions, meter.mode).items()}


def _taken_before(revisions: Iterable[Report], moment: datetime) -> list[Report]:
    """All but those that Stripe took from then on."""
    return [
        report
        for report in revisions
        if report.state not in STANDS or not report.finished_at or report.finished_at < moment
    ]


def _hour_from(moment: datetime) -> datetime:
    """The first hour that begins then or later."""
    hour = utc_hour(moment)
    return hour if hour == moment else hour + HOUR


def _is_under_way(report: Report, now: datetime) -> bool:
    if report.state is ReportState.SENT:
        return report.finished_at is None or now - report.finished_at < LAG
    return report.state in (ReportState.PREPARED, ReportState.SENDING)
