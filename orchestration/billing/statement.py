"""What is said of a billed hour: what was counted, what was reported, what Stripe shows, and why they differ. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import accumulate, pairwise

from orchestration.billing.certificate import Certificate
from orchestration.billing.invoicing import InvoiceLine, SubscriptionPeriod
from orchestration.billing.metering import ReportState
from orchestration.usage import pricing
from orchestration.usage.formatting import counted as in_words
from orchestration.usage.meters import Meter
from orchestration.usage.pricing import Plan

TROUBLED = (ReportState.REFUSED, ReportState.LOST, ReportState.HELD, ReportState.SETTLED, ReportState.MISMATCH)


@dataclass(frozen=True)
class BilledHour:
    """A customer's UTC hour, as the mart billing_reconciliation_hourly has it; with what the ledger says now."""

    hour_start: datetime
    counted_units: int
    reported_units: int
    """What stands at Stripe by the newest report that it took, or may have taken; 0 without one."""
    stripe_units: int | None
    """None: not looked at since that report."""
    state: ReportState | None
    """Of the newest revision; None where there is none."""
    revisions: int
    identifier: str | None
    first_attempt_at: datetime | None
    sent_at: datetime | None
    confirmed_at: datetime | None
    error: str | None
    is_closed: bool
    """Whether the hour had ended at the last build."""

    @property
    def is_settled(self) -> bool:
        """Counted, reported and shown by Stripe, or nothing at all."""
        is_nothing = not (self.state or self.counted_units)
        is_confirmed = self.state is ReportState.CONFIRMED and self.counted_units == self.reported_units
        return is_nothing or is_confirmed

    @property
    def verdict(self) -> str:
        """The hour in a sentence."""
        counted, reported = f"{in_words(self.counted_units, 'unit')} counted", f"{self.reported_units:,}"
        if self.state is None and not self.counted_units:
            return "nothing counted and nothing reported"
        if not self.is_closed:
            return f"{counted} so far; the first run after the hour's end reports it"
        if self.state is None:
            return (
                f"{counted}, nothing reported: the next run reports it, or holds it if it is too late. Headroom"
                " does not bill usage from before its first report"
            )
        if self.state is ReportState.PREVIEWED:
            return f"{counted}, nothing sent: STRIPE_API_KEY is not set"
        if self.state in TROUBLED:
            return f"{counted}, {reported} reported ({self.state}): {self.error}"
        if self.state is ReportState.WAITING:
            return f"{counted}, {reported} reported; {self.error}"
        if self.state is ReportState.SENDING:
            return f"{counted}, {reported} sent and in doubt ({self.error or 'no answer yet'}); the next run settles it"
        if self.state is ReportState.PREPARED:
            return f"{counted}, {reported} reported; the next run sends the rest"
        if self.counted_units != self.reported_units:
            more = self.counted_units - self.reported_units
            return f"{counted} now, {reported} reported: {more:+,} since then, which the next run reports"
        if self.state is ReportState.CONFIRMED:
            return f"{counted}, reported and confirmed by Stripe"
        sent = f"sent {self.sent_at:%Y-%m-%d %H:%M} UTC, " if self.sent_at else ""
        if self.stripe_units is None:
            return f"{counted} and reported; {sent}not confirmed yet: Stripe adds up later, and a later run compares"
        return (
            f"{counted} and reported; {sent}not confirmed yet: Stripe showed {self.stripe_units:,} at the last"
            " check, a later run checks again"
        )


@dataclass(frozen=True)
class Statement:
    """A customer's hours with usage or a report in a billing period."""

    stripe_customer_id: str
    period_start: datetime
    period_end: datetime
    meter: Meter
    """Whose steps the units are."""
    as_of: datetime
    """When the usage was counted; the reports are as they are now."""
    hours: Sequence[BilledHour]
    certificate: Certificate | None
    plan: Plan | None = None
    """That all of the customer's accounts have; None: they have several, or none of the catalog."""
    subscriptions: Sequence[SubscriptionPeriod] = ()
    """Stripe's periods that overlap this one."""
    lines: Sequence[InvoiceLine] = ()
    """Those of invoices that were read, with usage of this period."""

    @property
    def currency(self) -> str:
        return self.plan.currency if self.plan else ""

    @property
    def amount(self) -> Decimal | None:
        """What the counted units cost at the catalog's prices, without the base price; None where it has no plan."""
        return pricing.price(self.plan, self.counted_units) if self.plan else None

    @property
    def reported_amount(self) -> Decimal | None:
        """The same of the reported units."""
        return pricing.price(self.plan, self.reported_units) if self.plan else None

    @property
    def hourly_amounts(self) -> list[Decimal | None]:
        """What each hour adds to the amount of the hours before it: together they are the amount."""
        if self.plan is None:
            return [None] * len(self.hours)
        sums = [pricing.price(self.plan, units) for units in accumulate(hour.counted_units for hour in self.hours)]
        return [amount - before for before, amount in pairwise([Decimal(0), *sums])]

    @property
    def counted_units(self) -> int:
        return sum(hour.counted_units for hour in self.hours)

    @property
    def reported_units(self) -> int:
        return sum(hour.reported_units for hour in self.hours)

    @property
    def stripe_units(self) -> int:
        """Of the hours that Stripe was looked at for."""
        return sum(hour.stripe_units or 0 for hour in self.hours)

    @property
    def unsettled(self) -> list[BilledHour]:
        return [hour for hour in self.hours if not hour.is_settled]

    @property
    def status(self) -> str:
        """In a word: running, certified, open, or not compared yet."""
        if self.certificate:
            return str(self.certificate.status)
        return "running" if self.as_of < self.period_end else "not compared"
