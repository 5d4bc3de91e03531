"""Crossings and limit hits by route: which of them are news for a route. Pure; what is said is in notice_wording.py.

Every route has a memory of its own. Of an account and meter it announces the highest threshold only, each once in a
period and under a quota. A limit hit is the crossing of 100 % of the quota, by our count, or by the word of the
customer's own system (`usage.limit_reached`), whatever comes first.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.crossings import CLOSING, CrossingKey, crossing_key, heights_of, is_slow
from orchestration.messages.routes import BY_ROUTE, MORNING, Route
from orchestration.usage.periods import digest_due_at, latest_digest_date

Row = Mapping[str, Any]
"""One of `notice_query.ROUTED_CROSSINGS`."""
CROSSING, LIMIT_HIT = BY_ROUTE
LIMIT = "100%"
"""The threshold that is a limit hit."""
HELP = "help_first"
"""The advice with which a customer whose calls fail gets a letter: it offers help, and no plan."""
_ADDRESS = re.compile(r"[^\s@<>,;?&\"]{1,64}@[^\s@<>,;?&\"]{1,190}")
_PLAIN = re.compile(r"[A-Za-z0-9._:@-]{1,64}")


class Outcome(StrEnum):
    """What a route did with a crossing, for good."""

    ANNOUNCED = "announced"
    SUPERSEDED = "superseded"
    """A higher threshold of the same account and meter has its outcome."""
    BEFORE_ROUTE = "before_route"
    """It happened before the route, or its terms, were there."""
    PERIOD_OVER = "period_over"
    INTERNAL = "internal"
    """Of one of our own accounts, or of one for tests."""
    TRIAL = "trial"
    RETRY_STORM = "retry_storm"
    """Retries of failed calls use up the quota, and the advice is another one than to help."""
    NO_ADDRESS = "no_address"
    UNSUBSCRIBED = "unsubscribed"


@dataclass(frozen=True)
class Verdict:
    """A crossing, and what became of it on one route."""

    row: Row
    kind: str
    outcome: Outcome
    to: str = ""
    """The address, where that is a column of the account."""

    @property
    def key(self) -> CrossingKey:
        return crossing_key(self.row)


@dataclass(frozen=True)
class Memory:
    """What a route did before."""

    since: datetime
    """From when on it looks."""
    decided: AbstractSet[CrossingKey]
    sent_today: Mapping[str, int]
    """Messages on the running business day, by account."""
    unsubscribed: AbstractSet[str]
    """Addresses in small letters."""


def terms(route: Route, earlier: Sequence[Route], rules: Sequence[Row]) -> str:
    """What decides which crossings a route is for, as a text. Where it changes, the route starts afresh: what was
    crossed before is old for it. `rules` are the rows of thresholds.csv, `earlier` the routes before this one.
    """
    deciding = (route, *(each for each in earlier if each.stop))
    named = [(sorted(each.takes), sorted((name, sorted(of)) for name, of in each.where.items())) for each in deciding]
    of_digest = [] if "threshold" in route.where else [row for row in rules if row["is_in_digest"]]
    columns = ("meter", "plan", "threshold_pct", "threshold_units")
    text = json.dumps([named, sorted(str([row[name] for name in columns]) for row in of_digest)])
    return hashlib.sha256(text.encode()).hexdigest()


def candidates(route: Route, earlier: Sequence[Route], rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """The crossings that the route is for, each with the kind of its message.

    A route that names thresholds gets these, whatever the pace; else those of the digest. What an earlier route that
    stops is for goes no further.
    """
    before = [each for each in earlier if each.stop]
    for row in rows:
        kind = _kind(route, row)
        if kind and not any(_kind(each, row) for each in before):
            yield kind, row


def judge(
    route: Route, found: Sequence[tuple[str, Row]], memory: Memory, as_of: datetime, zone: ZoneInfo
) -> list[Verdict]:
    """What the route does now with `found`, its candidates. What is in none of the verdicts waits: for its pace, for
    the morning, or for a day on which the account had fewer messages.
    """
    height, sent = heights_of([row for _, row in found]), Counter(memory.sent_today)
    decided: dict[tuple[Any, ...], int] = {}
    rows = {crossing_key(row): (kind, row) for kind, row in found}
    for key in memory.decided:
        decided[key[:4]] = max(height(key), decided.get(key[:4], 0))
    verdicts: list[Verdict] = []
    for _, keys in groupby(sorted(rows.keys() - memory.decided), key=lambda key: key[:3]):
        left = []
        for key in sorted(keys, key=height, reverse=True):
            kind, row = rows[key]
            if outcome := _of_past(route, row, memory, as_of):
                verdicts.append(Verdict(row, kind, outcome))
            elif height(key) < decided.get(key[:4], 0):
                verdicts.append(Verdict(row, kind, Outcome.SUPERSEDED))
            else:
                left.append((kind, row))
        if not left or not _is_due(route, [row for _, row in left], as_of, zone):
            continue
        (kind, row), *lower = left
        outcome, to = _of_account(route, row, memory)
        if outcome is Outcome.ANNOUNCED:
            if route.at_most_per_day and sent[row["account_id"]] >= route.at_most_per_day:
                continue
            sent[row["account_id"]] += 1
        verdicts.append(Verdict(row, kind, outcome, to))
        verdicts += [Verdict(each, of, Outcome.SUPERSEDED) for of, each in lower]
    return verdicts


def message_key(route: Route, verdict: Verdict) -> str:
    """Of the message, without the environment: crossing|acme|api-calls|2026-11-01T00:00:00Z|1000000|95%|team.

    It ends with the route, which decides for itself. Ids may hold anything: a long or odd one is there by its hash.
    """
    account, meter, period_start, quota, threshold = verdict.key
    period = f"{period_start:%Y-%m-%dT%H:%M:%SZ}"
    parts = [verdict.kind, _part(account), _part(meter), period, str(quota), threshold, route.name]
    return "|".join(parts)


def is_address(text: object) -> bool:
    """Whether mail can go there: one address, and nothing that could become a header."""
    return bool(_ADDRESS.fullmatch(str(text or "")))


def _kind(route: Route, row: Row) -> str:
    """Of the message that a row becomes on a route; empty where the route is not for it."""
    names_thresholds = "threshold" in route.where
    is_limit = row["threshold"] == LIMIT and route.takes_kind(LIMIT_HIT)
    if row["is_reported"] and (not is_limit or route.is_to_customers):  # customers read our count alone
        return ""
    if not is_limit and not (route.takes_kind(CROSSING) and (names_thresholds or row["is_in_digest"])):
        return ""
    if not route.keeps(row):
        return ""
    return LIMIT_HIT if is_limit else CROSSING


def _of_past(route: Route, row: Row, memory: Memory, as_of: datetime) -> Outcome | None:
    if row["crossed_at"] <= memory.since:
        return Outcome.BEFORE_ROUTE
    closing = timedelta(0) if route.is_to_customers else CLOSING
    if not row["is_current_period"] and row["period_end"] <= as_of - closing:
        return Outcome.PERIOD_OVER
    return None


def _is_due(route: Route, rows: Sequence[Row], as_of: datetime, zone: ZoneInfo) -> bool:
    """Whether the highest of `rows`, the first, is decided now."""
    if "threshold" not in route.where and is_slow(rows[0]):
        return False
    if route.when != MORNING:
        return True
    morning = digest_due_at(latest_digest_date(as_of, zone), zone)
    return any(row["crossed_at"] < morning for row in rows)


def _of_account(route: Route, row: Row, memory: Memory) -> tuple[Outcome, str]:
    """Whether its message may go out, and where to."""
    if row["is_internal"] or row["is_test"]:
        return Outcome.INTERNAL, ""
    if route.is_to_customers and row["is_trial"]:
        return Outcome.TRIAL, ""
    if route.is_to_customers and row["is_retry_storm"] and row["advice"] != HELP:
        return Outcome.RETRY_STORM, ""
    if not route.to_column:
        return Outcome.ANNOUNCED, ""
    to = str(row[route.to_column] or "").strip()
    if not to or (route.is_to_customers and not is_address(to)):
        return Outcome.NO_ADDRESS, ""
    if route.is_to_customers and to.casefold() in memory.unsubscribed:
        return Outcome.UNSUBSCRIBED, ""
    return Outcome.ANNOUNCED, to


def _part(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else f"~{hashlib.sha256(text.encode()).hexdigest()[:32]}"
