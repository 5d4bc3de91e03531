"""The reports of a customer's hour as the ledger has them, revision by revision, and which of them Stripe has."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from orchestration.billing.metering import STANDS, CustomerHour, Mode, ReportState


@dataclass(frozen=True)
class Report:
    """A row of the ledger."""

    stripe_customer_id: str
    hour_start: datetime
    revision: int
    units: int
    value: int
    identifier: str
    state: ReportState
    created_at: datetime
    attempts: int = 0
    answered_errors: int = 0
    """How often Stripe answered with an error of its own: it repeats such an answer to the same idempotency key."""
    first_attempt_at: datetime | None = None
    attempted_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    stripe_units: int | None = None
    """The hour's total that Stripe showed at the last check."""
    checks: int = 0
    checked_at: datetime | None = None

    @property
    def key(self) -> CustomerHour:
        return self.stripe_customer_id, self.hour_start

    @property
    def place(self) -> str:
        return f"{self.stripe_customer_id}, {self.hour_start:%Y-%m-%d %H:%M} UTC"

    @property
    def is_in_doubt(self) -> bool:
        return self.state is ReportState.SENDING


def units_at_stripe(reports: Iterable[Report], mode: Mode) -> dict[CustomerHour, int]:
    """What Stripe has of each customer and hour, as far as is known, from revisions in order."""
    taken = [report for report in reports if report.state in STANDS]
    if mode is Mode.TOTAL:
        return {report.key: report.units for report in taken}
    sums: dict[CustomerHour, int] = {}
    for report in taken:
        sums[report.key] = sums.get(report.key, 0) + report.value
    return sums


def reports_at_stripe(reports: Iterable[Report]) -> dict[CustomerHour, Report]:
    """The newest report of each customer and hour that Stripe has, or may have, from revisions in order."""
    return {report.key: report for report in reports if report.state in STANDS}


def earlier_totals(reports: Iterable[Report], mode: Mode) -> set[int]:
    """What Stripe may show of an hour while it has not added up its newest reports, from the hour's revisions in order:
    what it had before each of them.
    """
    totals, units = set(), 0
    for report in reports:
        if report.state in STANDS:
            totals.add(units)
            units = report.units if mode is Mode.TOTAL else units + report.value
    return totals
