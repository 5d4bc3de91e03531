"""What still has to be reported to Stripe: absolute units for each customer and closed UTC hour.

A meter that keeps the last value of an hour makes reports idempotent: a correction is a new revision with the new
total. Pure: the marts give what should stand there, the ledger what was recorded, `plan` the difference.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestration.usage.periods import month_start, utc_hour

METER = "api-calls"
GRACE = timedelta(hours=72)
"""How long Stripe can hold an invoice open after its period: usage that comes in so long can still be billed."""
MAX_UNITS = 10**15
"""Above this a meter value has more digits than Stripe takes."""

CustomerHour = tuple[str, datetime]


@dataclass(frozen=True)
class Recorded:
    """The newest revision in the ledger for a customer and hour; `units` is None where none counts as reported."""

    revision: int
    units: int | None


@dataclass(frozen=True)
class MeterReport:
    """One absolute hourly total to be recorded and sent."""

    stripe_customer_id: str
    hour_start: datetime
    revision: int
    units: int
    identifier: str


def standing(rows: Iterable[tuple[str, datetime, int, int, str]], *, is_preview: bool) -> dict[CustomerHour, Recorded]:
    """What stands for each customer and hour, from its revisions (customer, hour, revision, units, state) in order.

    To a preview, what was previewed before stands. To Stripe it does not: there only what was meant to be sent does.
    """
    stands: dict[CustomerHour, Recorded] = {}
    for customer, hour, revision, units, state in rows:
        before = stands.get((customer, hour))
        counts = is_preview or state != "previewed"
        stands[customer, hour] = Recorded(revision, units if counts else before.units if before else None)
    return stands


def reporting_window(now: datetime) -> tuple[datetime, datetime]:
    """The closed UTC hours that can still be billed: this period, and the one before within its grace."""
    start = month_start(now)
    if now - start < GRACE:
        start = month_start(start - timedelta(days=1))
    return start, utc_hour(now)


def plan(
    env: str, desired: Iterable[tuple[str, datetime, int]], recorded: Mapping[CustomerHour, Recorded]
) -> list[MeterReport]:
    """Reports that make the ledger say what `desired` (customer, hour, units) says, oldest hour first.

    A customer and hour that was reported and is no longer desired is reported again with 0.

    :raises ValueError: a total is negative or above MAX_UNITS; nothing is planned then.
    """
    totals: dict[CustomerHour, int] = {key: 0 for key, before in recorded.items() if before.units is not None}
    for customer, hour, units in desired:
        totals[customer, hour] = totals.get((customer, hour), 0) + units
    reports = []
    for (customer, hour), units in totals.items():
        if not 0 <= units <= MAX_UNITS:
            raise ValueError(f"{customer} would be billed {units} units for {hour.isoformat()}: not a plausible total")
        before = recorded.get((customer, hour))
        if before and before.units == units:
            continue
        revision = before.revision + 1 if before else 1
        reports.append(MeterReport(customer, hour, revision, units, _identifier(env, customer, hour, revision)))
    return sorted(reports, key=lambda report: (report.hour_start, report.stripe_customer_id))


def meter_event(report: MeterReport) -> dict[str, object]:
    """The report as the parameters of Stripe's `POST /v1/billing/meter_events`; values are strings there."""
    return {
        "event_name": METER,
        "identifier": report.identifier,
        "timestamp": int(report.hour_start.timestamp()),
        "payload": {"stripe_customer_id": report.stripe_customer_id, "value": str(report.units)},
    }


def _identifier(env: str, customer: str, hour: datetime, revision: int) -> str:
    text = "|".join((env, METER, customer, hour.isoformat(), str(revision)))
    return hashlib.sha256(text.encode()).hexdigest()[:40]
