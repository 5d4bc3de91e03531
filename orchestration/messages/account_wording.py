"""The words about one account that all messages share: its name, its threshold, and when its quota is used up.

`row` is one of `queries.digest_accounts`. Figures come ready from there and are only put into words; what is not known
is left out. What is ahead of an account is in outlook.py; which accounts a digest names, in wording.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.figures import one_line
from orchestration.messages.message import account_name
from orchestration.usage.formatting import counted
from orchestration.usage.units import METER

Row = Mapping[str, Any]


@dataclass(frozen=True)
class DigestDay:
    """The day of a digest, and what came before it."""

    on: date
    zone: ZoneInfo
    since: datetime
    """Up to where the digest before looked."""
    is_first: bool = False

    def moment(self, at: datetime) -> str:
        """A recent moment as people say it on that day: today 07:26, Wed 23:59, 12 Oct 12:00."""
        local = at.astimezone(self.zone)
        days = {self.on: "today", self.on - timedelta(days=1): "yesterday"}
        day = f"{local:%a}" if timedelta(0) < self.on - local.date() < timedelta(days=7) else f"{local:%d %b}"
        return f"{days.get(local.date(), day)} {local:%H:%M}"

    def day(self, at: datetime) -> str:
        return f"{at.astimezone(self.zone):%d %b}"


def name_of(row: Row) -> str:
    return account_name(row) + ("" if row["meter"] == METER else f" ({row['meter']})")


def endpoints_note(endpoints: Sequence[Row]) -> str:
    """The endpoints of an account that are called most, with their share, cut off; `endpoints` are its rows of
    warehouse.TOP_ENDPOINTS.
    """
    lines = []
    for row in endpoints:
        name, share = one_line(row["endpoint"], 200) or "without an endpoint", row["calls"] * 100 // row["all_calls"]
        lines.append(f"{name}: {counted(row['calls'], 'call')}, {share} %")
    return "\n".join(lines)


def hits_cap_is_ahead(row: Row) -> bool:
    return bool(row["hits_cap_in_period"]) and row["used_mtd"] < row["quota"]


def when(row: Row, on: date) -> str:
    """hits_cap() of the running period."""
    return hits_cap({**row, "used": row["used_mtd"]}, on)


def threshold_name(row: Mapping[str, Any]) -> str:
    """The threshold of a crossing for people: 80 %, or 50,000 calls."""
    threshold = str(row["threshold"])
    return f"{threshold[:-1]} %" if threshold.endswith("%") else f"{int(threshold):,} {row['unit']}"


def hits_cap(row: Mapping[str, Any], on: date) -> str:
    """When the quota is used up, in words; `row` needs hits_cap_on, hits_cap_in_period, period_end, used and quota.

    A row of an earlier period says so by is_current_period; there it is too late to use anything up.
    """
    if not row.get("is_current_period", True):
        return "period ended"
    if row["used"] >= row["quota"]:
        return "over quota" if row["used"] > row["quota"] else "quota used up"
    if row["hits_cap_in_period"] is None:
        return "no forecast"
    if not row["hits_cap_in_period"]:
        return "not this period" if row["period_end"].year < MAXYEAR else "not at this rate"
    return "today" if row["hits_cap_on"] == on else f"{row['hits_cap_on']:%a %d %b}"
