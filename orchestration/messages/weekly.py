"""The weekly digest: whose usage changed in the last complete ISO week. Words only; the figures are weekly_changes'."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.account_wording import last_use
from orchestration.messages.figures import change, money, person, short
from orchestration.messages.items import account_url
from orchestration.messages.message import Line, Message, account_name, by_account, sections
from orchestration.usage.formatting import counted, noun
from orchestration.usage.periods import digest_due_at, latest_digest_date

HEADINGS = {"dropping": "Dropping", "dormant": "Dormant", "growing": "Growing", "new": "New"}
"""By the word of the mart, in the order of the message: first who may be leaving."""
COLUMNS = [
    *("account_id", "account_name", "csm", "owner", "change_word", "meter", "unit", "used", "used_week_before"),
    *("change_pct", "mrr", "first_call_on", "last_call_on", "week_start", "advice", "recommended_action"),
]


def weekly_message(
    changes: Sequence[Mapping[str, Any]],
    data_through: datetime | None,
    as_of: datetime,
    zone: ZoneInfo,
    crm_url: str | None = None,
) -> Message | str:
    """The notice of the week that `changes` is about, or why it is not due.

    It is due at the first 8am of the business zone after the week, whose days are UTC: on Monday, east of UTC+8 on
    Tuesday. With the clock of the marts, so that old ones make no news; and not before a call of the last day, or a
    later one, has come in: the silence of a feed is no drop of each account.
    """
    if not changes:
        return "no account had usage before the end of the last week"
    monday = changes[0]["week_start"]
    end = datetime.combine(monday + timedelta(days=7), time(), UTC)
    if digest_due_at(latest_digest_date(as_of, zone), zone) < end:
        return f"the week from {monday} is due at 8am"
    if data_through is None or data_through < end - timedelta(days=1):
        return f"the latest usage is from {data_through:%Y-%m-%d}, before the end of the week from {monday}"
    accounts = len({row["account_id"] for row in changes})
    year, week, _ = monday.isocalendar()
    changed = by_account((row for row in changes if row["change_word"]), "change_word", list(HEADINGS))
    groups = {word: [rows for rows in changed if rows[0]["change_word"] == word] for word in HEADINGS}
    counts = [f"{len(found):,} {word}" for word, found in groups.items() if found]
    span = f"{monday:%d %b} to {end - timedelta(days=1):%d %b %Y}"
    headline = f"Week {week}: no account changed much."
    if counts:
        first = next(rows[0] for found in groups.values() for rows in found)
        headline = f"Week {week}: {', '.join(counts)}. First: {account_name(first)}, {_fact(first)}"
    return Message(
        key=f"weekly|{year}-W{week:02}",
        audience="cs",
        title=f"Weekly usage · {span}",
        headline=headline,
        sections=sections({HEADINGS[word]: [_line(rows, crm_url) for rows in found] for word, found in groups.items()}),
        footer=[
            f"UTC days, compared with the week before, {counted(accounts, 'account')}",
            f"Data as of {as_of.astimezone(zone):%a %d %b %H:%M %Z}",
        ],
        table=[{column: row[column] for column in COLUMNS} for row in changes] if counts else [],
    )


def _line(rows: Sequence[Mapping[str, Any]], crm_url: str | None) -> Line:
    """An account with what changed of each of its meters."""
    row, facts = rows[0], [_fact(each) for each in rows]
    facts += [f"MRR {money(row['mrr'], row.get('currency'))}"] if row["mrr"] else []
    # more calls are no good news where they fail
    facts += [each["recommended_action"].rstrip(".") for each in rows if each["advice"] == "help_first"]
    owner = row["csm"] or row["owner"] or ""
    name, url = account_name(row), account_url(row, crm_url)
    return Line(" · ".join(facts), owner, person(owner) or "no owner", name, url, row["account_id"], row["meter"])


def _fact(row: Mapping[str, Any]) -> str:
    """What changed of a meter, in figures."""
    word, unit = row["change_word"], row["unit"]
    used = f"{short(row['used'], unit)} {noun(row['used'], unit)}"
    if word == "new":
        return f"{used} since {row['first_call_on']:%a %d %b}"
    if word == "dormant":
        return f"{last_use(unit)} {row['last_call_on']:%a %d %b}"
    changed = f"{change(row['change_pct'])}, " if row["change_pct"] is not None else ""
    return f"{changed}{used} after {short(row['used_week_before'], unit)}"
