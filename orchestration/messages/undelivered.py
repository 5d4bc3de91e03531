"""What waits in the ledger, in sentences: since when, why, and what people can do about it. The same in Slack's morning
line, in `headroom doctor` and in `headroom deliveries`.
"""

from zoneinfo import ZoneInfo

from orchestration.ledger.ledger import Delivery, State

EXITS = (
    "`headroom deliveries resend KEY` sends a message to the channel that is set now, `give-up KEY` drops it, and"
    " `settle KEY` records that it arrived. Each needs a --note."
)


def sentence(delivery: Delivery, zone: ZoneInfo) -> str:
    """Which message waits, since when, and why."""
    since = (delivery.attempted_at or delivery.created_at).astimezone(zone)
    at, error = f"{since:%a %d %b %H:%M %Z}", _ended(delivery.error or "")
    words = {
        State.DRAFT: f"a draft since {at}: `headroom deliveries send` releases it.",
        State.PREPARED: f"not sent since {at}.",
        State.SENDING: f"in doubt since {at}: it may have arrived.",
        State.FAILED: f"refused at {at}.",
        State.PREVIEWED: f"not sent since {at}: Slack is not set up.",
        State.SENT: f"sent at {at}.",
        State.GIVEN_UP: f"given up at {at}.",
    }
    return " ".join(filter(None, [f"{delivery.key}: {words[delivery.state]}", error]))


def _ended(error: str) -> str:
    """With a full stop, and beginning as a sentence does."""
    text = error.strip().rstrip(".")
    return f"{text[0].upper()}{text[1:]}." if text else ""
