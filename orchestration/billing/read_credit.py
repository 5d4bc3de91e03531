"""What is left of all prepaid credit, read once a day into the lake, so that the marts show it beside the overage."""

from collections.abc import Callable
from datetime import datetime, timedelta

from orchestration.billing.credits import ConnectCredits, remaining_credit
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.reads import note_reads, reads_left
from orchestration.lake import prepaid_credit
from orchestration.lake.lake import Lake
from orchestration.settings import Settings

EVERY = timedelta(hours=23)
READ = "credit read"
"""Name of a mark: when it was read."""


def read_credit(config: Settings, connect: ConnectCredits, clock: Callable[[], datetime]) -> int | None:
    """How many customers have credit; None where it is not read now: without a key, or within a day, or of the day's
    reads.

    :raises ValueError, RefusedError, StoppedError: the vendor cannot be asked, or did not say. The copy stays.
    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger, now = meter_ledger(config), clock()
    before = ledger.mark(READ)
    is_recent = before is not None and now - datetime.fromisoformat(before) < EVERY
    if config.stripe_api_key is None or is_recent or reads_left(config, ledger, clock) <= 0:
        return None
    source = connect(config)
    try:
        customers = sorted(source.customers())
        rows = [
            (customer, each.currency, each.remaining, each.burns_down_at, now)
            for customer in customers
            for each in remaining_credit(config, lambda _: source, customer, config.now())
        ]
    finally:
        note_reads(ledger, clock, source.requests)
    lake = Lake(config.lake)
    with lake.locked():
        prepaid_credit.write(lake.root, rows)
    ledger.remember(READ, now.isoformat())
    return len(customers)
