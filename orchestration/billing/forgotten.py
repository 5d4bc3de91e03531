"""Whether Stripe has usage that the ledger never sent: then the ledger is an older copy of itself, or a new one.

A copy that `headroom backup` made says so of itself. One that a disk's snapshot or a database's recovery brought back
does not; only Stripe knows. A few customers are looked at before anything is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestration.billing.meter import Meter
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.ledger.outbox import RefusedError
from orchestration.usage.formatting import counted

NEWEST = timedelta(hours=96)
"""As many hours as Stripe gives by one request, nearly."""
CUSTOMERS = 2
"""Looked at by each run, with one request each: those of whom most is about to be sent."""


@dataclass(frozen=True)
class Forgotten:
    """An hour that Stripe has units of, and the ledger knows no report of."""

    stripe_customer_id: str
    hour_start: datetime
    units: int

    @property
    def sentence(self) -> str:
        return (
            f"Stripe has {counted(self.units, 'unit')} of {self.stripe_customer_id} for"
            f" {self.hour_start:%Y-%m-%d %H:%M} UTC, and this ledger never reported that hour. Either the ledger is an"
            " older copy or a new one, or another program reports to the meter"
        )


def forgotten(
    ledger: MeterLedger, meter: Meter, hours: Mapping[str, int], end: datetime
) -> tuple[Forgotten | None, int]:
    """The first such hour among the newest before `end`, and how many requests were made.

    `hours` are how many are about to be sent, by customer.

    :raises StoppedError: Stripe could not be asked.
    """
    start, reads = end - NEWEST, 0
    for customer in sorted(hours, key=lambda name: (-hours[name], name))[:CUSTOMERS]:
        reads += 1
        try:
            shown = meter.hourly_totals(customer, start, end)
        except RefusedError:
            continue  # an unknown customer: its reports will say so
        sent = {
            each.hour_start for each in ledger.of_customer(customer, start, end) if each.attempts or each.checked_at
        }
        for hour in sorted(shown.keys() - sent):
            if shown[hour]:
                return Forgotten(customer, hour, shown[hour]), reads
    return None, reads
