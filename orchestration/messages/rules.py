"""What a changed rule does to the digest: crossings that are ones only by a new rule are no news.

Rules are the rows of thresholds.csv, plans.csv, plan_tiers.csv, routing.csv and meters.csv. A digest notes those
that it was made by. A threshold that is new the next morning, or one of a meter that counts otherwise, was crossed by
some accounts days ago. They are recorded, and a line says so. An account that crosses it after the previous digest is
news as always.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages import crossings
from orchestration.messages.crossings import CrossingKey, Outcome, Verdict
from orchestration.usage.formatting import counted
from orchestration.warehouse import published_copy, queries

SEEDS: Mapping[str, Sequence[str]] = {
    "thresholds": ("plan", "meter", "threshold_pct", "threshold_units"),
    "plans": ("plan", "meter"),
    "plan_tiers": ("plan", "meter", "tier_number"),
    "routing": ("rule",),
    "meters": ("meter",),
}
"""The seeds that have rules, and the columns by which a row is the same one from day to day."""
QUERIES = {
    "thresholds": queries.THRESHOLD_RULES,
    "plans": queries.PLAN_RULES,
    "plan_tiers": queries.TIER_RULES,
    "routing": queries.ROUTING_RULES,
    "meters": queries.METER_RULES,
}
COUNTING = ("event_names", "aggregation", "value", "filter", "decimals", "weights", "counts_from")
"""The columns of meters.csv by which figures are others."""


@dataclass(frozen=True)
class Threshold:
    """A row of thresholds.csv."""

    plan: str
    meter: str
    name: str
    """80% of the quota, or 50000 units, as threshold_crossings has it."""
    is_in_digest: bool
    pace_matters: bool

    @property
    def specificity(self) -> int:
        """As in period_thresholds: the plan counts more than the meter."""
        return 2 * bool(self.plan) + bool(self.meter)


def read(published: Path) -> dict[str, str]:
    """The rules of the published copy: terms by rule."""
    return {
        rule: terms
        for seed in SEEDS
        for rule, terms in of_rows(seed, published_copy.query(published, QUERIES[seed])).items()
    }


def of_rows(seed: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The rules that these rows of a seed are: terms by rule."""
    return {
        "|".join([seed, *("" if row[name] is None else str(row[name]) for name in SEEDS[seed])]): json.dumps(
            {name: None if value is None else str(value) for name, value in row.items()}, sort_keys=True
        )
        for row in rows
    }


def thresholds(rules: Mapping[str, str]) -> list[Threshold]:
    """The rows of thresholds.csv among the rules."""
    rows = [json.loads(terms) for rule, terms in rules.items() if rule.startswith("thresholds|")]
    return [
        Threshold(
            row["plan"] or "",
            row["meter"] or "",
            f"{row['threshold_pct']}%" if row["threshold_pct"] else str(row["threshold_units"]),
            row["is_in_digest"] == "True",
            row.get("pace_matters") == "True",
        )
        for row in rows
    ]


def was_announced(crossing: Mapping[str, Any], before: Sequence[Threshold]) -> bool:
    """Whether the crossing would have been news by the rules of `before`: by a row for its plan and meter, of which the
    most specific ones hold.
    """
    plan, meter = crossing["plan"] or "", crossing["meter"]
    matching = [each for each in before if each.plan in ("", plan) and each.meter in ("", meter)]
    highest = max((each.specificity for each in matching), default=0)
    return any(
        each.name == crossing["threshold"]
        and each.is_in_digest
        and (not each.pace_matters or bool(crossing.get("pace_matters")))
        for each in matching
        if each.specificity == highest
    )


def counts_otherwise(meter: str, before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether figures of the meter are others by the rules of `now`, or there by them alone. Rules that were noted by a
    version that did not know meters as rules say nothing.
    """
    was, row = _of("meters", before), now.get(f"meters|{meter}")
    if not was:
        return False
    known = was.get(f"meters|{meter}")
    if known is None or row is None:
        return known is None
    old, new = json.loads(known), json.loads(row)
    return any(old.get(column) != new.get(column) for column in COUNTING)


def judge(
    rows: Sequence[Mapping[str, Any]],
    announced: Collection[CrossingKey],
    on: date,
    zone: ZoneInfo,
    previous_cutoff: datetime | None,
    before: Mapping[str, str],
    silenced: Collection[CrossingKey] = (),
    now: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[Mapping[str, Any]], list[Verdict]]:
    """As `crossings.judge`, but a crossing from before the previous digest that the rules of `before` would not have
    announced gets the verdict that a rule changed. So does one of a meter that counts otherwise by those of `now`, and
    those that were `silenced` when the digest was decided.

    Without `before`, no digest has noted its rules yet, and none of them is new.
    """
    old = thresholds(before)
    quiet = {
        crossings.crossing_key(row)
        for row in rows
        if previous_cutoff
        and row["crossed_at"] <= previous_cutoff
        and ((old and not was_announced(row, old)) or counts_otherwise(row["meter"], before, now))
    } | set(silenced)
    first = crossings.judge(rows, announced, on, zone, previous_cutoff)
    dropped = [
        replace(verdict, outcome=Outcome.RULE_CHANGED)
        for verdict in first[1]
        if verdict.key in quiet and verdict.outcome in (Outcome.ANNOUNCED, Outcome.SUPERSEDED)
    ]
    if not dropped:
        return first
    news, verdicts = crossings.judge(
        rows, {*announced, *(verdict.key for verdict in dropped)}, on, zone, previous_cutoff
    )
    return news, [*dropped, *verdicts]


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, list[str]]:
    """What changed, by seed: sentences without an end about thresholds, the number of rows of the others."""
    if not before:
        return {}
    found: dict[str, list[str]] = {}
    for seed in SEEDS:
        was, rows = _of(seed, before), _of(seed, now)
        if seed == "meters" and not was:
            continue  # noted by a version that did not know them
        changed = sorted(rule for rule in was.keys() | rows.keys() if was.get(rule) != rows.get(rule))
        if changed:
            found[seed] = [_words(rule, was, rows) for rule in changed]
    return found


def line(before: Mapping[str, str], now: Mapping[str, str], verdicts: Sequence[Verdict]) -> str:
    """What the digest says of it, in one line; empty where no rule changed."""
    quiet = {verdict.key[0] for verdict in verdicts if verdict.outcome is Outcome.RULE_CHANGED}
    parts = [
        ", ".join(words) if seed == "thresholds" else f"{counted(len(words), 'row')} of {seed}.csv"
        for seed, words in changes(before, now).items()
    ]
    if not (parts or quiet):
        return ""
    what = f"Rules changed: {'; '.join(parts)}." if parts else "Rules changed."
    if not quiet:
        return what
    verb = "is" if len(quiet) == 1 else "are"
    return f"{what} {counted(len(quiet), 'account')} that had crossed before {verb} not announced."


def _of(seed: str, rules: Mapping[str, str]) -> dict[str, str]:
    return {rule: terms for rule, terms in rules.items() if rule.startswith(f"{seed}|")}


def _words(rule: str, was: Mapping[str, str], now: Mapping[str, str]) -> str:
    what = "new" if rule not in was else "gone" if rule not in now else "changed"
    seed, *names = rule.split("|")
    if seed != "thresholds":
        return f"{' '.join(filter(None, names))} ({what})"
    plan, meter, pct, units = names
    scope = " ".join(filter(None, [plan and f"on {plan}", meter and f"for {meter}"]))
    return f"{f'{pct} %' if pct else f'{int(units):,} units'}{' ' + scope if scope else ''} ({what})"
