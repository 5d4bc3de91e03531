"""Usage to Stripe: what the marts say and the ledger does not have yet is planned, recorded and sent.

The asset and the commands call this; each step can be repeated, and be killed, at any line. What became of it is looked
at in reconcile.py.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, partial
from typing import Any

import sqlalchemy as sa

from orchestration.billing import due, meters, reporter, usage_query
from orchestration.billing.approval import Change, Limits, Waiting
from orchestration.billing.catalog import plans_by_name
from orchestration.billing.forgotten import forgotten
from orchestration.billing.meter import ADOPT, Connect, Meter, StoppedError, connected
from orchestration.billing.meter_ledger import MeterLedger, meter_ledger
from orchestration.billing.metering import HORIZON, DayPlan, MeterReport, Mode, ReportState, Terms, plan
from orchestration.billing.read_invoices import known_finality
from orchestration.billing.reads import note_reads
from orchestration.billing.reporter import SendResult
from orchestration.billing.revisions import Report
from orchestration.billing.usage_query import LOOK_BACK, BillableUsage
from orchestration.ledger import restored
from orchestration.settings import Settings
from orchestration.usage import pricing
from orchestration.usage.formatting import counted
from orchestration.usage.periods import month_start, utc_hour
from orchestration.warehouse import queries

SENT_THROUGH = "sent through"
"""Name of a mark: the end of the hours of which nothing is left to be sent."""


@dataclass(frozen=True)
class ReportPlan:
    """A plan in sum, and what speaks against it."""

    change: Change
    window: tuple[datetime, datetime]
    """The closed UTC hours that Stripe takes usage for."""
    units: int
    """Of customers in those hours."""
    unbilled_units: int
    """Of accounts without a Stripe customer in those hours."""
    waiting: Waiting
    """What has to be approved first; all the rest is sent."""


@dataclass(frozen=True)
class CustomerChange:
    """What a plan changes for a customer in a usage period."""

    stripe_customer_id: str
    account_name: str
    """Of one of the accounts."""
    accounts: int
    period_start: datetime
    units_before: int
    units: int
    currency: str
    amount_before: Decimal | None
    """Overage at the catalog's prices; None where the accounts have no plan of it, or several."""
    amount: Decimal | None
    is_waiting: bool = False
    """Whether some of it has to be approved."""

    @property
    def added(self) -> Decimal:
        return (self.amount or Decimal(0)) - (self.amount_before or Decimal(0))


@dataclass
class ReportResult:
    """What a run did for Stripe."""

    planned: ReportPlan
    sent: SendResult | None = None
    """None: a preview."""
    unsent: list[Report] = field(default_factory=list)
    """What is not at Stripe of periods that are over: their invoices are final soon."""
    final_at: datetime | None = None
    """When the first of these invoices is."""

    @property
    def alarm(self) -> str:
        """What is about to miss its invoice, in a sentence; empty where nothing is."""
        if not self.unsent:
            return ""
        customers = {report.stripe_customer_id for report in self.unsent}
        return (
            f"{counted(len(self.unsent), 'customer-hour')} of {counted(len(customers), 'customer')} in ended"
            f" periods are not at Stripe. The first invoice is final at {self.final_at:%Y-%m-%d %H:%M} UTC. A"
            " schedule tries again within minutes, `headroom stripe apply` at once"
        )


def look_ahead(config: Settings, connect: Connect) -> tuple[ReportPlan, list[CustomerChange]]:
    """What would be planned now, and what it comes to for each customer, the largest amount first. Records nothing.
    Without a key it is what the first run with one would report: what was previewed does not count.

    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    meter = connected(config, ledger, connect)
    with _planning(config, ledger, meter.mode if meter else Mode.TOTAL) as planning:
        planned = planning.look_ahead(by_day=True)
        return planned, planning.in_money(planned)


def report_usage(
    config: Settings,
    connect: Connect,
    clock: Callable[[], datetime],
    approved: str = "",
    retry: bool = False,
    progress: Callable[[SendResult], object] = lambda _: None,
) -> ReportResult:
    """Plan, record, send. `clock` is the real one; which hours are closed, the one of the figures says.

    What has to be approved is recorded, and waits; the rest is sent: see ReportPlan.waiting. `retry` sends again what
    was refused less than a day ago.

    :raises engines.BusyError: another run does it.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, connect)
        with _planning(config, ledger, meter.mode if meter else None, retry) as planning:
            planned, terms = planning.look_ahead(approved), planning.terms
            if meter:
                _know_all(config, ledger, meter, planned, clock)
            planning.commit(planned)
        if meter is None:
            return ReportResult(planned)
        sent = reporter.send_due(
            ledger, meter, clock, progress=progress, too_late=terms.too_late, closing=terms.closing
        )
        if not sent.stopped and due.is_all_sent(ledger):
            ledger.remember(SENT_THROUGH, planned.window[1].isoformat())
        unsent = due.unsent(ledger, terms.closing)
        grace = timedelta(hours=config.stripe_grace_hours)
        final_at = min((terms.closing[report.stripe_customer_id] + grace for report in unsent), default=None)
        return ReportResult(planned, sent, unsent, final_at)


