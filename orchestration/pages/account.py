"""The page of one account, for sales, CS and finance: one meter at a time, and everything about it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from orchestration.ledger import announcements
from orchestration.messages.account_wording import DigestDay
from orchestration.messages.items import account_url
from orchestration.messages.message import account_name
from orchestration.pages import account_charts, account_days, account_sections, delivery_words
from orchestration.pages.account_activity import activity
from orchestration.pages.account_billing import billing
from orchestration.pages.asking import Asked, NotFoundError, Page, Table, WrongQuestionError
from orchestration.usage import units
from orchestration.warehouse import account_page_queries as questions
from orchestration.warehouse import account_usage, queries
from orchestration.warehouse.published_copy import connected, query

MESSAGES = 20
"""About the account, the newest."""


def page(asked: Asked, account_id: str) -> Page:
    """:raises NotFoundError: there is no such account; the message has the nearest ones.
    :raises WrongQuestionError: it has no such meter, or there are no such days.
    """
    meters = _meters(asked, account_id)
    row = _chosen(asked, meters)
    zone, published = asked.settings.zone, asked.settings.published
    quality = queries.data_quality(published)
    today = row["as_of"].astimezone(zone).date()
    morning = DigestDay(today, zone, row["as_of"])
    moment = partial(_moment, asked)
    chosen = account_days.span(asked, today, quality["kept_from"])
    days, answers = account_days.read(asked, row, chosen, quality["kept_from"])
    quota_changes = account_charts.quota_changes(asked, row)
    crossed = account_charts.crossings(asked, row)
    unit_of = {each["meter"]: each["unit"] for each in meters}
    main = next((each["meter"] for each in meters if each["is_main"]), "")
    values = {
        "row": row,
        "name": account_name(row),
        "unit": units.name(row["unit"]),
        "tabs": [(each["meter"], asked.links.account(account_id, meter=each["meter"])) for each in meters],
        "facts": account_sections.facts(row, today),
        "tags": account_sections.tags(row, today),
        "crm": account_url(row, asked.settings.crm_url),
        "figures": account_sections.figures(row, morning),
        "advice": account_sections.advice(row, morning),
        "caveats": account_sections.caveats(row, morning, quality),
        "draft": account_sections.draft(row, today, asked.settings.templates),
        "period": account_charts.period(asked, row, crossed, quota_changes),
        "crossings": crossed,
        "quota_changes": quota_changes,
        "span": chosen,
        "answers": answers,
        "days": account_days.lines(row, days),
        "days_in_all": account_days.in_all(row, days),
        "bars": account_charts.bars(row, days, chosen),
        "today": today,
        "csv": asked.links.account(
            account_id,
            meter=row["meter"],
            **{"from": chosen.start.isoformat(), "to": chosen.last.isoformat(), "format": "csv"},
        ),
        "address": partial(asked.links.account, account_id, meter=row["meter"]),
        "activity": activity(asked, row, min(quality["data_through"] or row["as_of"], row["as_of"]).date()),
        "said": delivery_words.said(
            announcements.of_account(asked.ledger, asked.settings.env, account_id, MESSAGES),
            unit_of, main, asked.links, moment,
        ),
        "outcomes": _outcomes(asked, account_id, unit_of, moment),
        "billing": billing(asked, row),
    }  # fmt: skip
    return Page("account", account_name(row), values, account_id)


def table(asked: Asked, account_id: str) -> Table:
    """The days that `from` and `to` name, as `headroom usage --csv` writes them.

    :raises NotFoundError, WrongQuestionError: as `page`.
    """
    row = _chosen(asked, _meters(asked, account_id))
    kept_from = queries.data_quality(asked.settings.published)["kept_from"]
    zone = asked.settings.zone
    chosen = account_days.span(asked, row["as_of"].astimezone(zone).date(), kept_from)
    with connected(asked.settings.published) as connection:
        days = account_usage.days_of(connection, asked.settings.published, row, chosen.start, chosen.end, zone)
    columns = list(account_usage.USAGE_COLUMNS)
    rows = [{name: day[name] for name in columns} for day in days]
    return Table(f"usage-{account_id}-{row['meter']}-{chosen.start}-{chosen.last}.csv", columns, rows)


def _meters(asked: Asked, account_id: str) -> list[dict[str, Any]]:
    """Its rows of utilization_mtd, the main meter first."""
    published, account = asked.settings.published, {"account_id": account_id}
    if found := query(published, questions.ACCOUNT_METERS, account):
        asks = {**account, "calls_meter": queries.calls_meter(published)}
        facts = {row["meter"]: row for row in query(published, questions.METER_FACTS, asks)}
        return [{**row, **facts[row["meter"]]} for row in found]
    with connected(published) as connection:
        try:
            named = queries.account_named(connection, account_id)
        except queries.UnknownAccountError as error:
            said = str(error)
        else:
            said = f"there is no account with the id {account_id!r}; did you mean {queries.listed([named])}"
    raise NotFoundError(f"{said[:1].upper()}{said[1:]}.")


def _chosen(asked: Asked, meters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    meter = asked.parameters.get("meter")
    if not meter:
        return meters[0]
    for row in meters:
        if row["meter"] == meter:
            return row
    known = ", ".join(row["meter"] for row in meters)
    raise WrongQuestionError(f"The account does not have that meter. It has {known}.")


def _outcomes(
    asked: Asked, account_id: str, unit_of: Mapping[str, str], moment: Callable[[datetime], str]
) -> list[dict[str, Any]]:
    asks = {"account_id": account_id, "limit": MESSAGES}
    found = query(asked.settings.published, questions.ACCOUNT_OUTCOMES, asks)
    return [
        {**row, "words": delivery_words.outcome(row, unit_of.get(row["meter"], "units"), moment) or "no answer yet"}
        for row in found
    ]


def _moment(asked: Asked, at: datetime) -> str:
    return f"{at.astimezone(asked.settings.zone):%-d %b %Y, %H:%M}"
