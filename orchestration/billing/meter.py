"""What billing needs of the meter that it reports to, and the check that it is the right one.

The vendor comes in as a parameter: `connect`, which `defs/` and `cli/` give. So billing knows no SDK.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import Mode
from orchestration.billing.revisions import Report
from orchestration.ledger import restored
from orchestration.ledger.outbox import InDoubtError
from orchestration.settings import Settings


class StoppedError(RuntimeError):
    """Nothing was sent, and nothing else would be: Stripe is down, or does not let us. What waits, waits."""


class AnsweredError(InDoubtError):
    """In doubt, and Stripe will repeat its answer to the same idempotency key."""


@dataclass(frozen=True)
class ErrorEvent:
    """What Stripe found wrong with reports that it had taken, as one of its error events says."""

    identifier: str
    """Of one such report; empty where Stripe does not name it."""
    code: str
    count: int
    """How many it stands for."""
    event_id: str
    created: str
    sentence: str
    """What is wrong, and what to do, for people."""


class Meter(Protocol):
    """Stripe's meter. The implementation is in `channels/stripe/meter.py`."""

    id: str
    mode: Mode

    def send(self, report: Report) -> None:
        """Give the report to Stripe once.

        :raises RefusedError: it was not taken, and will not be.
        :raises InDoubtError: it may have been taken.
        :raises StoppedError: it was not taken, and nothing would be.
        """

    def hourly_totals(self, customer: str, start: datetime, end: datetime) -> dict[datetime, int]:
        """Stripe's totals of the hours in `[start, end)`; one without usage may be missing.

        :raises RefusedError: the customer is unknown.
        :raises StoppedError: Stripe could not be asked.
        """

    def total(self, customer: str, start: datetime, end: datetime) -> int:
        """Stripe's total of `[start, end)`, whole hours, by one request.

        :raises RefusedError: the customer is unknown.
        :raises StoppedError: Stripe could not be asked.
        """

    def problem_of(self, customer: str) -> str:
        """Why a customer's usage is not billed, in a sentence; empty where nothing is known.

        :raises StoppedError: Stripe could not be asked.
        """

    def errors(self, since: datetime) -> list[ErrorEvent]:
        """What Stripe found wrong since then with reports that it had taken, oldest first.

        :raises StoppedError: Stripe could not be asked.
        """


Connect = Callable[[Settings], Meter]
"""Gives the meter as the environment configures it; raises StoppedError or ValueError where it cannot be used."""


ADOPT = (
    "Three hours after the last run with the lost ledger, run `headroom stripe adopt --all`. It accepts Stripe's"
    " totals as reported; then run again"
)


def connected(config: Settings, ledger: MeterLedger, connect: Connect, adopts: bool = False) -> Meter | None:
    """Stripe's meter, if a key is set, after checks that it is the one that was reported to before, and that the ledger
    knows all reports; `adopts`: the caller is about to add those that it does not know.

    :raises StoppedError, ValueError: it cannot be used; the message says what to do.
    """
    if config.stripe_api_key is None:
        return None
    if not adopts and (since := restored.unadopted_since(ledger.ledger)):
        raise StoppedError(
            f"the ledger is a copy of {since:%Y-%m-%d %H:%M} UTC or older, and lacks later reports. Nothing was"
            f" sent. {ADOPT}"
        )
    meter = connect(config)
    known, found = ledger.mark("meter"), f"{meter.id} {meter.mode}"
    if known and known != found:
        raise StoppedError(
            f"usage was reported to meter {known}, now {config.stripe_meter!r} is {found}: each has usage that the"
            " other lacks. Nothing was sent. Reactivate the old meter, or give the new one its own event name and"
            " set HEADROOM_STRIPE_METER to it. Then all usage that Stripe still accepts is reported there"
        )
    if not known:
        ledger.remember("meter", found)
    return meter
