"""The part of `headroom doctor` that looks at Dagster's runs: those that hang, and what has not come in time."""

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from orchestration.cli import run
from orchestration.ledger import check
from orchestration.ledger.ledger import Ledger
from orchestration.settings import Settings
from orchestration.usage.findings import Finding

LISTED = 5


def examine(config: Settings) -> Iterator[Finding]:
    """Findings of Dagster's runs; none where its storage is not there or cannot be read, which is said elsewhere."""
    if config.heartbeat_url:
        host = urlsplit(config.heartbeat_url.get_secret_value()).hostname
        yield Finding(f"heartbeat: {host} gets a request after each successful hourly run and digest")
    if not (config.dagster_home / "dagster.yaml").exists():
        return
    try:
        findings = list(_findings(config))
    except Exception:  # noqa: BLE001 - storage of any kind may fail in any way, and the finding of the daemon says so
        return
    yield from findings


def _findings(config: Settings) -> Iterator[Finding]:
    from orchestration.defs import interrupted, overdue

    now = datetime.now(UTC)  # Dagster's own times are real ones
    with run.dagster_instance() as instance:
        for each in interrupted.interrupted(config.runs, instance)[:LISTED]:
            words = "was killed and still blocks the queue: close it with `headroom ui` or `headroom run`"
            yield Finding(f"run {each.run_id[:8]} of {each.job_name}", words, is_needed=False)
        for record in interrupted.too_old(instance, now)[:LISTED]:
            began = record.start_time or record.create_timestamp.timestamp()
            since = f"{datetime.fromtimestamp(began, UTC):%d %b %H:%M} UTC"
            words = f"has run since {since}, longer than any run should: end it in Dagster's UI"
            yield Finding(f"run {record.dagster_run.run_id[:8]} of {record.dagster_run.job_name}", words)
        if config.is_production and check.exists(config.ledger_url):
            ledger = Ledger(config.ledger_url)
            late = overdue.find(config, ledger, instance, now)
            ledger.close()
            for missing in late:
                yield Finding(missing.subject, missing.sentence)
