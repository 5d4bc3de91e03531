"""What a driver reads from its standard input: where to send which events."""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

INPUT: dict[str, Any] = json.load(sys.stdin)
URL: str = INPUT["url"]
KEY: str = INPUT["key"]
EVENTS: list[dict[str, str]] = INPUT["events"]
OPTIONS = frozenset(sys.argv[1:])


def moment(event: dict[str, str]) -> datetime:
    """When it happened."""
    return datetime.fromisoformat(event["time"])


def insist(send: Callable[[], object]) -> None:
    """Send, and once more if that fails: what an application does whose client does not retry."""
    try:
        send()
    except Exception:  # noqa: BLE001 - each library has its own
        send()
