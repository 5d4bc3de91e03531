"""The lake's copy of the meter reports, which the models compare with what was counted."""

import uuid
from dataclasses import dataclass

from orchestration.billing.meter_ledger import meter_ledger
from orchestration.lake import meter_reports
from orchestration.lake.lake import Lake
from orchestration.lake.meter_reports import METER_REPORT_COLUMNS
from orchestration.settings import Settings


@dataclass(frozen=True)
class LedgerCopyResult:
    """What a copy of the ledger's reports wrote."""

    days: int
    rows: int
    is_whole: bool
    """Every day, for the copy that was there was none of this ledger's."""


def copy_ledger(config: Settings) -> LedgerCopyResult:
    """Bring the lake's copy of the meter reports up to the ledger: the UTC days that changed since the last copy."""
    ledger, lake = meter_ledger(config), Lake(config.lake)
    with lake.locked():
        changed, sealed = ledger.changed_days(), ledger.mark("copy")
        is_whole = not sealed or sealed != meter_reports.seal(lake.root)
        days = ledger.days() if is_whole else sorted(changed)
        if is_whole:
            meter_reports.keep_only(lake.root, days)
        rows = sum(meter_reports.write(lake.root, day, ledger.rows_of(day, list(METER_REPORT_COLUMNS))) for day in days)
        if days or is_whole:
            # Another one each time: with a ledger from a backup, which has an older one, all is copied again.
            seal = uuid.uuid4().hex
            meter_reports.set_seal(lake.root, seal)
            ledger.note_copied(changed, seal)
    return LedgerCopyResult(len(days), rows, is_whole)
