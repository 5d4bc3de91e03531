"""The letter to a customer about their usage, from a template that users can edit. Pure: whether it is sent at once or
waits for a person is the route's mode.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from orchestration.messages import email_draft
from orchestration.messages.account_notice import LIMIT_HIT, Row, is_address
from orchestration.messages.account_wording import threshold_name
from orchestration.messages.email_draft import DraftError
from orchestration.messages.figures import one_line
from orchestration.messages.message import Message
from orchestration.messages.routes import Route

NAME = "customer_notice.txt.jinja"
AUDIENCE = "customer"
"""Of letters: by it those that wait are found when a customer unsubscribes."""
SUBJECT = "Subject: "
CHARACTERS = 200
"""Of a subject."""


def letter(
    key: str, kind: str, row: Row, route: Route, as_of: datetime, zone: ZoneInfo, folder: Path | None
) -> Message:
    """The message to a customer, by the route's template in `folder`, or else by that of Headroom.

    :raises DraftError: the template is wrong, or its text does not begin with a subject.
    """
    reply_to = one_line(row["owner"], CHARACTERS) if is_address(row["owner"]) else ""
    unsubscribe = route.options.get("unsubscribe", "") or (
        f"mailto:{quote(reply_to, safe='@')}?subject=unsubscribe" if reply_to else ""
    )
    name = route.template or NAME
    text = email_draft.rendered(
        facts(kind, row, as_of, zone, unsubscribe), folder, name, f"no letter of the route {route.name!r}", "run again"
    )
    subject, _, body = text.partition("\n")
    if not subject.startswith(SUBJECT) or not body.strip():
        raise DraftError(
            f"no letter of the route {route.name!r}: {name} has to begin with {SUBJECT!r} and a text after"
        )
    return Message(
        key=key,
        audience=AUDIENCE,
        title=one_line(subject.removeprefix(SUBJECT), CHARACTERS),
        headline="",
        body=body.strip(),
        reply_to=reply_to,
        unsubscribe=unsubscribe,
        severity=row["severity"],
    )


def facts(kind: str, row: Row, as_of: datetime, zone: ZoneInfo, unsubscribe: str) -> Mapping[str, Any]:
    """What the template may name: the template itself lists it."""
    named = email_draft.facts(row, as_of.astimezone(zone).date())
    return {
        **named,
        "threshold": threshold_name(row),
        "is_limit_hit": kind == LIMIT_HIT,
        "unsubscribe": unsubscribe,
    }