def _know_all(
    config: Settings, ledger: MeterLedger, meter: Meter, planned: ReportPlan, clock: Callable[[], datetime]
) -> None:
    """:raises StoppedError: Stripe has usage that the ledger does not know of; it is treated as a copy from now on."""
    if not config.stripe_reads_per_day:
        return
    found, reads = forgotten(ledger, meter, planned.change.hours, planned.window[1])
    note_reads(ledger, clock, reads)
    if found:
        restored.note_older(ledger.ledger, clock())
        raise StoppedError(f"{found.sentence}. Nothing was sent. {ADOPT}")


def is_behind(config: Settings) -> bool:
    """Whether closed hours were published that no run has brought to Stripe to the end.

    :raises NothingPublishedError: no run has published anything yet.
    """
    closed = utc_hour(queries.data_quality(config.published)["as_of"])
    through = meter_ledger(config).mark(SENT_THROUGH)
    return through is None or datetime.fromisoformat(through) < closed


class _Planning:
    """Usage of one published copy against the ledger, day by day, so that the days' sizes bound the memory."""

    def __init__(
        self,
        config: Settings,
        ledger: MeterLedger,
        usage: BillableUsage,
        terms: Terms,
        window: tuple[datetime, datetime],
    ) -> None:
        self._config, self._ledger, self._usage, self.terms = config, ledger, usage, terms
        self._end = window[1]
        self._largest_hours: dict[str, int] | None = None
        basis = "preview" if terms.is_preview else str(terms.mode)
        basis = f"{basis}|{config.bill_sampled}"
        self._marks = {day: f"{basis}|{mark}" for day, mark in usage.days().items()}
        planned = {day: mark for day, mark in ledger.planned_days().items() if day >= window[0].date()}
        changed = {day for day in planned.keys() | self._marks if planned.get(day) != self._marks.get(day, "")}
        self._open = sorted(changed | {day for day in ledger.open_days() if day >= window[0].date()})
        self._first = usage.first_reports(terms, self._open)

    def look_ahead(self, approved: str = "", by_day: bool = False) -> ReportPlan:
        change, config = Change(by_day), self._config
        recorded: set[datetime] = set()
        with self._ledger.ledger.reading() as connection:
            for day in self._open:
                made, hours, unclaimed = self._plan(connection, day)
                change.add(made, unclaimed, partial(self._largest, connection))
                recorded |= hours
        for customer, count, units in self._first.by_customer(recorded):
            change.add_first(customer, count, units)
        if by_day:
            for customer, day, units in self._first.by_day(recorded):
                change.add_units(customer, day, units)
        start = utc_hour(self.terms.now - HORIZON)
        final_until = self.terms.now - timedelta(hours=config.stripe_grace_hours)
        units, unbilled = self._usage.units(start, final_until, month_start(final_until))
        limits = Limits(config.stripe_max_change_pct, config.stripe_max_changed_customers)
        waiting = Waiting() if self.terms.is_preview else change.waits(units, limits, {approved})
        waiting = replace(waiting, meter=config.billed_meter)
        return ReportPlan(change, (start, self._end), units, unbilled, waiting)

    def in_money(self, planned: ReportPlan) -> list[CustomerChange]:
        """A row for each customer and period whose units change: together they are the plan's units."""
        catalogued = plans_by_name(self._config)
        waiting = planned.waiting.customers | {customer for customer, _ in planned.waiting.hours}
        added: dict[str, dict[date, int]] = {}
        for (customer, day), units in planned.change.units.items():
            added.setdefault(customer, {})[day] = units
        changes = []

        def note(period: Mapping[str, Any], units: int, more: int) -> None:
            plan, customer = catalogued.get(period["plan"]), period["stripe_customer_id"]
            changes.append(
                CustomerChange(
                    customer,
                    period["account_name"],
                    period["accounts"],
                    period["period_start"],
                    units - more,
                    units,
                    plan.currency if plan else "",
                    pricing.price(plan, units - more) if plan else None,
                    pricing.price(plan, units) if plan else None,
                    customer in waiting,
                )
            )

        for period in self._usage.periods(sorted(added)):
            days = added[period["stripe_customer_id"]]
            first, end = period["period_start"].date(), period["period_end"].date()
            if more := sum(days.pop(day) for day in sorted(days) if first <= day < end):
                note(period, period["units"], more)
        # What is left has no usage any more: nobody's period says how to divide it.
        owners = {each["stripe_customer_id"]: each for each in self._usage.owners(sorted(added))}
        for customer, days in sorted(added.items()):
            for month in sorted({day.replace(day=1) for day in days}):
                if more := sum(units for day, units in days.items() if day.replace(day=1) == month):
                    start = datetime.combine(month, time(), UTC)
                    note({**owners[customer], "period_start": start}, max(more, 0), more)
        return sorted(changes, key=lambda each: (-abs(each.added), -abs(each.units - each.units_before)))

    def commit(self, planned: ReportPlan) -> None:
        if self._open:
            self._first.number(self._ledger.know(planned.change.hours))
        for day in self._open:
            with self._ledger.ledger.transaction() as connection:
                made, hours, _ = self._plan(connection, day)
                made.reports = [_decided(report, made, planned.waiting) for report in made.reports]
                made.waiting = [_decided(report, made, planned.waiting) for report in made.waiting]
                first = self._first.of_day(day, hours)
                self._ledger.commit_first(connection, day, first, self._first.state, self.terms.now)
                self._ledger.commit(connection, day, self._marks.get(day, ""), made, self.terms.now)

    def _plan(
        self, connection: sa.Connection, day: date
    ) -> tuple[DayPlan, set[datetime], Callable[[str, datetime, int], bool]]:
        """A day's plan but for the first reports of hours without any; the hours with reports; and whether units that a
        customer loses in an hour of it seem to have no customer now.
        """
        unmapped: dict[datetime, list[int]] = {}

        def unclaimed(customer: str, hour: datetime, lost: int) -> bool:
            if not unmapped:
                unmapped.update(self._usage.unmapped(day))
            without = unmapped.get(hour, [])
            return lost in without or lost == sum(without) or customer not in self._customers

        recorded = self._ledger.recorded(connection, day, self.terms.mode)
        hours = {hour for _, hour in recorded}
        return plan(self._first.others(day, hours), recorded, self.terms), hours, unclaimed

    @cached_property
    def _customers(self) -> set[str]:
        return self._usage.customers()

    def _largest(self, connection: sa.Connection, customer: str) -> int:
        """The largest hour that was ever reported of the customer; of a new one, of anybody."""
        if self._largest_hours is None:
            self._largest_hours = self._ledger.largest_hours(connection)
        return self._largest_hours.get(customer, max(self._largest_hours.values(), default=0))


