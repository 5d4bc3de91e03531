"""What still has to be reported to Stripe, for each customer and closed UTC hour. Pure: the marts say what should stand
there, the ledger what was reported, `plan` the difference.

A meter of hours keeps the last total that it was given for an hour, so a correction is a new revision with the new
total. A raw meter adds up whatever it is given, so a correction is a new revision with the difference. Which of the two
a meter is, Stripe says; the hourly totals in the end are the same.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from orchestration.usage.formatting import counted

HORIZON = timedelta(days=34)
"""Stripe takes no usage older than 35 days; one of them is left for sending it."""
RETRY_REFUSED = timedelta(hours=24)
GIVE_UP = timedelta(hours=3)
"""Stripe adds up late; a total that does not show for so long will not appear."""
GIVE_UP_DIFFERENCE = timedelta(hours=24)
"""The same of a difference: to send one a second time, or to take Stripe's total in its place, bills it twice if it was
only late.
"""
HOUR = timedelta(hours=1)
MAX_UNITS = 10**15
"""Above this a meter value has more digits than Stripe takes."""

CustomerHour = tuple[str, datetime]


class Mode(StrEnum):
    """What a report's value is."""

    TOTAL = "total"
    """The hour's units; replaces what was reported before."""
    DELTA = "delta"
    """What the hour's units are more, or less, than was reported before."""


class ReportState(StrEnum):
    """Where a report stands."""

    PREVIEWED = "previewed"
    WAITING = "waiting"
    """For people to approve it."""
    PREPARED = "prepared"
    SENDING = "sending"
    SENT = "sent"
    CONFIRMED = "confirmed"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    LOST = "lost"
    MISMATCH = "mismatch"
    HELD = "held"
    SETTLED = "settled"


STANDS = (ReportState.SENDING, ReportState.SENT, ReportState.CONFIRMED, ReportState.MISMATCH)
"""What Stripe has, or may have."""
BY_HAND = (ReportState.HELD, ReportState.SETTLED)
"""What people decide, or have decided."""


@dataclass(frozen=True)
class HourRecord:
    """What the ledger has of a customer and hour: its newest revision, and the units that stand at Stripe."""

    revision: int
    state: ReportState
    units: int
    value: int
    decided_at: datetime
    stands: int | None
    """None: nothing was ever taken."""
    is_sure: bool = True
    """False: a later total was given up as lost, and may have arrived all the same."""
    is_awaited: bool = False
    """Stripe took what stands, and was not seen to show it yet."""


@dataclass(frozen=True)
class MeterReport:
    """One revision of a customer's hour, as it is to be recorded."""

    stripe_customer_id: str
    hour_start: datetime
    revision: int
    units: int
    """The hour's total."""
    value: int
    """What is sent."""
    identifier: str
    state: ReportState
    error: str | None = None

    @property
    def key(self) -> CustomerHour:
        return self.stripe_customer_id, self.hour_start


@dataclass(frozen=True)
class Terms:
    """By what a plan is made."""

    env: str
    event_name: str
    mode: Mode
    now: datetime
    is_preview: bool = False
    is_signed: bool = False
    """Whether an hour's units may be less than 0: those of a latest reading are changes of it."""
    live_since: datetime | None = None
    """The first hour that was ever reported for billing: what was final before is not Headroom's to bill."""
    final_before: Mapping[str, datetime] = field(default_factory=dict)
    """The hour from which on a customer's invoice can still change."""
    others_final_before: datetime | None = None
    """The same of customers that no account belongs to any more."""
    closing: Mapping[str, datetime] = field(default_factory=dict)
    """By customer, the end of a period that is over and whose invoice can still change: not for long."""
    retry: bool = False
    """Whether refused reports are repeated at once, and not after a day."""

    def too_late(self, customer: str, hour: datetime) -> str:
        """Why the hour cannot be billed any more; empty where it can."""
        if hour < self.now - HORIZON:
            return f"Stripe accepts no usage older than {HORIZON.days} days"
        if hour < self.final_before.get(customer, self.others_final_before or self.now - HORIZON):
            return "its invoice is final"
        return ""


@dataclass
class DayPlan:
    """Reports to be recorded, those among the recorded that they replace unsent, and what they change."""

    reports: list[MeterReport] = field(default_factory=list)
    waiting: list[MeterReport] = field(default_factory=list)
    """Recorded by an earlier plan, still wanted, and waiting for approval."""
    superseded: list[CustomerHour] = field(default_factory=list)
    """Also those that were refused or held, and are no longer wanted."""
    corrected: dict[CustomerHour, tuple[int, int]] = field(default_factory=dict)
    """Units that stand at Stripe, and those that will, where both are of the same hour."""
    is_settled: bool = True
    """False: something has to be planned again, though the marts stay as they are."""


