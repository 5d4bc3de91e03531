"""Usage to Stripe: what the marts say and the ledger does not have yet is planned, recorded and sent.

The asset and the commands call this; each step can be repeated, and be killed, at any line. What became of it is looked
at in reconcile.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import sqlalchemy as sa

from orchestration.billing import reporter, usage_query
from orchestration.billing.catalog import plans
from orchestration.billing.meter import Connect, connected
from orchestration.billing.meter_ledger import MeterLedger, meter_ledger
from orchestration.billing.metering import HORIZON, Change, DayPlan, Mode, Terms, plan
from orchestration.billing.reporter import SendResult
from orchestration.billing.usage_query import LOOK_BACK, BillableUsage
from orchestration.settings import Settings
from orchestration.usage import pricing
from orchestration.usage.periods import month_start, utc_hour
from orchestration.usage.units import METER
from orchestration.warehouse import queries


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
    refusal: str
    """Why it has to be approved first; empty where it has not."""


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
    """Overage at the catalogue's prices; None where the accounts have no plan of it, or several."""
    amount: Decimal | None

    @property
    def added(self) -> Decimal:
        return (self.amount or Decimal(0)) - (self.amount_before or Decimal(0))


@dataclass
class ReportResult:
    """What a run did for Stripe."""

    planned: ReportPlan
    sent: SendResult | None = None
    """None: a preview."""


def look_ahead(config: Settings, connect: Connect) -> tuple[ReportPlan, list[CustomerChange]]:
    """What would be planned now, and what it comes to for each customer, the largest amount first. Records nothing.

    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    meter = connected(config, ledger, connect)
    with _planning(config, ledger, meter.mode if meter else None) as planning:
        planned = planning.look_ahead("")
        return planned, planning.in_money(planned.change)


def report_usage(
    config: Settings,
    connect: Connect,
    clock: Callable[[], datetime],
    approved: str = "",
    retry: bool = False,
    progress: Callable[[SendResult], object] = lambda _: None,
) -> ReportResult:
    """Plan, record, send. `clock` is the real one; which hours are closed, the one of the figures says.

    A plan that has to be approved is not recorded, and nothing is sent: see ReportPlan.refusal. `retry` sends again
    what was refused less than a day ago.

    :raises engines.BusyError: another run does it.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, connect)
        with _planning(config, ledger, meter.mode if meter else None, retry) as planning:
            planned = planning.look_ahead(approved)
            if not planned.refusal:
                planning.commit()
        if meter is None or planned.refusal:
            return ReportResult(planned)
        return ReportResult(planned, reporter.send_due(ledger, meter, clock, progress=progress))


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
        self._config, self._ledger, self._usage, self._terms = config, ledger, usage, terms
        self._end = window[1]
        basis = "preview" if terms.is_preview else str(terms.mode)
        self._marks = {day: f"{basis}|{config.bill_sampled}|{mark}" for day, mark in usage.days().items()}
        planned = {day: mark for day, mark in ledger.planned_days().items() if day >= window[0].date()}
        changed = {day for day in planned.keys() | self._marks if planned.get(day) != self._marks.get(day, "")}
        self._open = sorted(changed | {day for day in ledger.open_days() if day >= window[0].date()})

    def look_ahead(self, approved: str) -> ReportPlan:
        change, config = Change(), self._config
        with self._ledger.ledger.reading() as connection:
            for day in self._open:
                change.add(self._plan(connection, day))
        start = utc_hour(self._terms.now - HORIZON)
        final_until = self._terms.now - timedelta(hours=config.stripe_grace_hours)
        units, unbilled = self._usage.units(start, final_until, month_start(final_until))
        refusal = change.refusal(units, config.stripe_max_change_pct, config.stripe_max_changed_customers, approved)
        return ReportPlan(change, (start, self._end), units, unbilled, refusal)

    def in_money(self, change: Change) -> list[CustomerChange]:
        catalogued = {plan.name: plan for plan in plans(self._config) if plan.meter == METER}
        added: dict[str, dict[date, int]] = {}
        for (customer, day), units in change.units.items():
            added.setdefault(customer, {})[day] = units
        changes = []
        for period in self._usage.periods(sorted(added)):
            customer, units = period["stripe_customer_id"], period["units"]
            first, end = period["period_start"].date(), period["period_end"].date()
            more = sum(units for day, units in added[customer].items() if first <= day < end)
            if not more:
                continue
            plan = catalogued.get(period["plan"])
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
                )
            )
        return sorted(changes, key=lambda each: (-abs(each.added), -each.units))

    def commit(self) -> None:
        for day in self._open:
            with self._ledger.ledger.transaction() as connection:
                made = self._plan(connection, day)
                self._ledger.commit(connection, day, self._marks.get(day, ""), made, self._terms.now)

    def _plan(self, connection: sa.Connection, day: date) -> DayPlan:
        hours = [(customer, hour, units) for customer, hour, units in self._usage.hours(day) if customer]
        return plan(hours, self._ledger.recorded(connection, day, self._terms.mode), self._terms)


@contextmanager
def _planning(config: Settings, ledger: MeterLedger, mode: Mode | None, retry: bool = False) -> Iterator[_Planning]:
    # The hours that were closed when the marts were built: a clock read now could close one that they lack calls of.
    end = utc_hour(queries.data_quality(config.published)["as_of"])
    now = config.now()
    final_until = now - timedelta(hours=config.stripe_grace_hours)
    # Whole days, and only those whose calls are kept: of hours that are not looked at, all that was reported would seem
    # to be too much.
    first = max((now - LOOK_BACK).date(), queries.kept_from(config.published))
    start = datetime.combine(first, time(), UTC)
    with usage_query.billable_usage(config.published, start, end, config.bill_sampled) as usage:
        terms = Terms(
            env=config.env,
            event_name=config.stripe_meter,
            mode=mode or Mode.TOTAL,
            now=now,
            is_preview=mode is None,
            live_since=ledger.live_since(),
            final_before=usage.open_since(final_until),
            others_final_before=month_start(final_until),
            retry=retry,
        )
        yield _Planning(config, ledger, usage, terms, (start, end))
