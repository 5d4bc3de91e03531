"""The policy of a plan: what becomes of one call. Pure: no clock, no I/O, no counter.

| kind | below the quota | past the quota |
|---|---|---|
| hard | allowed | refused until the period ends |
| soft | allowed | allowed, and the answer says how far over |
| throttle | allowed | allowed at the plan's throttle, refused when faster |
| monitor | allowed | allowed; the gate says nothing |

The plan's rate holds for all but `monitor`. A kind that this gate does not know is soft: it never refuses by the quota.
"""

from enum import IntEnum
from typing import NamedTuple

from headroom_gate.rates import Rate, seconds_until
from headroom_gate.snapshot import Limit, Snapshot

RETRY_WITHOUT_SNAPSHOT_SECONDS = 30


class Outcome(IntEnum):
    """What a counter found. The numbers are those of counting.lua."""

    ALLOWED = 0
    QUOTA = 1
    RATE = 2


class Question(NamedTuple):
    """What a counter decides at one moment, and adds up if the answer is yes."""

    limit: Limit
    cost: int
    published_at: int
    rate: Rate | None
    throttle: Rate | None
    """In place of `rate` past the quota."""
    is_hard: bool

    def is_over(self, spent: int) -> bool:
        """Whether the call would go past the quota, if `spent` units are used. A free call never does."""
        return self.limit.quota is not None and self.cost > 0 and spent + self.cost > self.limit.quota

    def rate_at(self, spent: int) -> Rate | None:
        return self.throttle if self.throttle and self.is_over(spent) else self.rate


class Answer(NamedTuple):
    """Of a counter."""

    outcome: Outcome
    spent: int
    """Units of the period, this call's among them if it is allowed."""
    is_first: bool = False
    """Whether it is the first call of the account's period that the quota refuses."""


class Decision(NamedTuple):
    """What becomes of a call, and what its answer says."""

    is_allowed: bool
    reason: str
    """ok, over, quota or rate; or why nothing was counted: missing, stale, unknown, unlimited, monitor, error."""
    status: int = 200
    retry_after_seconds: int = 0
    cost: int = 1
    question: Question | None = None
    spent: int = 0
    rate: Rate | None = None
    """That was exceeded."""
    is_first: bool = False


def missing(*, is_closed: bool) -> Decision:
    """Without a snapshot."""
    if is_closed:
        return Decision(False, "missing", 503, RETRY_WITHOUT_SNAPSHOT_SECONDS)
    return Decision(True, "missing")


def question(snapshot: Snapshot, account_id: str, cost: int, now: float) -> Question | Decision:
    """What to count for a call; a decision where nothing needs to be counted."""
    limit = snapshot.limit_of(account_id, now)
    if limit is None:
        return Decision(True, "unknown", cost=cost)
    if limit.kind == "monitor":
        return Decision(True, "monitor", cost=cost)
    rate, throttle = snapshot.rates_of(limit.plan)
    if limit.quota is None and rate is None:
        return Decision(True, "unlimited", cost=cost)
    is_slowed = limit.kind == "throttle"
    return Question(
        limit, cost, snapshot.published_at, rate, (throttle or rate) if is_slowed else None, limit.kind == "hard"
    )


def settle(asked: Question, answer: Answer, now: float) -> Decision:
    """The decision by what the counter found."""
    if answer.outcome is Outcome.ALLOWED:
        quota = asked.limit.quota
        reason = "over" if quota is not None and answer.spent > quota else "ok"
        return Decision(True, reason, cost=asked.cost, question=asked, spent=answer.spent)
    if answer.outcome is Outcome.QUOTA:
        wait = seconds_until(asked.limit.resets_at, now)
        return Decision(False, "quota", 429, wait, asked.cost, asked, answer.spent, is_first=answer.is_first)
    rate = asked.rate_at(answer.spent)
    return Decision(False, "rate", 429, rate.window_seconds if rate else 1, asked.cost, asked, answer.spent, rate)
