"""What is counted: the rows of the seed meters and what they mean. Pure. Their mistakes are in `meter_problems.py`.

The columns are explained in `dbt_project/seeds/meters.yml`. Reading the file is the business of `warehouse/seeds.py`,
counting that of the dbt models and, for a look before a build, of `warehouse/meter_counts.py`.

The value of an event, which every engine judges alike: it is the JSON number or text at the meter's path, as text, as
the lake has it (the JSON number 1.500 is 1.5 there). It counts if it is NUMBER, not negative, has no more significant
places than the meter's `decimals` and is at most MAX_STEPS of the smallest step (value × 10^decimals). Everything else
is refused with the first `Refusal` that holds. For `unique` the value is a JSON text, number or boolean as text, of 1
to MAX_TEXT characters. A filter compares the same text. An event counts as often as its sample_weight says and, with
`weights`, for the weight of its endpoint.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from orchestration.usage import formatting
from orchestration.usage.events import API_CALL, API_CALL_REFUSED

COLUMNS = {
    "meter": "varchar",
    "is_main": "boolean",
    "event_names": "varchar",
    "aggregation": "varchar",
    "value": "varchar",
    "filter": "varchar",
    "group_by": "varchar",
    "unit": "varchar",
    "unit_singular": "varchar",
    "decimals": "integer",
    "quota_property": "varchar",
    "quota_policy": "varchar",
    "is_forecast": "boolean",
    "is_billed": "boolean",
    "stripe_meter": "varchar",
    "weights": "varchar",
    "counts_from": "date",
}
"""With DuckDB's types, as in dbt_project.yml."""
ADDITIVE = ("count", "sum")
AGGREGATIONS = (*ADDITIVE, "unique", "max", "latest")
ENDPOINT = "endpoint"
MAX_STEPS = 10**15
"""Largest value of one event and largest quota, in smallest steps: the largest exact value that Stripe takes."""
MAX_TEXT = 256
NUMBER = "-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?"

PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
"""Of a property: names with points between them."""


class Refusal(StrEnum):
    """Why the value of an event is not counted."""

    NO_VALUE = "no value"
    """Missing or null; of unique also an empty text, a list or an object."""
    NOT_A_NUMBER = "not a number"
    NEGATIVE = "negative"
    TOO_LARGE = "too large"
    """More than MAX_STEPS; of unique, more than MAX_TEXT characters."""
    TOO_MANY_PLACES = "too many places"


@dataclass(frozen=True)
class Condition:
    """A part of a filter: the property has one of these values, as text."""

    path: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Meter:
    """A row of the seed meters."""

    name: str
    is_main: bool
    event_names: tuple[str, ...]
    aggregation: str
    value: str
    """Path of the property; empty for count."""
    filter: str
    """As it is written; `conditions` are its parts."""
    group_by: tuple[str, ...]
    unit: str
    unit_singular: str
    decimals: int
    quota_property: str
    quota_policy: str
    is_forecast: bool
    is_billed: bool
    stripe_meter: str
    weights: str
    counts_from: date | None
    misread: tuple[str, ...] = ()
    """What is wrong with cells that are no boolean, number or day: ends of sentences."""

    @property
    def is_additive(self) -> bool:
        return self.aggregation in ADDITIVE

    @property
    def scale(self) -> int:
        """Smallest steps of one unit."""
        return int(10**self.decimals)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """:raises ValueError: the filter cannot be read."""
        return tuple(map(_condition, self.filter.split(";"))) if self.filter else ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The properties that it reads, each once. To split by the endpoint it reads the lake's column of that name."""
        filtered = [part.partition("=")[0] for part in self.filter.split(";")]
        split = [path for path in self.group_by if path != ENDPOINT]
        return tuple(dict.fromkeys(path for path in (self.value, *filtered, *split) if path))

    def exact(self, steps: int) -> str:
        """So many smallest steps in whole units: 3412 is 3.412 where decimals is 3."""
        whole, rest = divmod(abs(steps), self.scale)
        shown = f"{whole:,}.{rest:0{self.decimals}}".rstrip("0") if rest else f"{whole:,}"
        return f"-{shown}" if steps < 0 else shown

    def amount(self, steps: int) -> str:
        """The same with its unit: 3.412 GB."""
        shown = self.exact(steps)
        return f"{shown} {self.unit_singular if shown == '1' else self.unit}"


def meters_of(rows: Iterable[Mapping[str, Any]]) -> list[Meter]:
    """The meters of rows of the file, whose cells are text, or of the table meters: the main one first, then by name.

    Whether they make sense is not looked at: see `meter_problems.problems`.
    """
    return sorted(map(_meter, rows), key=lambda meter: (not meter.is_main, meter.name))


