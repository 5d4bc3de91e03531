"""The snapshot of limits, `limits.json`: what Headroom knows of each account, as one immutable object.

It is read by the version that the gate knows. A file that is damaged, or that a newer Headroom wrote in another
version, is refused as a whole. Getting the file is in reader.py, deciding by it in policy.py.
"""

import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from headroom_gate.json_rows import Members
from headroom_gate.rates import Rate, per_second
from headroom_gate.templates import Templates

VERSION = 1
_COUNT = (int, type(None))
_ALWAYS = float("-inf"), float("inf")


class SnapshotError(ValueError):
    """The snapshot cannot be read. The message says why."""


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
    _accounts: Mapping[str, tuple[Any, ...]]
    _subjects: Mapping[str, tuple[tuple[str, float, float], ...]]

    @property
    def accounts(self) -> int:
        """How many there are."""
        return len(self._accounts)

    def account_of(self, subject: str, now: float) -> str:
        """The account that a subject belongs to at that time: itself where subjects.csv does not say."""
        for account_id, start, until in self._subjects.get(subject, ()):
            if start <= now < until:
                return account_id
        return subject

    def limit_of(self, account_id: str, now: float) -> Limit | None:
        """Where the account stands in the period at `now`; None if the snapshot does not know it."""
        row = self._accounts.get(account_id)
        if row is None:
            return None
        plan, kind, quota, used, period_start, resets_at = row
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


def parse(raw: bytes | str, meter: str | None = None) -> Snapshot:
    """The snapshot of a meter; the main one if none is named. Its `accounts` come after what explains them.

    :raises SnapshotError: damaged, of another version, or without this meter.
    """
    try:
        text, data, name = raw if isinstance(raw, str) else raw.decode(), dict[str, Any](), ""
        for member, value in Members(text, frozenset({"accounts", "subjects"})):
            if member == "accounts":
                _check_version(data)
                name = _meter(data["meters"], meter)
                data[member] = _accounts(data["columns"], value, name)
            else:
                data[member] = _subjects(value) if member == "subjects" else value
        _check_version(data)
        about = data["meters"][name]
        weights = _weights(about["weights"])
        published_at = int(_epoch(data["published_at"]))
        return Snapshot(
            published_at=published_at,
            meter=name,
            unit=str(about["unit"]),
            events=tuple(about["events"]),
            usage_url=data.get("usage_url"),
            templates=Templates(weights),
            # a producer whose clock is ahead may have sent events of the future
            _through=min(int(_epoch(data["data_through"])), published_at) if data["data_through"] else None,
            _weights=weights,
            _rates={
                plan: (_rate(row, "rate_limit_per_second"), _rate(row, "throttle_per_second"))
                for plan, row in data["plans"].items()
            },
            _accounts=data["accounts"],
            _subjects=data["subjects"],
        )
    except SnapshotError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise SnapshotError(f"limits.json cannot be read: {error!r}") from error


def _check_version(data: Mapping[str, Any]) -> None:
    """First of all: of another version nothing else is known."""
    if data["version"] != VERSION:
        raise SnapshotError(f"limits.json has version {data['version']!r}. This gate reads version {VERSION} alone")


def _meter(meters: Mapping[str, Mapping[str, Any]], wanted: str | None) -> str:
    name = wanted or next((each for each, about in meters.items() if about["is_main"]), "main")
    if name not in meters:
        raise SnapshotError(f"limits.json has no meter {name} that a gate can count")
    return name


def _accounts(columns: list[str], rows: Iterable[list[Any]], meter: str) -> dict[str, tuple[Any, ...]]:
    names = ("meter", "account_id", "plan", "limit_kind", "quota", "used", "period_start", "resets_at")
    cells, found = itemgetter(*(columns.index(name) for name in names)), dict[str, tuple[Any, ...]]()
    for row in rows:
        of_meter, account_id, plan, kind, quota, used, period_start, resets_at = cells(row)
        if of_meter != meter:
            continue
        if not (type(used) is type(period_start) is int and type(quota) in _COUNT and type(resets_at) in _COUNT):
            raise SnapshotError(f"limits.json has a number that is not whole in the row of {account_id!r}")
        # interned, because a million accounts have a handful of plans
        plan, kind = plan and sys.intern(plan), sys.intern(kind or "soft")
        found[account_id] = plan, kind, quota, used, period_start, resets_at
    return found


def _subjects(rows: Iterable[list[Any]]) -> dict[str, tuple[tuple[str, float, float], ...]]:
    found: dict[str, tuple[tuple[str, float, float], ...]] = {}
    for subject, account_id, start, until in rows:
        span = _ALWAYS[0] if start is None else start, _ALWAYS[1] if until is None else until
        found[subject] = (*found.get(subject, ()), (account_id, *span))
    return found


def _weights(rows: Iterable[list[str]]) -> dict[str, tuple[list[float], list[int]]]:
    found: dict[str, tuple[list[float], list[int]]] = {}
    for endpoint, day, weight in sorted(rows):
        since, weights = found.setdefault(endpoint, ([], []))
        since.append(_epoch(day))
        weights.append(int(weight))
    return found


def _rate(row: Mapping[str, Any], name: str) -> Rate | None:
    return None if row.get(name) is None else per_second(str(row[name]))


def _epoch(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
