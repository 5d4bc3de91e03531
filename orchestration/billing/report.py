"""Usage to Stripe: what the marts say and the ledger does not have yet is planned, recorded, sent, and looked at later.

The asset, the sensor and the commands call this; each step can be repeated, and be killed, at any line.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestration.billing import reporter, usage_query
from orchestration.billing.meter_ledger import MeterLedger, Report, units_standing
from orchestration.billing.metering import HORIZON, Change, Mode, Plan, ReportState, Terms, plan
from orchestration.billing.reporter import HOUR, Looked, Sent, StoppedError
from orchestration.billing.usage_query import BillableUsage
from orchestration.ledger import restored
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.outbox import RefusedError
from orchestration.settings import Settings
from orchestration.usage import pricing
from orchestration.usage.periods import month_start, utc_hour
from orchestration.usage.units import METER
from orchestration.warehouse import published_copy, queries

if TYPE_CHECKING:
    from orchestration.channels.stripe.meter import Rejection, StripeMeter

LOOK_BACK = timedelta(days=usage_query.LOOK_BACK_DAYS)


@dataclass(frozen=True)
class Planned:
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
class Outcome:
    """What a run did for Stripe."""

    planned: Planned
    sent: Sent | None = None
    """None: a preview."""


def meter_ledger(config: Settings) -> MeterLedger:
    return MeterLedger(Ledger(config.ledger_url), config.env, config.stripe_meter)


def connected(config: Settings, ledger: MeterLedger, adopts: bool = False) -> "StripeMeter | None":
    """Stripe's meter, if a key is set, after a look whether it is the one that was reported to before, and whether the
    ledger knows all that was; who `adopts` is about to tell it.

    :raises StoppedError, ValueError: it cannot be used; the message says what to do.
    """
    if config.stripe_api_key is None:
        return None
    if not adopts and (since := restored.unadopted_since(ledger.ledger)):
        raise StoppedError(
            f"the ledger is a copy of {since:%Y-%m-%d %H:%M} UTC and does not know what was reported since. Nothing was"
            " sent. Three hours after the last run with the ledger that was lost, `headroom stripe adopt --all` takes"
            " what Stripe shows for what was reported; then run again"
        )
    from orchestration.channels.stripe import meter as stripe  # half a second, which a preview need not wait for

    meter = stripe.configured(config)
    known, found = ledger.mark("meter"), f"{meter.id} {meter.mode}"
    if known and known != found:
        raise StoppedError(
            f"usage was reported to meter {known}, now {config.stripe_meter!r} is {found}: what one has, the other"
            " lacks. Nothing was sent. Make the old one active again, or give the new one an event name of its own and"
            " set HEADROOM_STRIPE_METER to it: usage that can still be billed is reported there from the beginning"
        )
    if not known:
        ledger.remember("meter", found)
    return meter


def look_ahead(config: Settings) -> tuple[Planned, list[CustomerChange]]:
    """What would be planned now, and what it comes to for each customer, the largest amount first. Records nothing.

    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    meter = connected(config, ledger)
    with _planning(config, ledger, meter.mode if meter else None) as planning:
        planned = planning.look_ahead("")
        return planned, planning.in_money(planned.change)


def report_usage(
    config: Settings,
    clock: Callable[[], datetime],
    approved: str = "",
    retry: bool = False,
    progress: Callable[[Sent], object] = lambda _: None,
) -> Outcome:
    """Plan, record, send. `clock` is the real one; which hours are closed, the one of the figures says.

    A plan that has to be approved is not recorded, and nothing is sent: see Planned.refusal. `retry` sends again what
    was refused less than a day ago.

    :raises engines.BusyError: another run does it.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger)
        with _planning(config, ledger, meter.mode if meter else None, retry) as planning:
            planned = planning.look_ahead(approved)
            if not planned.refusal:
                planning.commit()
        if meter is None or planned.refusal:
            return Outcome(planned)
        return Outcome(planned, reporter.send_due(ledger, meter, clock, progress=progress))


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

    def look_ahead(self, approved: str) -> Planned:
        change, config = Change(), self._config
        with self._ledger.ledger.reading() as connection:
            for day in self._open:
                change.add(self._plan(connection, day))
        start = utc_hour(self._terms.now - HORIZON)
        final_until = self._terms.now - timedelta(hours=config.stripe_grace_hours)
        units, unbilled = self._usage.units(start, final_until, month_start(final_until))
        refusal = change.refusal(units, config.stripe_max_change_pct, config.stripe_max_changed_customers, approved)
        return Planned(change, (start, self._end), units, unbilled, refusal)

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

    def _plan(self, connection: sa.Connection, day: date) -> Plan:
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


def look_back(config: Settings, clock: Callable[[], datetime]) -> Looked | None:
    """Compare what Stripe took with what it shows, within the day's reads; None without a key.

    :raises engines.BusyError: another run plans or sends.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger)
        if meter is None:
            return None
        looked = reporter.confirm(ledger, meter, clock, reads_left(config, ledger, clock))
        note_reads(ledger, clock, looked.reads)
        return looked


def reads_left(config: Settings, ledger: MeterLedger, clock: Callable[[], datetime]) -> int:
    """How often Stripe's totals may still be read today (UTC)."""
    return config.stripe_reads_per_day - int(ledger.mark(f"reads|{clock():%Y-%m-%d}") or 0)


