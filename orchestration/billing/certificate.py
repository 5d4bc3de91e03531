"""Whether a customer's usage was invoiced as it was counted: the counted, reported and invoiced units are the same.

What was found of a period, in words for people, and when it is to be compared again. How it is judged is in verdict.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from orchestration.usage.formatting import counted as in_words

LOOK_AGAIN = timedelta(hours=6)
LAST_LOOK = timedelta(hours=1)
"""Before the invoice is final, Stripe's total is read once more: what differs then can still be repaired."""
NAMED = 3
"""Hours that differ and are named one by one."""


class Status(StrEnum):
    CERTIFIED = "certified"
    """The invoice was read, and has what was counted."""
    OPEN = "open"
    AWAITS = "awaits invoice"
    """Nothing differs so far, and its invoice is not final or was not read yet."""
    SETTLED = "settled"
    """It differs, and people have dealt with it."""


@dataclass(frozen=True)
class Certificate:
    """What was found when a period was compared. Figures are of its hours with usage or a report."""

    stripe_customer_id: str
    period_start: datetime
    period_end: datetime
    final_at: datetime
    """From here on the invoice cannot change, by Stripe or by the grace period that is configured."""
    hours: int
    units: int
    """Counted."""
    reported_units: int
    stripe_units: int | None
    """Of the meter; None: Stripe was not asked for them."""
    status: Status
    difference: str | None
    """What differs, or is awaited; None where it is certified."""
    certified_at: datetime
    """When it was compared."""
    subscription_id: str | None = None
    """None: no subscription bills it. Several, with blanks between, bill the same usage."""
    invoice_ids: str | None = None
    """Of Stripe's invoices with the period's usage, with blanks between."""
    line_ids: str | None = None
    """Of their lines."""
    invoice_units: int | None = None
    """None: no final invoice with the usage was read yet."""
    invoice_amount: int | None = None
    """In the currency's minor unit."""
    expected_amount: int | None = None
    """What the counted units cost by the catalog's prices; None where it has none for them."""
    currency: str | None = None

    @property
    def is_before_final(self) -> bool:
        return self.certified_at < self.final_at

    @property
    def missing_units(self) -> int:
        """Counted, and on no invoice; less than 0 is invoiced and not counted."""
        return self.units - (self.invoice_units or 0)

    @property
    def sentence(self) -> str:
        when = "before" if self.is_before_final else "after"
        at = f"{self.certified_at:%Y-%m-%d %H:%M} UTC, {when} the invoice became final ({self.final_at:%Y-%m-%d %H:%M})"
        if self.status is Status.CERTIFIED and self.units and not self.invoice_units:
            units = in_words(self.units, "unit")
            return f"Certified {at}: {units} counted and reported in a trial, which Stripe does not bill."
        if self.status is Status.CERTIFIED:
            on = f"{self.invoice_ids} (subscription {self.subscription_id}; lines {self.line_ids})"
            return f"Certified {at}: {in_words(self.units, 'unit')} counted, reported and invoiced on {on}."
        if self.status is Status.AWAITS:
            return f"Waits for its invoice. Compared {at}: {self.difference or 'equal so far'}."
        if self.status is Status.SETTLED:
            return f"Settled {at}: {self.difference}"
        return f"Not certified. Compared {at}: {self.difference}. {self.advice}"

    @property
    def advice(self) -> str:
        """What to do about the difference."""
        settled = f"then `headroom stripe settle {self.stripe_customer_id} --note …`"
        missing = self.missing_units
        if self.subscription_id is None:
            return (
                "Add the metered price of its plan to the customer's subscription, and bill these"
                f" {in_words(self.units, 'unit')} by hand; {settled}"
            )
        if self.is_before_final:
            return (
                f"You can still repair it until {self.final_at:%Y-%m-%d %H:%M} UTC: `headroom stripe explain"
                f" {self.stripe_customer_id}` says how, `headroom stripe apply` reports it"
            )
        if missing > 0:
            return f"Bill the missing {in_words(missing, 'unit')} by an invoice item, or waive them; {settled}"
        if missing < 0:
            return f"Credit {in_words(-missing, 'unit')} by a credit note on {self.invoice_ids}; {settled}"
        return f"Compare the price of the subscription with the plan's (`headroom stripe check`); {settled}"


def is_due(
    before: Certificate | None,
    units: int,
    invoice_units: int | None,
    invoice_amount: int | None,
    final_at: datetime,
    now: datetime,
) -> bool:
    """Whether a period is to be compared (again): `before` is what was found last, the others what is known now."""
    if before is None:
        return True
    invoiced = (before.invoice_units, before.invoice_amount)
    if before.units != units or invoiced != (invoice_units, invoice_amount):
        return True
    if before.status in (Status.CERTIFIED, Status.SETTLED):
        return False
    if (before.stripe_units is None and before.status is Status.OPEN) or now - before.certified_at >= LOOK_AGAIN:
        return True
    is_under_way = before.status is Status.AWAITS and before.difference is not None and before.stripe_units is None
    return is_under_way or before.certified_at < final_at - LAST_LOOK <= now < final_at


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
