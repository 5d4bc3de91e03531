"""A message as an event for programs: plain data, and nothing that is drawn.

    {
      "type": "headroom.digest",              headroom. and the kind of message
      "version": 1,                           of this form; a new field does not change it
      "timestamp": "2026-11-20T08:00:00Z",    when it was decided, the same at every attempt
      "delivery": "production|digest|2026-11-20|crm",
      "data": {
        "environment", "key", "audience", "severity", "is_test",
        "title", "headline", "notification", "body", "footer",
        "sections": [{"heading", "lines": [{"name", "url", "text", "owner", "owner_name", "account_id", "meter"}]}],
        "digest": …,                          only of a digest: groups, items with figures and advice, see digest.py
        "charts": [{"name", "unit", "used", "quota", "projected", …}],
        "table": […], "table_rows": 12        as many rows as there is room for, and how many there are
        "reply_to", "unsubscribe"             where a customer reads it
      }
    }

A whole number that JSON readers cut, beyond 2^53 - 1 on either side, is a text (RFC 7493, 2.2); so is a decimal number,
and a date or moment by ISO 8601. What is empty is an empty text or list, or null.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from orchestration.ledger.ledger import Delivery
from orchestration.messages.message import Message
from orchestration.messages.vendor import Drawn

VERSION = 1
LARGEST = 2**53 - 1
MOST_BYTES = 900_000
"""Of an event: a web server takes 1 MB where nobody set another limit (nginx's client_max_body_size)."""


def draw(message: Message, env: str, mentions: Mapping[str, str]) -> Drawn:
    """`type` and `data` of the event, without replies. Nobody is mentioned: owners have their addresses."""
    del mentions
    data: dict[str, Any] = {
        "environment": env,
        "key": message.key,
        "audience": message.audience,
        "severity": message.severity,
        "is_test": message.is_test,
        "title": message.title,
        "headline": message.headline,
        "notification": message.notification,
        "body": message.body,
        "sections": [
            {"heading": part.heading, "lines": [asdict(line) for line in part.lines]} for part in message.sections
        ],
        "footer": list(message.footer),
        "charts": message.charts,
        "digest": message.digest,
        "table_rows": len(message.table),
        "table": [],
        "reply_to": message.reply_to,
        "unsubscribe": message.unsubscribe,
    }
    plain = _plain(data)
    kind = message.key.partition("|")[0]
    plain["table"] = _table(message.table, len(_json(plain)))
    return {"type": f"headroom.{kind}", "data": plain}, []


def body(delivery: Delivery) -> str:
    """The event as JSON; the same at every attempt."""
    return _json(
        {
            "type": delivery.payload["type"],
            "version": VERSION,
            "timestamp": f"{delivery.created_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "delivery": delivery.mark,
            "data": delivery.payload["data"],
        }
    )


def _table(rows: Sequence[Mapping[str, Any]], taken: int) -> list[Any]:
    """As many rows as there is room for."""
    found, room = [], MOST_BYTES - taken
    for row in rows:
        plain = _plain(row)
        room -= len(_json(plain)) + 1
        if room < 0:
            break
        found.append(plain)
    return found


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """As JSON that every reader understands alike."""
    match value:
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case str():
            return value.encode("utf-8", "replace").decode()
        case bool() | None:
            return value
        case int():
            return value if -LARGEST <= value <= LARGEST else str(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return f"{value:f}"
        case datetime() | date():
            return value.isoformat()
        case Sequence() | set() | frozenset():
            return [_plain(each) for each in value]
        case _:
            return str(value)
