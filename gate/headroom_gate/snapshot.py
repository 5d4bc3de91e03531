"""The snapshot of limits: what Headroom knows of each account, as one immutable object.

How it is read from `limits.json` is in parsing.py, how that gets here in reader.py, deciding by it in policy.py.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from headroom_gate.rates import Rate
from headroom_gate.templates import Templates

Terms = tuple[str | None, str, int | None, int, int | None]
"""Plan, kind, quota, start and end of a period: many accounts have the same, which is kept once."""
Spans = tuple[tuple[str, float, float], ...]
"""Accounts, each from when until when in seconds since 1970."""


class Limit(NamedTuple):
    """Where an account stands in its usage period. Counts are whole units of the meter, times seconds since 1970."""

    account_id: str
    plan: str | None
    kind: str
    """hard, soft, throttle or monitor."""
    quota: int | None
    """None: unlimited, or not known."""
    used: int
    """Units up to and including `through`."""
    through: int
    period_start: int
    resets_at: int | None
    """None: the period has no end."""

    def at(self, now: float) -> "Limit":
        """The same limit in the period that runs at `now`: nothing of a later period is used before a snapshot says so.

        A later period is taken to be as long as the one of the snapshot.
        """
        if self.resets_at is None or now < self.resets_at or self.resets_at <= self.period_start:
            return self
        length = self.resets_at - self.period_start
        start = self.resets_at + int((now - self.resets_at) // length) * length
        return Limit(self.account_id, self.plan, self.kind, self.quota, 0, start - 1, start, start + length)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All limits of one meter."""

    published_at: int
    meter: str
    unit: str
    events: tuple[str, ...]
    usage_url: str | None
    templates: Templates
    _through: int | None
    _weights: Mapping[str, tuple[list[float], list[int]]]
    _rates: Mapping[str, tuple[Rate | None, Rate | None]]
    _accounts: Mapping[str, tuple[int, Terms]]
    _subjects: Mapping[str, str | Spans]
    """The account that a subject always belongs to, or accounts with their times."""

    @property
    def accounts(self) -> int:
        """How many there are."""
        return len(self._accounts)

    def account_of(self, subject: str, now: float) -> str:
        """The account that a subject belongs to at that time: itself where subjects.csv does not say."""
        found = self._subjects.get(subject, subject)
        if isinstance(found, str):
            return found
        return next((account_id for account_id, start, until in found if start <= now < until), subject)

    def limit_of(self, account_id: str, now: float) -> Limit | None:
        """Where the account stands in the period at `now`; None if the snapshot does not know it."""
        row = self._accounts.get(account_id)
        if row is None:
            return None
        used, (plan, kind, quota, period_start, resets_at) = row
        through = period_start - 1 if self._through is None else self._through
        return Limit(account_id, plan, kind, quota, used, through, period_start, resets_at).at(now)

    def rates_of(self, plan: str | None) -> tuple[Rate | None, Rate | None]:
        """The plan's rate, and the one past the quota of a plan that throttles."""
        return self._rates.get(plan or "", (None, None))

    def cost(self, endpoint: str | None, now: float) -> int:
        """Units of a call: the weight of its route template on this UTC day, or 1."""
        since, weights = self._weights.get(endpoint or "", ((), ()))
        place = bisect_right(since, now)
        return weights[place - 1] if place else 1
