"""What changed rules would do, before they are applied: who is announced, silenced, and whose advice or rank changes.

It compares two sets of marts of the same moment, those published and those that the changed files would make, by the
digest's own rule and memory. Nothing is recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages import rules
from orchestration.messages.account_wording import name_of, threshold_name
from orchestration.messages.crossings import CrossingKey, Outcome, crossing_key
from orchestration.warehouse import published_copy, queries


@dataclass(frozen=True)
class Marts:
    """What is compared of one set of marts."""

    rules: Mapping[str, str]
    crossings: Sequence[Mapping[str, Any]]
    advised: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """What would be another with the changed rules; each line names an account."""

    changed: Sequence[str]
    announced: Sequence[str]
    """In the next digest, and not without the change."""
    silenced: Sequence[str]
    """Not in the next digest, where they would be without the change."""
    recorded: Sequence[str]
    """Crossed before the last digest by a rule that is new: no digest announces them."""
    ranked: Sequence[str]
    """Another severity, or other advice."""


def read(file: Path) -> Marts:
    """The marts of a published copy, or of a trial."""
    with published_copy.reading(file):
        return Marts(
            rules.read(file),
            published_copy.query(file, queries.CROSSINGS),
            published_copy.query(file, queries.ADVISED),
        )


def plan(
    now: Marts,
    then: Marts,
    announced: Sequence[CrossingKey],
    known: Mapping[str, str],
    previous_cutoff: datetime | None,
    on: date,
    zone: ZoneInfo,
) -> Plan:
    """What the digest of `on` and the advice of the accounts would be with the rules of `then`, in place of `now`.

    `announced` and `known` are the ledger's verdicts and rules. Where no digest has noted its rules yet, those of
    `now` stand for them: it will have noted these before the others come.
    """
    before = known or now.rules
    news, _ = rules.judge(now.crossings, announced, on, zone, previous_cutoff, before)
    later, verdicts = rules.judge(then.crossings, announced, on, zone, previous_cutoff, before, now=then.rules)
    quiet = {verdict.key for verdict in verdicts if verdict.outcome is Outcome.RULE_CHANGED}
    in_now, in_then = ({_subject(row) for row in rows} for rows in (news, later))
    changes = rules.changes(now.rules, then.rules)
    return Plan(
        changed=[f"{seed}.csv: {words}" for seed, listed in changes.items() for words in listed],
        announced=[_crossed(row) for row in later if _subject(row) not in in_now],
        silenced=[_crossed(row) for row in news if _subject(row) not in in_then],
        recorded=sorted(_crossed(row) for row in then.crossings if crossing_key(row) in quiet),
        ranked=_ranked(now.advised, then.advised),
    )


def _subject(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["account_id"], row["meter"]


def _crossed(row: Mapping[str, Any]) -> str:
    return f"{name_of(row)}: crossed {threshold_name(row)} on {row['crossed_at']:%a %d %b %H:%M} UTC"


def _ranked(now: Sequence[Mapping[str, Any]], then: Sequence[Mapping[str, Any]]) -> list[str]:
    was, lines = {_subject(row): row for row in now}, []
    for row in then:
        old = was.get(_subject(row))
        differs = [
            f"{old[column] or 'nothing'} → {row[column] or 'nothing'}"
            for column in ("severity", "advice", "next_step")
            if old and old[column] != row[column]
        ]
        if differs:
            lines.append(f"{name_of(row)}: {', '.join(differs)}")
    return lines
