"""What is not billed as it was counted, put together for people: by customer, billing period and cause, with its money.

Over-billing is that Stripe has more units than were counted, under-billing that it has fewer. Reads the ledger and the
published copy; asks Stripe nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from orchestration.billing import usage_query
from orchestration.billing.catalog import plans_by_name
from orchestration.billing.catalog_rules import in_major
from orchestration.billing.certificate import Certificate
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.invoicing import Invoicing, SubscriptionPeriod
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import HORIZON, HOUR, Mode, ReportState
from orchestration.billing.meters import in_units
from orchestration.billing.revisions import Report, units_at_stripe
from orchestration.billing.usage_query import LOOK_BACK
from orchestration.settings import Settings
from orchestration.usage import pricing
from orchestration.usage.meters import Meter
from orchestration.usage.pricing import Plan
from orchestration.warehouse import queries
from orchestration.warehouse.published_copy import NothingPublishedError

EVER = datetime(1970, 1, 1, tzinfo=UTC)
SEEN = (ReportState.MISMATCH, ReportState.HELD)
"""States in which the total that Stripe showed goes before what it took."""


@dataclass(frozen=True)
class Problem:
    """Hours of a customer's billing period that are wrong for the same reason, or a period whose invoice is."""

    stripe_customer_id: str
    cause: str
    advice: str
    first_hour: datetime
    last_hour: datetime
    hours: int
    units: int
    """Counted minus at Stripe: more than 0 is under-billed, less than 0 over-billed."""
    amount: Decimal | None
    """The same in money, at the catalog's price for the plan; None where no plan, or several, are known."""
    currency: str
    since: datetime
    """When the first of it was found, or decided."""
    until: datetime | None
    """Until when it can still come on its invoice; None: no more."""
    identifiers: Sequence[str]

    @property
    def kind(self) -> str:
        return "over-billed" if self.units < 0 else "under-billed" if self.units > 0 else "not billed as counted"


def problems(config: Settings, ledger: MeterLedger, now: datetime, by_hour: bool = False) -> list[Problem]:
    """The largest amount first, then the most units. `by_hour`: each customer-hour by itself."""
    reports = ledger.problems()
    since = now - LOOK_BACK
    open_ = Certificates(ledger).open(since)
    customers = sorted({each.stripe_customer_id for each in reports} | {each.stripe_customer_id for each in open_})
    if not customers:
        return []
    terms = _Terms.read(config, ledger, customers, since)
    groups: dict[tuple[object, ...], list[tuple[Report, int]]] = {}
    for report, units in _with_difference(ledger, reports):
        period = terms.period(*report.key)
        start = period["period_start"] if period else None
        cause = re.sub(r"\d[\d,]*", "", _cause(report)[0])
        one = report.identifier if by_hour else (start, report.state, cause, units < 0)
        groups.setdefault((report.stripe_customer_id, one), []).append((report, units))
    found = [_of_reports(group, terms, now) for group in groups.values()]
    found += [each for certificate in open_ if (each := _of_certificate(certificate, terms, found, now))]
    return sorted(found, key=lambda each: (-abs(each.amount or Decimal(0)), -abs(each.units), each.first_hour))


def total(found: Iterable[Problem], meter: Meter) -> list[str]:
    """What they come to, over-billed and under-billed apart, in words."""
    sums: dict[tuple[str, str], list[Any]] = {}
    for each in found:
        entry = sums.setdefault((each.kind, each.currency), [0, Decimal(0)])
        entry[0] += abs(each.units)
        entry[1] += abs(each.amount or Decimal(0))
    return [
        f"{in_units(meter, units)} {kind}" + (f", {amount:,.2f} {currency}" if currency else ", price unknown")
        for (kind, currency), (units, amount) in sorted(sums.items())
    ]


@dataclass(frozen=True)
class _Terms:
    """By what a difference is priced, and until when it can be repaired."""

    billed: Mapping[str, Sequence[Mapping[str, Any]]]
    """Billing periods with usage, by customer."""
    subscribed: Mapping[str, Sequence[SubscriptionPeriod]]
    plans: Mapping[str, Plan]
    grace: timedelta

    @classmethod
    def read(cls, config: Settings, ledger: MeterLedger, customers: Sequence[str], since: datetime) -> "_Terms":
        billed: dict[str, list[Mapping[str, Any]]] = {}
        catalogued: dict[str, Plan] = {}
        with suppress(NothingPublishedError):
            catalogued = plans_by_name(config)
            as_of = queries.data_quality(config.published)["as_of"]
            with usage_query.billable_usage(
                config.published, EVER, as_of, config.bill_sampled, config.billed_meter
            ) as usage:
                for period in usage.periods(customers):
                    billed.setdefault(period["stripe_customer_id"], []).append(period)
        subscribed: dict[str, list[SubscriptionPeriod]] = {}
        for each in Invoicing(ledger).periods(since):
            subscribed.setdefault(each.stripe_customer_id, []).append(each)
        return cls(billed, subscribed, catalogued, timedelta(hours=config.stripe_grace_hours))

    def period(self, customer: str, hour: datetime) -> Mapping[str, Any] | None:
        periods = self.billed.get(customer, ())
        return next((each for each in periods if each["period_start"] <= hour < each["period_end"]), None)

    def amount(self, customer: str, hour: datetime, units: int) -> tuple[Decimal | None, str]:
        """What the units cost within their billing period: that of all counted ones less that of all but these."""
        period = self.period(customer, hour)
        plan = self.plans.get(period["plan"]) if period else None
        if period is None or plan is None:
            return None, ""
        counted = int(period["units"])
        return pricing.price(plan, counted) - pricing.price(plan, counted - units), plan.currency

    def until(self, customer: str, hour: datetime, now: datetime) -> datetime | None:
        """Until when a report of the hour still changes its invoice: Stripe's period says so, else the account's."""
        ends = [p.period_end for p in self.subscribed.get(customer, ()) if p.period_start <= hour < p.period_end]
        period = self.period(customer, hour)
        end = max(ends) if ends else period["period_end"] if period else None
        last = hour + HORIZON if end is None else min(end + self.grace, hour + HORIZON)
        return last if last > now else None


