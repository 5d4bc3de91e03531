"""One account of a digest as plain data: the one model that Slack, the terminal and the pages draw.

An item has its words ready, in the order in which they are read; who draws it decides on bold, links and line ends, and
leaves nothing out. So no channel shows a fact that another one does not. Names are data, never markup.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from orchestration.messages import outlook as words
from orchestration.messages.account_wording import (
    DigestDay,
    Row,
    hits_cap,
    name_of,
    of_quota,
    short_of_quota,
    threshold_name,
    unit_after,
)
from orchestration.messages.figures import one_line, percent, person
from orchestration.usage.formatting import figure, format_pct, sparkline

NO_OWNER = "no owner"
_HOLES = {"{account_id}": "account_id", "{account_name}": "account_name"}


def item(row: Row, days: Sequence[int], morning: DigestDay, group: str, crm_url: str | None = None) -> dict[str, Any]:
    """What is said of one crossing that is news; JSON-ready.

    `days` is the usage of the last complete days, empty for what does not add up. `facts` and `todo` are the account's
    line of the message, `details` are below its name in the thread. `owner` is for a mention alone: it may be an
    address, and addresses are not printed.
    """
    is_current = row["is_current_period"]
    owner = one_line(row["owner"])
    crossed = f"crossed {threshold_name(row)} {morning.moment(row['crossed_at'])}"
    return {
        "group": group,
        "account_id": row["account_id"],
        "meter": row["meter"],
        "is_current": is_current,
        "name": name_of(row),
        "url": account_url(row, crm_url),
        "owner": owner,
        "owner_name": person(owner) or NO_OWNER,
        "advice": row["advice"] if is_current else "none",
        "severity": row["severity"] if is_current else "",
        "facts": [f"{_short(row)}, {crossed}", words.outlook(row, morning) if is_current else "period ended"],
        "todo": _todo(row, owner),
        "details": _details(row, morning, crossed),
        "threshold": threshold_name(row),
        "used": figure(row["used"], row["unit"]),
        "quota": f"{figure(row['quota'], row['unit'])}{unit_after(row)}",
        "pct": format_pct(row["pct_of_cap"], row["ci95_pct"] if is_current else None),
        "crossed_at": f"{row['crossed_at'].astimezone(morning.zone):%d %b %H:%M}",
        "cause": row["cause"],
        "hits_cap": hits_cap(row, morning.on),
        "sparkline": sparkline(days),
    }


def brief(row: Row, text: str, crm_url: str | None = None) -> dict[str, str]:
    """An account in a line of names: what needs nobody's action."""
    about = {"account_id": row["account_id"], "meter": row["meter"]}
    return {"name": name_of(row), "url": account_url(row, crm_url), "text": text, **about}


def account_url(row: Row, template: str | None) -> str:
    """The account's page, by the template of `Settings.account_url`; empty without one.

    Also for an id that does not go into a link whole: it would lead to another account, or to none.
    """
    if template is None or one_line(row["account_id"], 200) != row["account_id"]:
        return ""
    url = template
    for hole, column in _HOLES.items():
        url = url.replace(hole, quote(one_line(row[column], 200), safe=""))
    return url


def _short(row: Row) -> str:
    ci95 = row["ci95_pct"] if row["is_current_period"] else None
    return f"{short_of_quota(row)} ({percent(row['pct_of_cap'], ci95)})"


def _todo(row: Row, owner: str) -> str:
    """Who does what, and what it is worth: the next step without its reason, which is in the thread."""
    name = person(owner) or NO_OWNER
    if not row["is_current_period"]:
        return name
    step, worth = one_line(row["next_step"], 200).partition(". ")[0].partition(":")[0].rstrip("."), words.worth(row)
    if row["situation"] == "staying_cheaper" and "pitch" not in step:
        step += ", do not pitch"
    said = f"{name}: {step[:1].lower()}{step[1:]}" if step else name
    return f"{said} ({worth})" if worth else said


def percent_of(row: Row) -> str:
    """How far a crossing that is news has come, in a line of names."""
    if not row["is_current_period"]:
        return f"{percent(row['pct_of_cap'])} of the last period"
    return percent(row["pct_of_cap"], row["ci95_pct"])


def _details(row: Row, morning: DigestDay, crossed: str) -> list[str]:
    """Lines for the thread, with exact figures."""
    if not row["is_current_period"]:
        pct = format_pct(row["pct_of_cap"])
        ended = f"the period ended with {of_quota(row['used'], row['quota'], row['unit'])} ({pct})"
        return [f"{ended} · {crossed}"]
    account = [f"plan {one_line(row['plan'], words.PLAN_CHARACTERS)}"] if row["plan"] else []
    account += [f"MRR {row['mrr']:,.2f}"] if row["mrr"] is not None else []
    if row["renewal_on"]:
        verb = "renews" if row["renewal_on"] >= morning.on else "was to renew"
        account += [f"{verb} {row['renewal_on']:%d %b %Y}"]
    account += [f"CSM {person(row['csm'])}"] if person(row["csm"]) else []
    by = f", by {row['by_when']:%a %d %b}" if row["by_when"] else ""
    step = one_line(row["next_step"], 200).rstrip(".")
    worth = words.worth(row)
    lines = [
        [words.exact(row), crossed, words.outlook(row, morning)],
        [words.projection(row), *words.progress(row, morning)],
        [words.offer(row)],
        words.caveats(row, morning),
        account,
        [f"Next{by}: {step}{f' ({worth})' if worth else ''}"] if step else [],
    ]
    return [" · ".join(filter(None, line)) for line in lines if any(line)]