def record(
    revisions: Iterable[tuple[str, datetime, int, int, int, ReportState, datetime]], mode: Mode
) -> dict[CustomerHour, HourRecord]:
    """By customer and hour, from its revisions (customer, hour, revision, units, value, state, decided at) in order.

    Differences are added up one by one: one may be refused after the next was taken.
    """
    found: dict[CustomerHour, HourRecord] = {}
    for customer, hour, revision, units, value, state, decided_at in revisions:
        before = found.get((customer, hour))
        stands, is_sure, is_awaited = (
            (before.stands, before.is_sure, before.is_awaited) if before else (None, True, False)
        )
        if state in STANDS:
            stands = units if mode is Mode.TOTAL else (stands or 0) + value
            is_sure, is_awaited = True, state is ReportState.SENT
        is_sure = is_sure and state is not ReportState.LOST
        found[customer, hour] = HourRecord(revision, state, units, value, decided_at, stands, is_sure, is_awaited)
    return found


def plan(
    desired: Iterable[tuple[str, datetime, int]], recorded: Mapping[CustomerHour, HourRecord], terms: Terms
) -> DayPlan:
    """What makes Stripe say what `desired` (customer, hour, units) says, oldest hour first.

    Accounts that share a customer are added up. A customer and hour that was reported and is no longer desired is
    reported with 0. What comes too late, or is not plausible, is held: recorded with its reason, never sent.
    """
    totals = dict.fromkeys(recorded, 0)
    for customer, hour, units in desired:
        totals[customer, hour] = totals.get((customer, hour), 0) + units
    made = DayPlan()
    for (customer, hour), units in sorted(totals.items(), key=lambda item: (item[0][1], item[0][0])):
        _decide(made, customer, hour, units, recorded.get((customer, hour)), terms)
    return made


def _decide(made: DayPlan, customer: str, hour: datetime, units: int, before: HourRecord | None, terms: Terms) -> None:
    stands = before.stands if before else None
    if terms.is_preview:
        if not terms.too_late(customer, hour) and (before.units != units if before else units):
            made.reports.append(_report(customer, hour, units, before, terms, ReportState.PREVIEWED))
        return
    if before and before.state is ReportState.SENDING:
        made.is_settled = made.is_settled and before.units == units  # one revision of an hour at a time
        return
    is_unsent = before is not None and before.state in (ReportState.PREPARED, ReportState.WAITING)
    reason = terms.too_late(customer, hour)
    if before and is_unsent and ((before.units, before.value) != (units, _value(units, before, terms)) or reason):
        made.superseded.append((customer, hour))
    elif before and before.state is ReportState.WAITING:
        if stands is not None:
            made.corrected[customer, hour] = stands, units
        same = replace(before, revision=before.revision - 1)
        made.waiting.append(_report(customer, hour, units, same, terms, ReportState.WAITING))
        return
    elif is_unsent:
        return
    is_sure = before is None or before.is_sure or terms.mode is Mode.DELTA  # which is looked up before it is lost
    if units == (stands or 0) and is_sure:
        if before and before.state in (ReportState.REFUSED, ReportState.LOST, ReportState.HELD):
            made.superseded.append((customer, hour))
        return
    is_repeated = before is not None and before.units == units
    if not (-MAX_UNITS if terms.is_signed else 0) <= units <= MAX_UNITS:
        reason = "the total is not plausible"
    if reason and before and before.is_awaited:
        made.is_settled = False  # it is late anyway, and how much is missing shows when Stripe has added up
        return
    if reason:
        is_ours = terms.live_since is not None and hour >= terms.live_since
        if is_ours and not (before and is_repeated and before.state in BY_HAND):
            error = f"{counted(units - (stands or 0), 'unit', sign='+')} not billed: {reason}"
            if not is_sure:
                error = f"Stripe did not show a total, and {counted(units, 'unit')} cannot be sent again: {reason}"
            made.reports.append(_report(customer, hour, units, before, terms, ReportState.HELD, error))
        return
    if before and is_repeated:
        if before.state is ReportState.SETTLED:
            return
        if before.state is ReportState.REFUSED and not terms.retry and terms.now - before.decided_at < RETRY_REFUSED:
            made.is_settled = False
            return
    if stands is not None:
        made.corrected[customer, hour] = stands, units
    made.reports.append(_report(customer, hour, units, before, terms, ReportState.PREPARED))


def _report(
    customer: str,
    hour: datetime,
    units: int,
    before: HourRecord | None,
    terms: Terms,
    state: ReportState,
    error: str | None = None,
) -> MeterReport:
    revision = before.revision + 1 if before else 1
    identifier = identifier_of(customer, hour, revision, units, terms)
    return MeterReport(customer, hour, revision, units, _value(units, before, terms), identifier, state, error)


def identifier_of(customer: str, hour: datetime, revision: int, units: int, terms: Terms) -> str:
    """40 hexadecimal digits, by which Stripe takes a revision once."""
    name = f"{terms.env}|{terms.event_name}|{customer}|{hour.isoformat()}|{revision}"
    # A ledger that was restored from a backup counts its revisions again. A total must not pass for another one that
    # was sent before; a difference must, for else both would be added.
    if terms.mode is Mode.TOTAL:
        name += f"|{units}"
    return hashlib.sha256(name.encode()).hexdigest()[:40]


def _value(units: int, before: HourRecord | None, terms: Terms) -> int:
    return units if terms.mode is Mode.TOTAL else units - ((before.stands if before else None) or 0)