def note_reads(ledger: MeterLedger, clock: Callable[[], datetime], reads: int) -> None:
    """They were read so many times more."""
    today = f"reads|{clock():%Y-%m-%d}"
    ledger.remember(today, str(int(ledger.mark(today) or 0) + reads))


def note_rejections(config: Settings, clock: Callable[[], datetime]) -> list[str]:
    """Read Stripe's error events since the last look, and refuse the reports that they name: sentences for people.

    :raises engines.BusyError: another run plans or sends, and would not know what is noted meanwhile.
    :raises StoppedError, ValueError: Stripe cannot be used as configured.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger)
        if meter is None:
            return []
        # The moment of the newest events that were seen, and which these are: there may be more of the same moment.
        moment, *seen = (ledger.mark("events") or (clock() - timedelta(days=1)).isoformat()).split()
        told: list[str] = []
        for event_id, rejections in groupby(meter.rejections(datetime.fromisoformat(moment)), attrgetter("event_id")):
            if event_id in seen:
                continue
            for rejection in rejections:
                told += _noted(ledger, rejection, clock())
            moment, seen = rejection.created, [event_id, *(seen if rejection.created == moment else ())]
            ledger.remember("events", " ".join([moment, *seen]))
        return told


def _noted(ledger: MeterLedger, rejection: "Rejection", now: datetime) -> list[str]:
    if not rejection.identifier:
        return [f"{rejection.count:,} more reports: {rejection.sentence}"]
    report = ledger.by_identifier(rejection.identifier)
    if report is None or report.state not in (ReportState.SENDING, ReportState.SENT, ReportState.MISMATCH):
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
        raise LookupError(f"{name} has nothing that was held or refused: `headroom stripe problems` lists what was")
    ledger.save(found, "state", "finished_at", "error")
    return found


def adopt(config: Settings, clock: Callable[[], datetime], customer: str, hour: datetime) -> Report:
    """Take the total that Stripe shows for the hour for what was reported: the next plan sends what is missing.

    :raises engines.BusyError: another run plans or sends.
    :raises LookupError: the ledger knows nothing of that hour, or its last report is in doubt.
    :raises StoppedError, ValueError, RefusedError: Stripe cannot be asked.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger)
        if meter is None:
            raise ValueError("STRIPE_API_KEY is not set: Stripe cannot be asked")
        revisions = ledger.of_customer(customer, hour, hour + HOUR)
        if not revisions:
            raise LookupError(f"nothing was reported of {customer} for {hour:%Y-%m-%d %H:%M} UTC")
        if revisions[-1].is_in_doubt:
            raise LookupError(
                f"the last report of {customer} for {hour:%Y-%m-%d %H:%M} UTC is in doubt: the next runs find out"
            )
        units = meter.hourly_totals(customer, hour, hour + HOUR).get(hour, 0)
        known = units_standing(revisions, meter.mode).get((customer, hour), 0)
        return ledger.adopt(customer, hour, units, known, clock())


def adopt_all(config: Settings, clock: Callable[[], datetime]) -> list[Report]:
    """Take what Stripe shows for what was reported, in all hours that usage is compared for: after the ledger was lost,
    or restored from a backup. Not sooner than three hours after the last report was sent, for Stripe adds up late.

    The hours that were different; the next plan sends what they lack.

    :raises engines.BusyError: another run plans or sends.
    :raises StoppedError, ValueError: Stripe cannot be asked.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = meter_ledger(config)
    with ledger.alone():
        meter = connected(config, ledger, adopts=True)
        if meter is None:
            raise ValueError("STRIPE_API_KEY is not set: Stripe cannot be asked")
        start, end = utc_hour(config.now() - LOOK_BACK), utc_hour(queries.data_quality(config.published)["as_of"])
        with usage_query.billable_usage(config.published, start, end) as usage:
            customers = ledger.customers(start) | {c for day in usage.days() for c, _, _ in usage.hours(day) if c}
        adopted = []
        for customer in sorted(customers):
            revisions = ledger.of_customer(customer, start, end)
            newest = {report.hour_start: report for report in revisions}
            stands = {hour: units for (_, hour), units in units_standing(revisions, meter.mode).items()}
            try:
                shown = meter.hourly_totals(customer, start, end)
            except RefusedError:
                continue  # nothing of an unknown customer is billed; its reports will say so
            for hour in sorted(stands.keys() | shown.keys()):
                is_in_doubt = hour in newest and newest[hour].is_in_doubt
                if shown.get(hour, 0) != stands.get(hour, 0) and not is_in_doubt:
                    known, units = stands.get(hour, 0), shown.get(hour, 0)
                    adopted.append(ledger.adopt(customer, hour, units, known, clock()))
        restored.note_adopted(ledger.ledger)
        return adopted


def plans(config: Settings) -> list[pricing.Plan]:
    """Of the published copy.

    :raises NothingPublishedError: no run has published anything yet.
    """
    rows, tiers = (published_copy.query(config.published, sql) for sql in (usage_query.PLANS, usage_query.PLAN_TIERS))
    return pricing.plans(rows, tiers)
