"""The part of `headroom doctor` that looks at messages: what waits, and what people can do about it."""

from collections.abc import Iterator

from orchestration.ledger import check, exits
from orchestration.ledger.ledger import Ledger
from orchestration.messages import undelivered
from orchestration.settings import Settings
from orchestration.usage.findings import Finding

LISTED = 10


def examine(config: Settings, is_ledger_usable: bool) -> Iterator[Finding]:
    """A finding for each message that waits, and one where failed runs are reported to the sales channel."""
    if config.slack_bot_token and config.slack_channel and not config.slack_channel_data:
        words = "failed runs are reported in the sales channel: set HEADROOM_SLACK_CHANNEL_DATA"
        yield Finding("alerts", words, is_needed=False)
    if not is_ledger_usable or not check.exists(config.ledger_url):
        return
    ledger = Ledger(config.ledger_url)
    stuck = exits.stuck(ledger, f"{config.env}|", config.now())
    ledger.close()
    for delivery in stuck[:LISTED]:
        yield Finding("message", undelivered.sentence(delivery, config.zone), is_needed=False)
    if len(stuck) > LISTED:
        yield Finding("messages", f"{len(stuck) - LISTED:,} more wait", is_needed=False)
    if stuck:
        yield Finding(f"messages: {undelivered.EXITS}")
