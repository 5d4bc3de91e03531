"""A case: what a producer writes, and what becomes of it. Each is a test, and an example in docs/data-in/events.md."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
"""When it arrives."""


def as_it_is(data: bytes) -> bytes:
    return data


@dataclass(frozen=True)
class Case:
    """A line, file or request. `reads` is what `said` says of its events, in their order."""

    name: str
    example: str | int
    reads: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    """Of lines that are in quarantine."""
    note: str = ""


@dataclass(frozen=True)
class FileCase(Case):
    """A landing file."""

    file: str = "events.ndjson"
    stored: Callable[[bytes], bytes] = as_it_is
    """How the text becomes the bytes of the file."""
    refused: str = ""
    """Words of the reason for which the whole file is not read."""


@dataclass(frozen=True)
class RequestCase(Case):
    """A request to the collector. The key of the tests stands for <key>."""

    path: str = "/v1/analytics/my-api/"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Authorization": "Bearer <key>"})
    status: int = 200
    answer: str = ""


def line(**fields: Any) -> str:
    """An event in compact JSON."""
    return json.dumps(fields, ensure_ascii=False)


def call(account: str = "acme", **fields: Any) -> str:
    return line(event="api_call", **fields, properties={"account_id": account})


def said(event: Mapping[str, Any]) -> str:
    """What an event of the lake says."""
    at = event["event_at"]
    words = [f"{event['event_name']} of {event['account_id']}", _time(at)]
    if event.get("own_id"):
        words.append(f"id {event['own_id']}")
    if event.get("source"):
        words.append(f"source {event['source']}")
    if event["event_name"] == "quota_set":
        words.append("unlimited" if event["quota"] is None else f"quota {event['quota']}")
    if (event.get("sample_weight") or 1) > 1:
        words.append(f"for {event['sample_weight']} calls")
    words += [f"{name} {event[name]}" for name in ("endpoint", "status") if event.get(name) is not None]
    return ", ".join(words)


def _time(at: datetime) -> str:
    if at == NOW:
        return "at its arrival"
    fraction = f"{at:.%f}".rstrip("0").rstrip(".")
    return f"{at:%Y-%m-%d %H:%M:%S}{fraction}"