def main_meter(meters: Iterable[Meter]) -> Meter:
    """The meter of a quota that names none.

    :raises ValueError: there is none.
    """
    for meter in meters:
        if meter.is_main:
            return meter
    raise ValueError("meters.csv has no row with is_main = true")


def calls_meter(meters: Iterable[Meter]) -> Meter | None:
    """The meter that counts calls, for which alone facts about errors, endpoints, retries and sampling hold."""
    for meter in meters:
        if meter.aggregation == "count" and API_CALL[0] in meter.event_names and not meter.filter:
            return meter
    return None


def event_names(meters: Iterable[Meter]) -> tuple[str, ...]:
    """The names of all events that are kept as usage is, each once: calls, made or refused, also where no meter counts
    them, and the meters'.
    """
    return tuple(
        dict.fromkeys((*API_CALL, API_CALL_REFUSED, *(name for meter in meters for name in meter.event_names)))
    )


def meter_name(text: str) -> str:
    """As events and people may write it: api_calls and API_CALLS are api-calls."""
    return text.lower().replace("_", "-")


def describe(meter: Meter) -> str:
    """What it counts, in one sentence."""
    names = " or ".join(meter.event_names) or "quota_set or usage.limit_reached"
    by = ", weighted by endpoint" if meter.weights else ""
    counted = {
        "count": f"the number of {names} events",
        "sum": f"the sum of {meter.value} of {names} events",
        "unique": f"the different values of {meter.value} of {names} events",
        "max": f"the largest {meter.value} of {names} events",
        "latest": f"the latest {meter.value or 'used'} of {names} events",
    }.get(meter.aggregation, f"{meter.aggregation} of {names} events")
    of = f" with {meter.filter}" if meter.filter else ""
    places = f" with {formatting.counted(meter.decimals, 'place')}" if meter.decimals else ""
    parts = [f"{meter.name}: {counted}{of}{by}, in {meter.unit}{places}"]
    if meter.is_main:
        parts.append("main meter")
    if meter.quota_property:
        parts.append(f"quota from {meter.quota_property}")
    at = f" as {meter.stripe_meter}" if meter.stripe_meter else ""
    parts.append(f"billed{at}" if meter.is_billed else "not billed")
    return "; ".join(parts) + "."


def _condition(part: str) -> Condition:
    path, equals, values = part.partition("=")
    if not equals or not PATH.fullmatch(path):
        raise ValueError(f"has {part!r}, which is not property=value")
    found = tuple(values.split("|"))
    if any(value != value.strip() or not value for value in found):
        raise ValueError(f"has {part!r}, with an empty value or a blank around one")
    return Condition(path, found)


def _meter(row: Mapping[str, Any]) -> Meter:
    cells = {name: _text(row.get(name)) for name in COLUMNS}
    misread: list[str] = []

    def boolean(name: str, otherwise: bool) -> bool:
        text = cells[name].lower()
        if text not in ("", "true", "false"):
            misread.append(f"{name} is {cells[name]!r}. Write true or false")
        return text == "true" if text else otherwise

    decimals, counts_from = 0, None
    if re.fullmatch("[0-9]{0,3}", cells["decimals"]):
        decimals = int(cells["decimals"] or 0)
    else:
        misread.append(f"decimals is {cells['decimals']!r}. Write a whole number, such as 0")
    if cells["counts_from"]:
        try:
            counts_from = date.fromisoformat(cells["counts_from"])
        except ValueError:
            misread.append(f"counts_from is {cells['counts_from']!r}. Write a day, such as 2026-11-20")
    return Meter(
        name=cells["meter"],
        is_main=boolean("is_main", otherwise=False),
        event_names=_list(cells["event_names"]),
        aggregation=cells["aggregation"],
        value=cells["value"],
        filter=cells["filter"],
        group_by=_list(cells["group_by"]),
        unit=cells["unit"],
        unit_singular=cells["unit_singular"],
        decimals=decimals,
        quota_property=cells["quota_property"],
        quota_policy=cells["quota_policy"],
        is_forecast=boolean("is_forecast", otherwise=cells["aggregation"] in ADDITIVE),
        is_billed=boolean("is_billed", otherwise=False),
        stripe_meter=cells["stripe_meter"],
        weights=cells["weights"],
        counts_from=counts_from,
        misread=tuple(misread),
    )


def _text(cell: object) -> str:
    return "" if cell is None else str(cell).strip()


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split("|")) if text else ()
