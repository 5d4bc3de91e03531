"""Builders: a snapshot with one account unless a test says otherwise, and the parts of a gate around it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headroom_gate import Gate, Limits
from headroom_gate.policy import Question
from headroom_gate.rates import Rate
from headroom_gate.snapshot import Limit

START = 4_005_158_400
"""2096-12-01 00:00 UTC: of the period in the tests, which Redis must not take for one that is over."""
END = 4_007_836_800
NOW = START + 10 * 86_400
COLUMNS = ["account_id", "meter", "plan", "limit_kind", "quota", "used", "period_start", "resets_at"]


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Captured(list[dict[str, Any]]):
    """Events as HeadroomEvents takes them."""

    dropped = 0

    def capture(self, account_id: str, event: str = "api_call", **properties: object) -> None:
        self.append({"account_id": account_id, "event": event, **properties})

    def named(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self if each["event"] == event]


def iso(epoch: float) -> str:
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%SZ}"


def make_account(
    account_id: str = "acme", kind: str | None = "hard", quota: int | None = 1000, used: int = 0, plan: str = "team"
) -> list[Any]:
    return [account_id, "api-calls", plan, kind, quota, used, START, END]


def make_snapshot(*accounts: list[Any], published_at: float = NOW, through: float | None = None, **changed: Any) -> str:
    """`limits.json`; `through` is a minute before its publication."""
    meter = {
        "unit": "calls",
        "events": ["api_call", "api_request"],
        "is_main": True,
        "weights": [["/v1/search", "2026-01-01", "5"], ["/v1/free", "2026-01-01", "0"]],
    }
    snapshot = {
        "version": 1,
        "published_at": iso(published_at),
        "data_through": iso(published_at - 60 if through is None else through),
        "env": "test",
        "usage_url": "https://headroom.example.com/u/",
        "meters": {"api-calls": meter},
        "plans": {"team": {}, "rated": {"rate_limit_per_second": "2"}, "slow": {"throttle_per_second": "1"}},
        "columns": COLUMNS,
        "accounts": list(accounts) or [make_account()],
        "subjects": [],
    }
    return json.dumps(snapshot | changed)


def make_limits(folder: Path, snapshot: str, clock: Clock | None = None) -> Limits:
    """Read once; no thread follows the file."""
    path = folder / "limits.json"
    path.write_text(snapshot)
    limits = Limits(path, clock=clock or Clock())
    limits.refresh()
    assert limits.problem == ""
    limits.close()
    return limits


def make_gate(folder: Path, *accounts: list[Any], clock: Clock | None = None, **options: Any) -> Gate:
    clock = clock or Clock()
    return Gate(make_limits(folder, make_snapshot(*accounts), clock), clock=clock, **options)


def publish(gate: Gate, folder: Path, snapshot: str) -> None:
    """A newer snapshot in place of the one before, as Headroom writes it."""
    new = folder / "limits.new"
    new.write_text(snapshot)
    new.replace(folder / "limits.json")
    assert gate.limits.refresh(), gate.limits.problem


def make_question(
    quota: int | None = 10,
    used: int = 0,
    cost: int = 1,
    *,
    kind: str = "hard",
    published_at: int = NOW,
    through: int = NOW - 60,
    account_id: str = "acme",
    rate: Rate | None = None,
    throttle: Rate | None = None,
) -> Question:
    limit = Limit(account_id, "team", kind, quota, used, through, START, END)
    return Question(limit, cost, published_at, rate, throttle, kind == "hard")