def _with_difference(ledger: MeterLedger, reports: Iterable[Report]) -> Iterator[tuple[Report, int]]:
    """Each with the units that were counted less those that Stripe has of its hour."""
    mode = Mode((ledger.mark("meter") or f"none {Mode.TOTAL}").split()[-1])
    of_customer: dict[str, list[Report]] = {}
    for report in reports:
        of_customer.setdefault(report.stripe_customer_id, []).append(report)
    for customer, own in of_customer.items():
        revisions = ledger.of_customer(customer, own[0].hour_start, own[-1].hour_start + HOUR)
        stands = units_at_stripe(revisions, mode)
        for report in own:
            is_seen = report.state in SEEN and report.stripe_units is not None
            there = report.stripe_units if is_seen else stands.get(report.key, 0)
            yield report, report.units - (there or 0)


def _of_reports(group: Sequence[tuple[Report, int]], terms: _Terms, now: datetime) -> Problem:
    (first, _), (last, _) = group[0], group[-1]
    units = sum(units for _, units in group)
    amount, currency = terms.amount(*first.key, units)
    cause, advice = _cause(first, is_over=units < 0, is_one=len(group) == 1)
    untils = [terms.until(*report.key, now) for report, _ in group]
    is_billable = first.state is not ReportState.HELD  # what is held is too late, or was for the clock that held it
    return Problem(
        first.stripe_customer_id,
        cause,
        advice,
        first.hour_start,
        last.hour_start,
        len(group),
        units,
        amount,
        currency,
        min(report.finished_at or report.created_at for report, _ in group),
        min((each for each in untils if each), default=None) if is_billable else None,
        [report.identifier for report, _ in group],
    )


def _of_certificate(
    certificate: Certificate, terms: _Terms, reported: Iterable[Problem], now: datetime
) -> Problem | None:
    """A period that is not invoiced as counted, less what problems of its hours say already."""
    customer, start, end = certificate.stripe_customer_id, certificate.period_start, certificate.period_end
    known = [each for each in reported if each.stripe_customer_id == customer and start <= each.first_hour < end]
    units = _missing(certificate, now) - sum(each.units for each in known)
    if known and not units:
        return None
    on = f"invoice {certificate.invoice_ids}: " if certificate.invoice_ids else ""
    amount, currency = terms.amount(customer, start, units)
    if not known and certificate.expected_amount is not None and certificate.invoice_amount is not None:
        currency = (certificate.currency or "").upper()
        amount = in_major(certificate.expected_amount - certificate.invoice_amount, currency)
    return Problem(
        customer,
        f"{on}{certificate.difference or ''}",
        certificate.advice,
        start,
        end - HOUR,
        certificate.hours,
        units,
        amount,
        currency,
        certificate.certified_at,
        certificate.final_at if certificate.final_at > now else None,
        [],
    )


def _missing(certificate: Certificate, now: datetime) -> int:
    """Counted units that are not on the invoice; before there is one, those that Stripe's meter lacks."""
    if certificate.invoice_units is not None or certificate.subscription_id is None or certificate.final_at <= now:
        return certificate.missing_units
    shown = certificate.stripe_units
    return certificate.units - (certificate.reported_units if shown is None else shown)


def _cause(report: Report, is_over: bool = False, is_one: bool = True) -> tuple[str, str]:
    """What is wrong, without figures of the one hour, and what to do."""
    error, customer = (report.error or "").rstrip("."), report.stripe_customer_id
    settle = f"then `headroom stripe settle {customer} --note …`"
    if report.state is ReportState.HELD:
        reason = re.sub(r"^.* units? (are )?not billed: ", "", error)
        by_hand = "issue a credit note" if is_over else "add it to the next invoice by hand, or waive it"
        return f"too late: {reason}", f"{by_hand}, {settle}"
    if report.state is ReportState.MISMATCH:
        hour = f"{report.hour_start:%Y-%m-%dT%H}"
        each = "" if is_one else ", and the same for each other hour (`--hours` lists them)"
        return (
            "Stripe's total differs from the report: another program writes to the meter, or an event was canceled",
            f"find the cause, then `headroom stripe adopt {customer} {hour}`{each}: the next run sends the difference",
        )
    if report.state is ReportState.WAITING:
        why = error.partition(" for approval: ")[2].partition("; `headroom")[0]
        return (
            f"waits for approval{f': {why}' if why else ''}",
            "look at `headroom stripe plan`, then run `headroom stripe apply --approve CODE` with its code",
        )
    again = "then `headroom stripe apply --retry-refused`; otherwise a run sends it again after a day"
    what, _, remedy = error.partition(": ")
    if error.startswith("Stripe refused"):
        return error, f"repair it, {again}"
    return (what, f"{remedy}, {again}") if remedy else (re.sub(r"\s+", " ", error), f"repair it, {again}")
