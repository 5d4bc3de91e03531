"""The digests as they were sent, where they went, and what became of the accounts in them."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from orchestration.ledger import announcements, decided
from orchestration.ledger.ledger import State
from orchestration.messages.digest import digest_key
from orchestration.messages.message import Message, of_json
from orchestration.pages.asking import Asked, NotFoundError, Page

DIGESTS = 100
STATES = {
    State.DRAFT: "a draft",
    State.PREPARED: "waits",
    State.SENDING: "in doubt",
    State.SENT: "sent",
    State.PREVIEWED: "previewed, not sent",
    State.FAILED: "refused",
    State.GIVEN_UP: "given up",
}
"""Where a delivery stands, in words."""


def listing(asked: Asked) -> Page:
    """The newest digests, one for each business day."""
    found = announcements.digests(asked.ledger, asked.settings.env, DIGESTS)
    return Page("digests", "Digests", {"digests": found, "states": STATES})


def page(asked: Asked, on: str) -> Page:
    """The digest of a business day, ISO 8601, with the words and figures that it had then.

    :raises NotFoundError: there is none of that day.
    """
    try:
        key = digest_key(asked.settings.env, date.fromisoformat(on).isoformat())
    except ValueError:
        raise NotFoundError("A digest has a date, such as 2026-11-20.") from None
    with asked.ledger.reading() as connection:
        found = decided.find(connection, key)
    if found is None:
        raise NotFoundError(f"There is no digest of {on[:10]}.")
    return Page(
        "digest",
        f"Digest of {on[:10]}",
        {
            "message": _message(found.content),
            "decided_at": found.decided_at,
            "ways": announcements.ways_of(asked.ledger, key),
            "answers": announcements.answers_to(asked.ledger, key),
            "states": STATES,
        },
    )


def _message(content: Mapping[str, Any]) -> Message:
    """Versions before routes kept what Slack got: of that, the text that a notification shows."""
    if "sections" in content:
        return of_json(content)
    return Message(key="", audience="", title="Digest", headline=str(content.get("text", "")))
