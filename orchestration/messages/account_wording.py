"""The words about one account that all messages share: its name, its threshold, and when its quota is used up.

`row` is one of `queries.digest_accounts`. Figures come ready from there and are only put into words; what is not known
is left out. What is ahead of an account is in outlook.py; which accounts a digest names, in wording.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime, timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.figures import one_line, short
from orchestration.messages.message import account_name
from orchestration.usage import units
from orchestration.usage.formatting import amount, figure

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
    return account_name(row) + ("" if row["is_main"] else f" ({row['meter']})")


def unit_after(row: Row) -> str:
    """The unit behind a figure; the main meter's goes without saying."""
    return "" if row["is_main"] else f" {units.name(row['unit'])}"


def last_use(unit: str) -> str:
    """What the latest usage of a meter was: the last call, the last use of tokens."""
    return "last call" if unit == "calls" else f"last use of {units.name(unit)}"


def is_forecast(row: Row) -> bool:
    """Whether the meter is projected: what does not add up moves by decisions, and meters.csv may say no."""
    return units.adds_up(row["aggregation"]) and row["forecast_method"] != "none"


def of_quota(used: int | None, quota: int, unit: str) -> str:
    """What is used of a quota, exactly: 203 / 500 calls, 3.412 / 10 GB; ? before a gauge's first reading."""
    return f"{'?' if used is None else figure(used, unit)} / {amount(quota, unit)}"


def short_of_quota(row: Row) -> str:
    """The same for who reads it standing up: 812 k / 1.0 M, 3.4 / 10 GB."""
    return f"{short(row['used'], row['unit'])} / {short(row['quota'], row['unit'])}{unit_after(row)}"


def values_notes(values: Iterable[Row], row: Row) -> list[dict[str, str]]:
    """What most of an account's usage of one meter goes to: a note for each property that splits it, with the values'
    shares, cut off. `values` are its rows of queries.TOP_VALUES, in order of the property.
    """
    notes = []
    for name, found in groupby(values, key=lambda value: str(value["property"])):
        top = "endpoints" if name == "endpoint" else f"values of {one_line(name)}"
        lines = [_share(value, "calls" if row["is_calls"] else row["unit"]) for value in found]
        notes.append({"title": f"Top {top} of the last 7 days", "text": "\n".join(lines)})
    return notes


def _share(value: Row, unit: str) -> str:
    name, article = one_line(value["property"]), "an" if value["property"][:1] in "aeiou" else "a"
    said = one_line(value["value"], 200) or f"without {article} {name}"
    return f"{said}: {amount(value['used'], unit)}, {value['used'] * 100 // max(value['all_used'], 1)} %"


def hits_cap_is_ahead(row: Row) -> bool:
    return bool(row["hits_cap_in_period"]) and row["used_mtd"] < row["quota"]


def when(row: Row, on: date) -> str:
    """hits_cap() of the running period."""
    return hits_cap({**row, "used": row["used_mtd"]}, on)


def threshold_name(row: Mapping[str, Any]) -> str:
    """The threshold of a crossing for people: 80 %, or 50,000 calls."""
    threshold = str(row["threshold"])
    return f"{threshold[:-1]} %" if threshold.endswith("%") else f"{int(threshold):,} {units.name(row['unit'])}"


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
