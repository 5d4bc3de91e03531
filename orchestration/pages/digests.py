"""The digests: which there were, what each of them said, where it went, and what became of its accounts.

A digest is shown as it was decided: its words and figures are those of that morning. What is known since is beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

from orchestration.ledger import announcements, decided
from orchestration.ledger.announcements import Answered
from orchestration.ledger.ledger import Ledger
from orchestration.messages import groups
from orchestration.messages.digest import digest_key
from orchestration.messages.figures import one_line
from orchestration.messages.outline import HEADLINE_CHARACTERS
from orchestration.pages import delivery_words
from orchestration.pages.account_sections import quota_words
from orchestration.pages.asking import Asked, NotFoundError, Page
from orchestration.pages.slack_text import texts
from orchestration.usage.formatting import amount, figure, format_pct
from orchestration.warehouse import digest_page_queries as questions
from orchestration.warehouse.published_copy import query

LISTED = 400
"""Digests, the newest: more than a year of them."""


def listing(asked: Asked, most: int = LISTED) -> Page:
    """The newest first."""
    moment = partial(_moment, asked)
    found = [
        {
            "on": each.on,
            "day": _day(each.on),
            "accounts": each.accounts,
            "ways": [delivery_words.way(way, moment) for way in each.ways],
        }
        for each in announcements.digests(asked.ledger, asked.settings.env, most)
    ]
    return Page("digests", "Digests", {"digests": found, "is_all": len(found) < most})


def days(ledger: Ledger, env: str, most: int) -> list[str]:
    """Of the newest digests that have a page, the newest first; ISO 8601."""
    return [each.on for each in announcements.digests(ledger, env, most) if _is_day(each.on)]


def page(asked: Asked, on: str) -> Page:
    """:raises NotFoundError: there is no digest of that day."""
    key = digest_key(asked.settings.env, on)
    with asked.ledger.reading() as connection:
        found = decided.find(connection, key) if _is_day(on) else None
    if found is None:
        raise NotFoundError("There is no digest of that day. The list of digests has all of them.")
    content = found.content
    digest = content.get("digest")
    moment = partial(_moment, asked)
    shown = _digest(asked, digest) if digest else {"texts": texts(content)}
    values = {
        **shown,
        "has_form": digest is not None,
        "decided_at": found.decided_at,
        "ways": [delivery_words.way(way, moment) for way in announcements.ways_of(asked.ledger, key)],
        "since": _since(asked, key, digest) if digest else [],
        "neighbours": _neighbours(asked, on),
    }
    title = digest["title"] if digest else f"Usage digest · {_day(on)}"
    return Page("digest", one_line(title, 200), values)


def _digest(asked: Asked, digest: Mapping[str, Any]) -> dict[str, Any]:
    """Its words as they were frozen, by groups; nothing is left out and nothing is added."""
    return {
        "headline": one_line(digest["headline"], HEADLINE_CHARACTERS),
        "notices": digest.get("notices", []),
        "groups": list(_groups(asked, digest)),
        "known": digest["known"],
        "alerted": digest.get("alerted", []),
        "footer": digest["footer"],
    }


def _groups(asked: Asked, digest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for group in digest["groups"]:
        items = [_item(asked, item) for item in digest["items"] if item["group"] == group["key"]]
        briefs = [{**brief, "link": _link(asked, brief)} for brief in group["briefs"]]
        left = group["count"] - len(items) if group["is_action"] else group["more"]
        shown = items if group["is_action"] else []
        yield {"heading": groups.heading(group), "items": shown, "briefs": briefs, "more": max(left, 0)}


def _item(asked: Asked, item: Mapping[str, Any]) -> dict[str, Any]:
    notes = [{"title": note["title"], "text": note["text"]} for note in item.get("notes", [])]
    return {**item, "link": _link(asked, item), "notes": notes}


def _link(asked: Asked, each: Mapping[str, Any]) -> str:
    """Of the account's page; older digests name accounts without their ids."""
    return asked.links.account(each["account_id"]) if each.get("account_id") else ""


def _since(asked: Asked, key: str, digest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What became of each account that the digest announces: answers, larger quotas, and how it stands now."""
    subjects = list(dict.fromkeys((item["account_id"], item["meter"]) for item in digest["items"]))
    names = {(item["account_id"], item["meter"]): item["name"] for item in digest["items"]}
    published, accounts = asked.settings.published, {"accounts": sorted({account for account, _ in subjects})}
    now = {(row["account_id"], row["meter"]): row for row in query(published, questions.STANDING_NOW, accounts)}
    outcomes = query(published, questions.OUTCOMES_OF, accounts) if subjects else []
    answers = announcements.answers_to(asked.ledger, key)
    moment = partial(_moment, asked)
    return [
        {
            "name": names[subject],
            "link": asked.links.account(subject[0]),
            "answers": [delivery_words.answer(each, moment) for each in answers if _is_about(each, subject)],
            "outcome": _outcome(subject, outcomes, now.get(subject), digest, moment),
            "now": _standing(now.get(subject)),
        }
        for subject in subjects
    ]


def _is_about(each: Answered, subject: tuple[str, str]) -> bool:
    return (each.account_id, each.meter) == subject


def _outcome(
    subject: tuple[str, str],
    outcomes: Sequence[Mapping[str, Any]],
    row: Mapping[str, Any] | None,
    digest: Mapping[str, Any],
    moment: Any,
) -> str:
    """A larger quota after the digest, by the mart. Answers are those to this digest."""
    raised = [
        delivery_words.outcome({**each, "disposition": None}, row["unit"] if row else "units", moment)
        for each in outcomes
        if (each["account_id"], each["meter"]) == subject
        and each["quota_raised_at"]
        and each["alerted_at"].date() <= date.fromisoformat(digest["date"]) <= each["quota_raised_at"].date()
    ]
    return raised[-1] if raised else ""


def _standing(row: Mapping[str, Any] | None) -> str:
    """How far the account is in the running period."""
    if row is None:
        return "no longer counted"
    if row["used_mtd"] is None or row["pct_of_cap"] is None:
        used = "no reading yet" if row["used_mtd"] is None else amount(row["used_mtd"], row["unit"])
        quota = {"unlimited": "unlimited", "blocked": "blocked", "unknown": "quota not known"}
        return ", ".join(filter(None, [used, quota.get(row["quota_state"], "")]))
    of = f"{figure(row['used_mtd'], row['unit'])} of {quota_words(row['quota'], row['unit'])}"
    return f"{of}, {format_pct(row['pct_of_cap'], row['ci95_pct'])}"


def _neighbours(asked: Asked, on: str) -> dict[str, str]:
    """The days of the digests before and after, empty where there is none."""
    before, after = announcements.neighbours(asked.ledger, asked.settings.env, on)
    return {"before": before, "after": after}


def _is_day(on: str) -> bool:
    try:
        return date.fromisoformat(on).isoformat() == on
    except ValueError:
        return False


def _day(on: str) -> str:
    return f"{date.fromisoformat(on):%a %-d %b %Y}" if _is_day(on) else on


def _moment(asked: Asked, at: datetime) -> str:
    return f"{at.astimezone(asked.settings.zone):%-d %b %Y, %H:%M}"
