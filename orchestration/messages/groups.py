"""What a digest groups accounts by: the advice, the most valuable group first.

A group either has a line for each account, with an owner and a next step, or is one line of names, where nobody has
anything to do today.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.messages.account_wording import Row
from orchestration.messages.figures import sums


@dataclass(frozen=True)
class Group:
    """A heading of the digest."""

    key: str
    title: str
    is_action: bool = True
    """Whether somebody has to do something about each account: then it has a line and an owner."""


GROUPS = (
    Group("call_upgrade", "Call: upgrade"),
    Group("call_help", "Call: help"),
    Group("help_first", "Help first, do not pitch"),
    Group("offer_upgrade", "Offer the next plan"),
    Group("renewal_talk", "Raise it at the renewal"),
    Group("tell_overage", "Tell them about the overage"),
    Group("other", "Crossed a threshold"),
    Group("csm_check_in", "Usage dropped or stopped: check in", is_action=False),
    Group("do_not_pitch", "Over quota, overage is cheaper: do not pitch", is_action=False),
    Group("will_not_run_out", "Will not run out this period", is_action=False),
    Group("watch", "No forecast yet: watch", is_action=False),
    Group("ended", "Crossed in a period that has ended", is_action=False),
    Group("resolved", "Good news", is_action=False),
)
"""In the order of the message."""
BY_KEY = {group.key: group for group in GROUPS}


def group_of(row: Row) -> Group:
    """Where a crossing that is news belongs."""
    if not row["is_current_period"]:
        return BY_KEY["ended"]
    if row["advice"] == "watch":
        return BY_KEY["will_not_run_out" if row["situation"] == "will_not_run_out" else "watch"]
    return BY_KEY.get(row["advice"] or "other", BY_KEY["other"])


def drawn(
    group: Group, rows: Sequence[Row], briefs: Sequence[Mapping[str, str]], count: int, listed: int, left_out: int = 0
) -> dict[str, Any]:
    """A group as JSON-ready data: its heading, and its names where it is a line of names.

    `rows` are its crossings, whose value is summed: the mart leaves it empty for those who should not be pitched.
    `left_out` accounts have no brief, and are counted.
    """
    return {
        "key": group.key,
        "title": group.title,
        "is_action": group.is_action,
        "count": count,
        "worth": worth(rows),
        "briefs": list(briefs[:listed]),
        "more": max(len(briefs) + left_out - listed, 0),
    }


def worth(rows: Sequence[Row]) -> str:
    """The monthly revenue of all of them, each account once; empty where none is known."""
    known = {
        row["account_id"]: (row["currency"], row["value"]) for row in rows if row["is_current_period"] and row["value"]
    }
    return f"{total} MRR" if (total := sums(list(known.values()))) else ""


def heading(group: Mapping[str, Any]) -> str:
    """Call: upgrade (2, +$900 MRR)."""
    worth = f", {group['worth']}" if group["worth"] else ""
    return f"{group['title']} ({group['count']:,}{worth})"
