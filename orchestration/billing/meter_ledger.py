"""The ledger's meter reports: what was decided for each customer and hour, what Stripe took, what it shows.

A revision's units and value are written once. Its state moves:

    waiting ──approved──> prepared

    prepared ──claim──> sending ──taken──> sent ──Stripe shows the total──> confirmed
        │                  │ ├─refused──> refused         ├──it never does───> lost, then mismatch
        │                  │ └─not sent─> prepared        └──refused later───> refused
        └─superseded       └─no answer, or killed: in doubt, stays sending

    refused, held, waiting ──no longer wanted──> superseded

previewed: there was no key. waiting: a change that people have to approve. held: for people to decide, such as what
comes after the invoice is final; settled: they have. What is refused or lost counts as not reported, so the next plan
makes a new revision of it.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from orchestration.billing import report_rows as rows
from orchestration.billing import report_statements as statements
from orchestration.billing.metering import (
    STANDS,
    CustomerHour,
    DayPlan,
    HourRecord,
    MeterReport,
    Mode,
    ReportState,
    record,
)
from orchestration.billing.report_rows import STORED, TABLE, FirstReport
from orchestration.billing.report_statements import BEFORE, IS_NEWEST, IS_STORED_NEWEST, OF_CUSTOMER, SINCE
from orchestration.billing.revisions import Report
from orchestration.ledger import marks
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import meter_reports
from orchestration.settings import Settings

UNCONFIRMED = (ReportState.SENT, ReportState.MISMATCH)
PROBLEMS = (ReportState.REFUSED, ReportState.MISMATCH, ReportState.HELD, ReportState.WAITING)
UNSETTLED = "unsettled"
"""In place of a day's fingerprint: it is planned again, even if no usage is left of it."""
UNSENT = (ReportState.WAITING, ReportState.PREPARED, ReportState.REFUSED, ReportState.LOST, ReportState.HELD)
"""What a plan may take back."""
LIVE = tuple(state for state in ReportState if state is not ReportState.PREVIEWED)
IS_PROBLEM = TABLE.state.in_(PROBLEMS)
IS_AT_STRIPE = TABLE.state.in_((*UNCONFIRMED, ReportState.SENDING))
IS_NAMED = TABLE.identifier.in_(sa.bindparam("identifiers", type_=TABLE.identifier.type, expanding=True))


