"""What finance sees of the usage that goes to Stripe: the ledger's copy in the lake, why an hour was billed as it was,
and statements of a customer's billing period. Reads the live ledger and the published copy; asks Stripe nothing.
"""

import uuid
from dataclasses import dataclass

from orchestration.billing import meter_ledger
from orchestration.settings import Settings
from orchestration.storage import meter_reports
from orchestration.storage.lake import Lake
from orchestration.storage.meter_reports import METER_REPORT_COLUMNS


@dataclass(frozen=True)
class Copied:
    """What a copy of the ledger's reports wrote."""

    days: int
    rows: int
    is_whole: bool
    """Every day, for the copy that was there was none of this ledger's."""


def copy_ledger(config: Settings) -> Copied:
    """Bring the lake's copy of the meter reports up to the ledger: the UTC days that changed since the last copy."""
    ledger, lake = meter_ledger(config), Lake(config.lake)
    with lake.writing():
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
    return Copied(len(days), rows, is_whole)
