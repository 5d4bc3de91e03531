"""Which crossings are news, and in which order. Plain data in, plain data out.

Figures come ready from the marts. What is said of them is in wording.py and account_wording.py; how a channel draws
it, in `channels/`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.usage import units
from orchestration.usage.periods import digest_due_at

CrossingKey = tuple[str, str, datetime, int, str]
"""(account_id, meter, period_start, quota, threshold): what is announced at most once. The quota itself and not its
version: versions are counted anew when a quota_set comes in late, and a quota sent again must not arm again. The
threshold by its name: "80%" of the quota, or "50000" whole units."""

CLOSING = timedelta(days=1)
"""How long a period is still news after its end, for the data that comes late (docs/meaning/definitions.md#clocks)."""


class Outcome(StrEnum):
    """What the digest did with a crossing, for good."""

    ANNOUNCED = "announced"
    SUPERSEDED = "superseded"
    """A higher threshold of the same account has its verdict: announced now in its place, or before."""
    BACKFILL = "backfill"
    """It happened before the first digest's day or in a period long closed: recorded, no news."""
    RULE_CHANGED = "rule_changed"
    """It happened before the last digest, which did not have this threshold: recorded, no news. See rules.py."""


@dataclass(frozen=True)
class Verdict:
    """A crossing and what became of it."""

    key: CrossingKey
    crossed_at: datetime
    outcome: Outcome


def judge(
    crossings: Sequence[Mapping[str, Any]],
    announced: Collection[CrossingKey],
    on: date,
    zone: ZoneInfo,
    previous_cutoff: datetime | None,
) -> tuple[list[Mapping[str, Any]], list[Verdict]]:
    """What the digest of business day `on` announces, soonest cap first, and a verdict on every new crossing.

    `crossings` are rows of threshold_crossings with the account's utilization beside them, `announced` the keys that
    have a verdict already, `previous_cutoff` the moment up to which the digest before looked. What is news is told
    by that memory and not by "the last 24 hours": no gap and no repeat after a missed run or late data
    (docs/meaning/definitions.md#crossings); only a period that the digest before saw closed for longer than `CLOSING`
    is none. A crossing whose pace matters and does not use up the quota gets no verdict: it is news once that changes.
    The very first digest has no memory; its news is what happened since 8am of the day before.
    """
    first_news, heights = news_since(None, on, zone), heights_of(crossings)
    decided: dict[tuple[str, str, datetime, int], int] = {}
    for key in announced:
        decided[key[:4]] = max(heights(key), decided.get(key[:4], 0))
    news: dict[tuple[str, str, datetime], Mapping[str, Any]] = {}
    verdicts = []
    for row in sorted(crossings, key=lambda row: -heights(crossing_key(row))):
        key = crossing_key(row)
        if key in announced:
            continue
        is_superseded = key[:3] in news or heights(key) < decided.get(key[:4], 0)
        if is_slow(row) and not is_superseded:
            continue
        if (
            row["crossed_at"] < first_news
            if previous_cutoff is None
            else row["period_end"] <= previous_cutoff - CLOSING
        ):
            outcome = Outcome.BACKFILL
        elif is_superseded:
            outcome = Outcome.SUPERSEDED
        else:
            outcome = Outcome.ANNOUNCED
            news[key[:3]] = row
        verdicts.append(Verdict(key, row["crossed_at"], outcome))
    return sorted(news.values(), key=urgency), verdicts


def is_slow(row: Mapping[str, Any]) -> bool:
    """Whether the pace decides if the crossing is news, and the quota lasts the period, or has lasted it.

    Without a forecast it is news: nobody knows that the quota lasts.
    """
    if not row.get("pace_matters"):
        return False
    return row["hits_cap_in_period"] is False if row["is_current_period"] else bool(row["used"] < row["quota"])


def withdrawn(
    told: Collection[CrossingKey], crossings: Sequence[Mapping[str, Any]], accounts: Sequence[Mapping[str, Any]]
) -> list[CrossingKey]:
    """Which of the crossings `told` do not stand any more, because the running period's usage was corrected.

    `crossings` are those that judge was given; `accounts` have period_start, quota and used of the accounts' running
    periods, and the unit of their meters. A crossing of another quota than the one in force was true in its time, and
    so is one of a closed period.
    """
    stand = {crossing_key(row) for row in crossings}
    used = {(row["account_id"], row["meter"], row["period_start"], row["quota"]): row["used"] for row in accounts}
    heights = heights_of(accounts)
    return sorted(key for key in told if key not in stand and key[:4] in used and 100 * used[key[:4]] < heights(key))


def news_since(previous_cutoff: datetime | None, on: date, zone: ZoneInfo) -> datetime:
    """From when on the digest of `on` tells what happened: from where the one before ended."""
    return previous_cutoff or digest_due_at(on - timedelta(days=1), zone)


TABLE = [
    *("account_id", "account_name", "owner", "csm", "plan", "mrr", "renewal_on", "severity", "meter", "unit"),
    *("used_mtd", "quota", "pct_of_cap", "projected_eom", "hits_cap_on", "hits_cap_in_period"),
    *("period_start", "period_end", "as_of"),
]
"""Columns of utilization_mtd in the digest's file."""


def table(utilization: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a digest's file lists of the accounts that have reached a threshold, in the order of `utilization`."""
    return [{name: row[name] for name in TABLE} for row in utilization if not (row["is_internal"] or row["is_test"])]


def crossing_key(row: Mapping[str, Any]) -> CrossingKey:
    """What the crossing is announced by."""
    return (row["account_id"], row["meter"], row["period_start"], row["quota"], row["threshold"])


def heights_of(rows: Sequence[Mapping[str, Any]]) -> Callable[[CrossingKey], int]:
    """How high a threshold is, by its key, in hundredths of a step of its meter, whose unit `rows` have. So of two
    thresholds of a small quota that one call reaches the larger is higher.
    """
    steps = {row["meter"]: units.steps_of_one(row["unit"]) for row in rows}

    def height(key: CrossingKey) -> int:
        _, meter, _, quota, threshold = key
        if threshold.endswith("%"):
            return quota * int(threshold[:-1])
        return 100 * int(threshold) * steps.get(meter, 1)

    return height


def urgency(row: Mapping[str, Any]) -> tuple[object, ...]:
    """What rows are sorted by: the soonest cap, of one day the hard ones, then the larger revenue, then the fuller.

    The id makes two runs print the same order. The forecast is the running period's and says nothing of a crossing in
    the one before.
    """
    is_ahead = row.get("is_current_period", True) and row["hits_cap_in_period"]
    return (
        row["hits_cap_on"] if is_ahead and row["hits_cap_on"] else date.max,
        row["limit_kind"] != "hard",
        -(row["mrr"] or Decimal(0)),
        -row["pct_of_cap"],
        row["account_id"],
        row["meter"],
    )
