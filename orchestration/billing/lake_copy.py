"""The lake's copies of what the ledger has for the models: the meter reports, and the subscription periods."""

import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from orchestration.billing import changed_reports
from orchestration.billing.invoicing import Invoicing
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.meters import each_meter
from orchestration.lake import meter_reports, subscription_periods
from orchestration.lake.lake import Lake
from orchestration.lake.meter_reports import METER_REPORT_COLUMNS
from orchestration.lake.subscription_periods import SUBSCRIPTION_PERIOD_COLUMNS
from orchestration.settings import Settings


@dataclass(frozen=True)
class LedgerCopyResult:
    """What a copy of the ledger's reports wrote."""

    days: int
    rows: int
    is_whole: bool
    """Every day, for the copy that was there was none of this ledger's."""
    periods: int = 0
    """Subscription periods: always all of them, they are few."""


def copy_ledger(config: Settings) -> LedgerCopyResult:
    """Bring the lake's copies up to the ledger; of the meter reports, the UTC days that changed since the last copy."""
    ledger, lake = meter_ledger(config), Lake(config.lake)
    with lake.locked():
        changed, sealed = changed_reports.changed_days(ledger), ledger.mark("copy")
        is_whole = not sealed or sealed != meter_reports.seal(lake.root)
        days = changed_reports.days(ledger) if is_whole else sorted(changed)
        if is_whole:
            meter_reports.keep_only(lake.root, days)
        rows = 0
        for day in days:
            chunks = changed_reports.rows_of(ledger, day, list(METER_REPORT_COLUMNS))
            rows += meter_reports.write(lake.root, day, chunks)
        if days or is_whole:
            # Another one each time: with a ledger from a backup, which has an older one, all is copied again.
            seal = uuid.uuid4().hex
            meter_reports.set_seal(lake.root, seal)
            changed_reports.note_copied(ledger, changed, seal)
        periods = subscription_periods.write(lake.root, _periods(config))
    return LedgerCopyResult(len(days), rows, is_whole, periods)


def _periods(config: Settings) -> list[list[object]]:
    """All that are known, of each meter that is reported."""
    values = [
        {**asdict(period), "meter": each.billed_meter}
        for each in each_meter(config)
        for period in Invoicing(meter_ledger(each)).periods(ended_after=datetime.min.replace(tzinfo=UTC))
    ]
    return [[row[name] for name in SUBSCRIPTION_PERIOD_COLUMNS] for row in values]