def _decided(report: MeterReport, made: DayPlan, waiting: Waiting) -> MeterReport:
    if report.state not in (ReportState.PREPARED, ReportState.WAITING):
        return report
    if not waiting.has(report, report.key in made.corrected):
        return replace(report, state=ReportState.PREPARED)
    before, units = made.corrected.get(report.key, (0, report.units))
    return replace(
        report,
        state=ReportState.WAITING,
        error=f"{counted(units - before, 'unit', sign='+')} waiting for approval: {waiting.why};"
        " `headroom stripe plan` shows the code",
    )


def _others(of_accounts: Mapping[str, datetime], known: Mapping[str, datetime]) -> dict[str, datetime]:
    """Without the customers whose subscription periods are known: Stripe's go before the accounts' own."""
    return {customer: at for customer, at in of_accounts.items() if customer not in known}


@contextmanager
def _planning(config: Settings, ledger: MeterLedger, mode: Mode | None, retry: bool = False) -> Iterator[_Planning]:
    # The hours that were closed when the marts were built: a clock read now could close one that they lack calls of.
    quality, now = queries.data_quality(config.published), config.now()
    end = utc_hour(quality["as_of"])
    final_until = now - timedelta(hours=config.stripe_grace_hours)
    # Whole days, and only those whose calls are kept: of hours that are not looked at, all that was reported would seem
    # to be too much.
    first = max((now - LOOK_BACK).date(), quality.get("kept_from") or date.min)
    start = datetime.combine(first, time(), UTC)
    ours = meters.reported(config)
    if mode:
        meters.stay_with(ours, ledger)
    still_open, closing = known_finality(ledger, now, timedelta(hours=config.stripe_grace_hours))
    with usage_query.billable_usage(config.published, start, end, config.bill_sampled, config.billed_meter) as usage:
        open_since, over = usage.finality(final_until, now)
        terms = Terms(
            env=config.env,
            event_name=config.stripe_meter,
            mode=mode or Mode.TOTAL,
            now=now,
            is_preview=mode is None,
            is_signed=ours.aggregation == "latest",
            live_since=ledger.live_since(),
            final_before={**open_since, **still_open},
            others_final_before=month_start(final_until),
            closing={**_others(over, still_open), **closing},
            retry=retry,
        )
        yield _Planning(config, ledger, usage, terms, (start, end))