class MeterLedger:
    """Reports of one environment to one meter (its event name at Stripe)."""

    def __init__(self, ledger: Ledger, env: str, event_name: str) -> None:
        self.ledger, self.env, self.event_name = ledger, env, event_name
        self._meter = rows.meter_id(env, event_name)
        self.is_ours, self.is_stored = TABLE.meter_id == self._meter, STORED.meter_id == self._meter

    @contextmanager
    def alone(self) -> Iterator[None]:
        """:raises BusyError: another process plans or sends reports."""
        with self.ledger.alone("stripe"):
            yield

    def of_day(self, day: date) -> tuple[tuple[sa.ColumnElement[bool], ...], dict[str, datetime]]:
        """Conditions on TABLE, and their parameters."""
        start = datetime.combine(day, time(), tzinfo=UTC)
        return statements.of_hours(self._meter), {"since": start, "before": start + timedelta(days=1)}

    # What is remembered

    def mark(self, name: str) -> str | None:
        with self.ledger.reading() as connection:
            return marks.value(connection, self.named(name))

    def remember(self, name: str, value: str) -> None:
        with self.ledger.transaction() as connection:
            self.set_marks(connection, {name: value})

    def set_marks(self, connection: sa.Connection, values: Mapping[str, str]) -> None:
        marks.put(connection, {self.named(name): value for name, value in values.items()})

    def named(self, name: str) -> str:
        return f"stripe|{self.env}|{self.event_name}|{name}"

    # Planning

    def live_since(self) -> datetime | None:
        """The first hour that was reported, or was to be."""
        with self.ledger.reading() as connection:
            firsts = connection.execute(rows.first_hours(self.env, self.event_name, LIVE)).one()
        return min((hour for hour in firsts if hour), default=None)

    def open_days(self) -> set[date]:
        """UTC days with hours that are planned again though their usage stays the same: what waited may be too late by
        now, and what was too late may not be by another grace period.
        """
        unsettled = (*UNSENT, ReportState.SENDING)
        with self.ledger.reading() as connection:
            hours = connection.scalars(statements.open_hours(self._meter, unsettled))
            return {hour.date() for hour in hours}

    def planned_days(self) -> dict[date, str]:
        """What was planned of each UTC day: the fingerprint of its usage."""
        return self.marked_days("day|")

    def marked_days(self, name: str) -> dict[date, str]:
        with self.ledger.reading() as connection:
            return {date.fromisoformat(day): value for day, value in marks.below(connection, self.named(name)).items()}

    def recorded(self, connection: sa.Connection, day: date, mode: Mode) -> dict[CustomerHour, HourRecord]:
        found = connection.execute(statements.recorded(self._meter), self.of_day(day)[1])
        return record(((*row[:5], ReportState(row[5]), row[6]) for row in found), mode)

    def know(self, customers: Iterable[str]) -> dict[str, int]:
        """The numbers of all customers, after these got one, too."""
        with self.ledger.transaction() as connection:
            return rows.know(connection, self.env, self.event_name, customers)

    def commit_first(
        self,
        connection: sa.Connection,
        day: date,
        chunks: Iterable[list[FirstReport]],
        state: ReportState,
        at: datetime,
    ) -> None:
        """Write first reports of a day, of customers that are known; `commit` of the day's plan follows."""
        count = 0
        for chunk in chunks:
            rows.insert_first(connection, self.env, self.event_name, state, at, chunk)
            count += len(chunk)
        if count:
            self._note_changed(connection, {day})

    def commit(self, connection: sa.Connection, day: date, fingerprint: str, plan: DayPlan, at: datetime) -> None:
        """Write a day's plan, decided at `at`, and that it was made from usage with that fingerprint."""
        if plan.superseded:
            connection.execute(
                sa.update(meter_reports)
                .where(
                    *rows.of_hour(self._meter), IS_STORED_NEWEST, sa.or_(*(STORED.state == state for state in UNSENT))
                )
                .values(state=ReportState.SUPERSEDED),
                [{"of_customer": customer, "of_hour": hour} for customer, hour in plan.superseded],
            )
        if plan.reports:
            rows.insert(connection, self.env, self.event_name, self._rows(plan.reports, at))
        approved = [report for report in plan.waiting if report.state is ReportState.PREPARED]
        if approved:
            connection.execute(
                sa.update(meter_reports)
                .where(*rows.of_revision(self._meter), STORED.state == ReportState.WAITING)
                .values(state=ReportState.PREPARED, error=None),
                [rows.key_of(report) for report in approved],
            )
        if plan.superseded or plan.reports or approved:
            self._note_changed(connection, {day})
        self.set_marks(connection, {f"day|{day}": fingerprint if plan.is_settled else UNSETTLED})

    def _rows(self, reports: Iterable[MeterReport], at: datetime) -> list[dict[str, Any]]:
        """In the order of the primary key, so that the database fills its pages one after the other."""
        others = {"created_at": at, **rows.NO_ATTEMPTS}
        return [
            {**vars(report), **others} for report in sorted(reports, key=attrgetter("hour_start", "stripe_customer_id"))
        ]

    # Sending

    def claim(self, reports: Sequence[Report], at: datetime) -> list[Report]:
        """Note an attempt to send each of them, before it is made. `at` is the real clock."""
        claimed = [
            replace(
                report,
                state=ReportState.SENDING,
                attempts=report.attempts + 1,
                first_attempt_at=report.first_attempt_at or at,
                attempted_at=at,
            )
            for report in reports
        ]
        self.save(claimed, "state", "attempts", "first_attempt_at", "attempted_at")
        return claimed

    def save(self, reports: Iterable[Report], *names: str) -> None:
        """Write these attributes of the reports, in one transaction."""
        reports = list(reports)
        if values_of := [
            {**rows.key_of(report), **{f"to_{n}": getattr(report, n) for n in names}} for report in reports
        ]:
            with self.ledger.transaction() as connection:
                connection.execute(statements.change(self._meter, names), values_of)
                self._note_changed(connection, {report.hour_start.date() for report in reports})

    def at_stripe(self, identifiers: Iterable[str]) -> dict[str, Report]:
        """By identifier, those of them that Stripe has, or may have, and that were not confirmed."""
        found = self.reports(IS_NAMED, IS_AT_STRIPE, identifiers=sorted(identifiers))
        return {report.identifier: report for report in found}

    # Looking

    def problems(self, limit: int | None = None) -> list[Report]:
        """Hours whose newest revision is not billed as it should be, and says why in its error; oldest first."""
        return self.reports(IS_PROBLEM, IS_NEWEST, limit=limit)

    def adopt(self, customer: str, hour: datetime, units: int, known: int, at: datetime) -> Report:
        """Take what Stripe shows in place of the units `known` to stand there: a further revision of the hour, also in
        place of one that waits to be sent; and its day is planned anew.
        """
        key = (TABLE.stripe_customer_id == customer, TABLE.hour_start == hour)
        with self.ledger.transaction() as connection:
            last = connection.scalar(sa.select(sa.func.max(TABLE.revision)).where(self.is_ours, *key)) or 0
            name = "|".join([self.env, self.event_name, customer, hour.isoformat(), str(last + 1)])
            report = Report(
                customer,
                hour,
                last + 1,
                units,
                value=units - known,
                identifier=f"adopted-{sha256(name.encode()).hexdigest()[:40]}",
                state=ReportState.CONFIRMED,
                created_at=at,
                finished_at=at,
                error="taken from Stripe's total",
                stripe_units=units,
                checked_at=at,
            )
            is_waiting = STORED.state == ReportState.PREPARED
            connection.execute(
                sa.update(meter_reports)
                .where(*rows.of_hour(self._meter), is_waiting)
                .values(state=ReportState.SUPERSEDED),
                [{"of_customer": customer, "of_hour": hour}],
            )
            rows.insert(connection, self.env, self.event_name, [asdict(report)])
            self._note_changed(connection, {hour.date()})
            self.set_marks(connection, {f"day|{hour.date()}": UNSETTLED})
        return report

    def customers(self, since: datetime) -> set[str]:
        """Those with reports of hours from then on."""
        query = sa.select(TABLE.stripe_customer_id).distinct().where(self.is_ours, TABLE.hour_start >= since)
        with self.ledger.reading() as connection:
            return set(connection.scalars(query))

    def unconfirmed(self, taken_before: datetime) -> dict[str, tuple[datetime, datetime]]:
        """Customers with reports that Stripe took before that moment and has not been seen to show: the first hour of
        those and the last, the customer that waits longest first.
        """
        query = statements.unconfirmed(self._meter, UNCONFIRMED)
        with self.ledger.reading() as connection:
            found = connection.execute(query, {"taken_before": taken_before})
            return {customer: (first, last) for customer, first, last in found}

    def knows(self, customer: str) -> bool:
        """Whether anything was ever recorded of the customer."""
        return bool(self.reports(OF_CUSTOMER, limit=1, customer=customer))

    def of_customer(self, customer: str, start: datetime, end: datetime) -> list[Report]:
        """All revisions of the hours in `[start, end)`, in order."""
        return self.reports(OF_CUSTOMER, SINCE, BEFORE, customer=customer, since=start, before=end)

    def misbilled_hours(self) -> int | None:
        """Customer-hours that Stripe bills otherwise than they were counted; None: nothing was ever sent there."""
        return len(self.problems()) if self.live_since() else None

    def totals(self) -> list[dict[str, Any]]:
        """Reports, customers and hours in the ledger by state, newest revisions and older ones alike."""
        query = (
            sa.select(
                TABLE.state,
                sa.func.count().label("reports"),
                sa.func.count(TABLE.stripe_customer_id.distinct()).label("customers"),
                sa.func.min(TABLE.hour_start).label("first_hour"),
                sa.func.max(TABLE.hour_start).label("last_hour"),
            )
            .where(self.is_ours)
            .group_by(TABLE.state)
            .order_by(TABLE.state)
        )
        with self.ledger.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def largest_hours(self, connection: sa.Connection) -> dict[str, int]:
        """By customer, the largest total of an hour that Stripe has, or may have."""
        query = (
            sa.select(TABLE.stripe_customer_id, sa.func.max(TABLE.units))
            .where(self.is_ours, TABLE.state.in_(STANDS))
            .group_by(TABLE.stripe_customer_id)
        )
        return {customer: int(units) for customer, units in connection.execute(query)}

    # The copy in the lake

    def _note_changed(self, connection: sa.Connection, days: Iterable[date]) -> None:
        """Called in each transaction that writes reports: the copy in the lake lacks it from here on."""
        self.set_marks(connection, {f"changed|{day}": uuid.uuid4().hex for day in sorted(days)})

    def reports(self, *conditions: sa.ColumnElement[bool], limit: int | None = None, **values: object) -> list[Report]:
        """Those that meet the conditions on TABLE, oldest hour first; within an hour by the customer's name, or, with a
        limit, by its number, as the index has them: no more are read. `values` are the conditions' parameters.
        """
        query = statements.chosen(self._meter, conditions, limit is not None)
        with self.ledger.reading() as connection:
            return [_report(row) for row in connection.execute(query, {**values, "most": limit})]


def _report(row: sa.Row[Any]) -> Report:
    return Report(**{**row._mapping, "state": ReportState(row.state)})


def meter_ledger(config: Settings) -> MeterLedger:
    """The reports of this environment to the meter that is configured."""
    return MeterLedger(Ledger(config.ledger_url), config.env, config.stripe_meter)
