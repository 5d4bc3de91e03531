"""The part of `headroom doctor` that looks at what grows: landed files that were read, and Dagster's history.

What grows and what goes is in one table, in docs/operate/deploy.md.
"""

from collections.abc import Iterator

from orchestration.ledger import check
from orchestration.ledger.landed import LandedFiles
from orchestration.ledger.ledger import Ledger
from orchestration.settings import Settings
from orchestration.usage.findings import Finding
from orchestration.usage.formatting import counted

MANY_FILES = 100_000
"""To look for new files among them takes a second, every 30 seconds."""
MANY_BYTES = 10 * 2**30
HISTORY_BYTES = 8 * 2**30
"""All that is kept of Dagster's runs, 1,500 of them at 2 MB, more than twice."""


def examine(config: Settings, is_ledger_usable: bool) -> Iterator[Finding]:
    """Findings of what grows; none of what is not there yet."""
    if is_ledger_usable and check.exists(config.ledger_url):
        ledger = Ledger(config.ledger_url)
        files, size = LandedFiles(ledger).read_in_folder()
        ledger.close()
        if files:
            yield _landing(config, files, size)
    history = config.dagster_home / "history"
    size = sum(path.stat().st_size for path in history.rglob("*.db")) if history.is_dir() else 0
    if size >= HISTORY_BYTES:
        words = (
            "`history_sensor` removes 200 old runs an hour. Check in the UI, under Automation, that it is on. To shrink"
            " index.db, run `VACUUM` while no job runs"
        )
        yield Finding(f"Dagster's history: {size / 2**30:,.1f} GiB in {history}", words, is_needed=False)


def _landing(config: Settings, files: int, size: int) -> Finding:
    subject = f"landing: {counted(files, 'file')} read, {size / 2**20:,.0f} MiB"
    if config.landing_keep_days:
        return Finding(f"{subject}; runs delete each {counted(config.landing_keep_days, 'day')} after reading it")
    if files < MANY_FILES and size < MANY_BYTES:
        return Finding(subject)
    words = "set HEADROOM_LANDING_KEEP_DAYS to 2 or more, so that runs delete files that are in the lake"
    return Finding(subject, words, is_needed=False)
