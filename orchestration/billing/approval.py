"""What a plan changes, and which of it people have to approve first. Pure.

What waits is recorded and not sent; all the rest is. Approval is asked for

- corrections of what was reported before, where they are more than the limits allow;
- usage that leaves a customer and comes to no other: a mapping disappeared;
- a first report of an hour that is far larger than any before.

A customer with a correction that waits has no other one sent. The code of what waits is made of just that: to
approve a code is to approve what was shown with it.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date, datetime
from operator import attrgetter

from orchestration.billing.metering import CustomerHour, DayPlan, MeterReport, ReportState
from orchestration.usage.formatting import counted

SMALL_CHANGE = 1_000
"""Units: corrections of less than that are never over the limit in percent."""
LARGE_HOUR = 1_000_000
"""Units: a first report of less is never large."""
TIMES_LARGER = 20
"""So many times larger than the largest hour that the customer was ever reported, a first report is large."""


@dataclass(frozen=True)
class Limits:
    """Up to where corrections are sent unasked."""

    max_pct: int
    """Of the units that can still be billed."""
    max_customers: int


@dataclass(frozen=True)
class Waiting:
    """What has to be approved: all corrections of these customers, and these first reports."""

    customers: frozenset[str] = frozenset()
    hours: frozenset[CustomerHour] = frozenset()
    units: int = 0
    """That would be taken away or added, without sign."""
    why: str = ""
    code: str = ""
    meter: str = ""
    """Empty: the main one."""

    def has(self, report: MeterReport, is_correction: bool) -> bool:
        return report.key in self.hours or (is_correction and report.stripe_customer_id in self.customers)

    @property
    def question(self) -> str:
        """What is asked of people, in sentences; empty where nothing is."""
        if not self.code:
            return ""
        named = {*self.customers, *(customer for customer, _ in self.hours)}
        customers = f"{len(named):,} customers" if len(named) > 1 else next(iter(named))
        command = f"headroom stripe --meter {self.meter}" if self.meter else "headroom stripe"
        asset = "stripe_gauges" if self.meter else "stripe_usage"
        return (
            f"{counted(self.units, 'unit')} of {customers} waiting for approval: {self.why}. All other usage is sent."
            f" `{command} plan` shows what waits. To approve it, run `{command} apply --approve"
            f" {self.code}`, or set approve: {self.code} in the config of {asset}"
        )


@dataclass
class Change:
    """What a plan changes, added up day by day; it keeps no report but the large ones."""

    by_day: bool = True
    """Whether units are kept for each day: those of a first plan are a million."""
    reports: int = 0
    """Those that wait among them."""
    held: int = 0
    net_units: int = 0
    """That come, less those that go."""
    hours: dict[str, int] = field(default_factory=dict)
    """Customer-hours by customer."""
    units: dict[tuple[str, date], int] = field(default_factory=dict)
    """Units that come, or go, by customer and UTC day."""
    corrections: dict[str, int] = field(default_factory=dict)
    """Units that change, without sign, by customer, where both are of the same hour."""
    large: dict[CustomerHour, int] = field(default_factory=dict)
    """First reports that are far larger than any before."""
    leaving: set[str] = field(default_factory=set)
    """Customers that lose usage to nobody."""
    waiting: set[str] = field(default_factory=set)
    """Customers whose corrections waited before this plan."""
    _digests: dict[str, "hashlib._Hash"] = field(default_factory=dict)

    def add(
        self, made: DayPlan, unclaimed: Callable[[str, datetime, int], bool], largest: Callable[[str], int]
    ) -> None:
        """`unclaimed` says whether units that a customer loses in an hour seem to have no customer now; `largest` the
        largest hour that was ever reported of a customer, or of anybody.
        """
        self.held += sum(report.state is ReportState.HELD for report in made.reports)
        reports = [report for report in [*made.reports, *made.waiting] if report.state is not ReportState.HELD]
        reports.sort(key=attrgetter("hour_start", "stripe_customer_id"))  # a code is the same before it was recorded
        gained: dict[datetime, int] = {}
        for report in reports:
            stands, _ = made.corrected.get(report.key, (0, 0))
            gained[report.hour_start] = gained.get(report.hour_start, 0) + max(report.units - stands, 0)
            self._add(report, made.corrected.get(report.key), largest)
        for report in reports:
            stands, units = made.corrected.get(report.key, (0, 0))
            if gained[report.hour_start] < stands - units and unclaimed(*report.key, stands - units):
                self.leaving.add(report.stripe_customer_id)
        self.waiting |= {report.stripe_customer_id for report in made.waiting if report.key in made.corrected}

    def add_first(self, customer: str, hours: int, units: int) -> None:
        """First reports of so many hours, about which there is nothing to decide."""
        self.reports += hours
        self.hours[customer] = self.hours.get(customer, 0) + hours
        self.net_units += units

    def add_units(self, customer: str, day: date, units: int) -> None:
        self.units[customer, day] = self.units.get((customer, day), 0) + units

    def _add(self, report: MeterReport, corrected: tuple[int, int] | None, largest: Callable[[str], int]) -> None:
        customer, hour = report.key
        stands = corrected[0] if corrected else 0
        self.reports += 1
        self.hours[customer] = self.hours.get(customer, 0) + 1
        self.net_units += report.units - stands
        if self.by_day:
            self.add_units(customer, hour.date(), report.units - stands)
        if corrected:
            self.corrections[customer] = self.corrections.get(customer, 0) + abs(report.units - stands)
            digest = self._digests.setdefault(customer, hashlib.sha256(customer.encode()))
            digest.update(f"|{hour.isoformat()}|{stands}|{report.units}".encode())
        elif report.units >= LARGE_HOUR and report.units > TIMES_LARGER * largest(customer):
            self.large[report.key] = report.units

    @property
    def corrected_units(self) -> int:
        return sum(self.corrections.values())

    @property
    def corrected_customers(self) -> set[str]:
        return {*self.corrections}

    def waits(self, desired_units: int, limits: Limits, approved: Collection[str] = ()) -> Waiting:
        """What has to be approved; nothing where its code is among the approved ones.

        `desired_units` are those of all hours that can still be billed.
        """
        asked = (self.waiting | self.leaving) & self.corrections.keys()
        rest = {customer: units for customer, units in self.corrections.items() if customer not in asked}
        reasons = []
        if self.leaving:
            reasons.append("usage leaves a customer and moves to no other, so its mapping disappeared")
        if len(rest) > limits.max_customers:
            reasons.append(f"corrections of more than {counted(limits.max_customers, 'customer')} at once")
            asked |= rest.keys()
        elif over := _over(rest, desired_units, limits.max_pct):
            asked |= over
        if asked - self.leaving and len(rest) <= limits.max_customers:
            reasons.append(
                f"corrections of more than {limits.max_pct} % of the {counted(desired_units, 'unit')}"
                " that Stripe still accepts"
            )
        if self.large:
            reasons.append(f"hours with more than {TIMES_LARGER} times the units of any earlier report")
        if not (asked or self.large):
            return Waiting()
        seal = hashlib.sha256()
        for customer in sorted(asked):
            seal.update(self._digests[customer].digest())
        for (customer, hour), units in sorted(self.large.items()):
            seal.update(f"|{customer}|{hour.isoformat()}|{units}".encode())
        code = seal.hexdigest()[:8]
        if code in approved:
            return Waiting()
        units = sum(self.corrections[customer] for customer in asked) + sum(self.large.values())
        return Waiting(frozenset(asked), frozenset(self.large), units, "; ".join(reasons), code)


def _over(corrections: dict[str, int], desired_units: int, max_pct: int) -> set[str]:
    """The customers with the largest corrections, so many that those of the others are within the limit."""
    total, asked = sum(corrections.values()), set()
    for customer, units in sorted(corrections.items(), key=lambda item: (-item[1], item[0])):
        if total < SMALL_CHANGE or total * 100 <= desired_units * max_pct:
            break
        asked.add(customer)
        total -= units
    return asked
