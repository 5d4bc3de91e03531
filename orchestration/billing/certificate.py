"""Whether a customer's usage period was billed as it was counted: what was counted, reported and shown by Stripe has to
be the same in each hour. Pure: the figures are given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

LOOK_AGAIN = timedelta(hours=6)
LAST_LOOK = timedelta(hours=2)
"""Before the invoice is final, what is open is looked at once more."""
NAMED = 3
"""Hours that differ and are named one by one."""


class Status(StrEnum):
    CERTIFIED = "certified"
    OPEN = "open"


@dataclass(frozen=True)
class Certificate:
    """What was found when a period was compared. Figures are of its hours with usage or a report."""

    stripe_customer_id: str
    period_start: datetime
    period_end: datetime
    final_at: datetime
    """From here on the invoice cannot change, by the grace period that is configured."""
    hours: int
    units: int
    """Counted."""
    reported_units: int
    stripe_units: int | None
    """None: Stripe was not asked, for what was counted and what was reported differ, or that is still under way."""
    status: Status
    difference: str | None
    """What differs; None where it is certified."""
    certified_at: datetime
    """When it was compared."""
    subscription_id: str | None = None
    invoice_ids: str | None = None
    """Of Stripe's invoices with the period's usage, with blanks between."""
    line_ids: str | None = None
    """Of their lines."""
    invoice_units: int | None = None
    """None: no invoice with the usage was read yet."""
    invoice_amount: int | None = None
    """In the currency's minor unit."""
    expected_amount: int | None = None
    """What the counted units cost by the catalog's prices; None where it has none for them."""
    currency: str | None = None

    @property
    def is_before_final(self) -> bool:
        return self.certified_at < self.final_at

    @property
    def sentence(self) -> str:
        when = "before" if self.is_before_final else "after"
        at = f"{self.certified_at:%Y-%m-%d %H:%M} UTC, {when} the invoice became final ({self.final_at:%Y-%m-%d %H:%M})"
        if self.status is Status.CERTIFIED:
            return f"Certified {at}: {self.units:,} units counted, reported and shown by Stripe, equal in each hour."
        return f"Not certified. Compared {at}: {self.difference}"


def is_due(before: Certificate | None, units: int, now: datetime) -> bool:
    """Whether a period is to be compared (again): `before` is what was found last, `units` what it counts now."""
    if before is None:
        return True
    if before.status is Status.CERTIFIED:
        return before.units != units and now < before.final_at
    if before.stripe_units is None or now - before.certified_at >= LOOK_AGAIN:
        return True
    return before.certified_at < before.final_at - LAST_LOOK <= now < before.final_at


def differences(
    counted: Mapping[datetime, int], others: Mapping[datetime, int], verb: str, errors: Mapping[datetime, str]
) -> str:
    """The hours in which the two are not equal, in a sentence; empty where they all are."""
    hours = [hour for hour in sorted({*counted, *others}) if counted.get(hour, 0) != others.get(hour, 0)]
    told = [
        f"{hour:%Y-%m-%d %H:%M} UTC: {counted.get(hour, 0):,} counted, {others.get(hour, 0):,} {verb}"
        + (f" ({errors[hour]})" if hour in errors else "")
        for hour in hours[:NAMED]
    ]
    more = f"; and {len(hours) - NAMED:,} more hours" if len(hours) > NAMED else ""
    return "; ".join(told) + more
