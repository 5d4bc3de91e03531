"""Small builders of input for tests."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
ITEM = {
    "account_id": "acme",
    "name": "Acme",
    "owner": "dana.reyes@example.com",
    "severity": "warm",
    "used": "83,801",
    "quota": "100,000",
    "pct": "83.8 %",
    "hits_cap": "Tue 24 Nov",
    "projected": "145,000",
    "mrr": "45.57",
    "calls": [],
    "sparkline": "▃▃█████▃▃████▅",
}
FOOTER = ["Data through 20 Nov 07:52 UTC", "20 lines rejected"]


def make_event(account: str = "acme", at: str = "2026-11-19T12:00:00Z", **fields: Any) -> dict[str, Any]:
    """An api_call; `fields` replace or add, None removes."""
    event: dict[str, Any] = {
        "event": "api_call",
        "uuid": f"{account}-{at}",
        "timestamp": at,
        "properties": {"account_id": account, "endpoint": "/v1/search", "status": 200},
        **fields,
    }
    return {name: value for name, value in event.items() if value is not None}


def make_quota(
    account: str = "acme", quota: object = 1000, at: str = "2026-11-01T00:00:00Z", **fields: Any
) -> dict[str, Any]:
    """A quota_set event."""
    return {
        "event": "quota_set",
        "uuid": f"quota-{account}-{at}",
        "timestamp": at,
        "properties": {"account_id": account, "api_quota_monthly": quota, "plan": "growth"},
        **fields,
    }


def make_digest(items: int = 1, headline: str = "1 account crossed a threshold.", **fields: Any) -> dict[str, Any]:
    """A digest of so many equal accounts."""
    return {"date": "2026-11-20", "headline": headline, "items": [{**ITEM, **fields}] * items, "footer": FOOTER}


def land(folder: Path, name: str, *lines: object) -> Path:
    """Write a landing file; what is not a string or bytes is written as JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = [line if isinstance(line, bytes) else _text(line).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
    return path


def _text(line: object) -> str:
    return line if isinstance(line, str) else json.dumps(line)
