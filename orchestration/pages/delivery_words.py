"""Where messages went and what became of them, in words: the same on an account's page and on a digest's."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from orchestration.ledger.announcements import Announcement, Answered, Way
from orchestration.ledger.ledger import State
from orchestration.messages.account_wording import threshold_name
from orchestration.messages.figures import money, one_line
from orchestration.pages.account_sections import quota_words
from orchestration.pages.links import Links

KINDS = {
    "digest": "Digest",
    "critical": "Critical notice",
    "crossing": "Alert",
    "limit_hit": "Limit alert",
    "weekly": "Weekly digest",
    "monthly": "Monthly digest",
}
STATES = {
    State.DRAFT: "a draft that waits for a person",
    State.PREPARED: "not sent yet",
    State.SENDING: "in doubt: it may have arrived",
    State.SENT: "sent",
    State.PREVIEWED: "not sent: the channel is not set up",
    State.FAILED: "refused by the channel",
    State.GIVEN_UP: "given up",
}
DISPOSITIONS = {"contacted": "contacted", "won": "won", "false_alarm": "false alarm", "snoozed": "snoozed"}


def way(each: Way, moment: Callable[[datetime], str]) -> dict[str, str]:
    """A route of a message, its state and when; and the address of the message where the channel has one."""
    name = one_line(each.route) or each.channel
    by = "" if name == each.channel else f" ({each.channel})"
    at = f", {moment(each.at)}" if each.at and each.state in (State.SENT, State.GIVEN_UP) else ""
    many = f" {each.count:,} times" if each.count > 1 else ""
    is_link = bool(each.permalink) and str(each.permalink).startswith(("https://", "http://"))
    return {
        "route": f"{name}{by}",
        "state": f"{STATES[each.state]}{many}{at}",
        "url": str(each.permalink) if is_link else "",
    }


def answer(each: Answered, moment: Callable[[datetime], str]) -> str:
    return f"{DISPOSITIONS.get(each.disposition, each.disposition)}, {moment(each.said_at)}"


def said(
    found: Iterable[Announcement],
    unit_of: Mapping[str, str],
    main: str,
    links: Links,
    moment: Callable[[datetime], str],
) -> list[dict[str, Any]]:
    """What was said about an account: message, crossings, routes and answers. `unit_of` has the units of its meters."""
    return [
        {
            "kind": KINDS.get(each.kind, each.kind.replace("_", " ").capitalize()),
            "url": links.digest(each.key.split("|")[2]) if each.kind == "digest" else "",
            "at": each.decided_at,
            "crossings": [
                threshold_name({"threshold": crossing.threshold, "unit": unit_of.get(crossing.meter, "units")})
                + ("" if crossing.meter == main else f" of {crossing.meter}")
                + (" (withdrawn later)" if crossing.is_withdrawn else "")
                for crossing in each.crossings
            ],
            "remarks": [
                ": ".join(filter(None, [remark.heading.rpartition(" (")[0], remark.text])) for remark in each.remarks
            ],
            "ways": [way(one, moment) for one in each.ways],
            "answers": [answer(one, moment) for one in each.answers],
        }
        for each in found
    ]


def outcome(row: Mapping[str, Any], unit: str, moment: Callable[[datetime], str]) -> str:
    """What became of an alert, by the mart alert_outcomes; empty where nothing did."""
    parts = []
    if row["disposition"]:
        parts.append(DISPOSITIONS.get(row["disposition"], row["disposition"]))
    if row["quota_raised_at"]:
        plan = (
            f" with the plan {one_line(row['new_plan'])}" if row["new_plan"] and row["new_plan"] != row["plan"] else ""
        )
        worth = f" ({money(row['mrr_delta'], None, is_signed=True)} MRR)" if row["mrr_delta"] else ""
        raised = (
            f"quota raised to {quota_words(row['new_quota'], unit)}{plan} on {moment(row['quota_raised_at'])}{worth}"
        )
        parts.append(raised)
    return ", ".join(parts)
