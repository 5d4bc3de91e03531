"""How often Stripe may be read: it allows so many requests a month, and a day's share of them is ours."""

from collections.abc import Callable
from datetime import datetime

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.settings import Settings


def reads_left(config: Settings, ledger: MeterLedger, clock: Callable[[], datetime]) -> int:
    """How often Stripe's totals may still be read today (UTC)."""
    return config.stripe_reads_per_day - int(ledger.mark(f"reads|{clock():%Y-%m-%d}") or 0)


def note_reads(ledger: MeterLedger, clock: Callable[[], datetime], reads: int) -> None:
    """They were read so many times more."""
    if not reads:
        return
    today = f"reads|{clock():%Y-%m-%d}"
    ledger.remember(today, str(int(ledger.mark(today) or 0) + reads))
