"""One account, one meter at a time: how much, how fast, what was said, what is billed, and what to do."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from orchestration.ledger import announcements
from orchestration.messages import charts, email_draft, mailto, outlook
from orchestration.messages.account_wording import DigestDay
from orchestration.messages.email_draft import DraftError
from orchestration.messages.message import account_name
from orchestration.pages.asking import Asked, NotFoundError, Page, Table, WrongQuestionError
from orchestration.pages.digests import STATES
from orchestration.usage import periods, units
from orchestration.warehouse import account_page_queries, account_usage, queries
from orchestration.warehouse.published_copy import connected, query, rows_of

ROWS = 10
"""Of endpoints, changes and messages."""
LONGEST_DAYS = 400
"""Of a span that somebody asks for."""


def page(asked: Asked, account_id: str) -> Page:
    """All that the marts and the ledger have of the account, of the meter in `meter`, else of the main one.

    :raises NotFoundError: there is no such account; the sentence names the nearest ones.
    :raises WrongQuestionError: the account has no such meter, or the span of days is not one.
    """
    meters = _meters(asked, account_id)
    row = _chosen(asked, meters)
    published, of_meter = asked.settings.published, {"account_id": account_id, "meter": row["meter"]}
    of_account = {"account_id": account_id}
    through = row["as_of"].date()
    span, used_by_day = _days(asked, row)
    today = DigestDay(asked.now.astimezone(asked.settings.zone).date(), asked.settings.zone, row["as_of"])
    values = {
        "meters": meters,
        "row": row,
        "chart": _chart(asked, row),
        "outlook": outlook.outlook(row, today) if row["quota"] is not None and row["severity"] else "",
        "caveats": outlook.caveats(row, today),
        "span": span,
        "days": used_by_day,
        "crossings": query(
            published,
            account_page_queries.PERIOD_CROSSINGS,
            {**of_meter, "period_start": row["period_start"].replace(tzinfo=None)},
        ),
        "quotas": query(published, account_page_queries.QUOTA_CHANGES, {**of_meter, "limit": ROWS}),
        "hours": query(published, account_page_queries.HOURS_OF_DAY, of_account) if row["is_calls"] else [],
        "errors": query(published, account_page_queries.FAILED_CALLS, of_account) if row["is_calls"] else [],
        "endpoints": query(
            published, account_page_queries.CALLED_ENDPOINTS, {**of_account, "through": through, "limit": ROWS}
        )
        if row["is_calls"]
        else [],
        "properties": query(
            published, account_page_queries.USED_PROPERTIES, {**of_meter, "through": through, "limit": ROWS}
        ),
        "said": announcements.of_account(asked.ledger, asked.settings.env, account_id, ROWS),
        "states": STATES,
        "outcomes": query(published, account_page_queries.ACCOUNT_OUTCOMES, {**of_account, "limit": ROWS}),
        "billed": _billed(asked, row),
        "draft": _draft(asked, row, today.on),
    }
    return Page("account", account_name(row), values, account_id)


def table(asked: Asked, account_id: str) -> Table:
    """The days of the span, of one meter.

    :raises NotFoundError, WrongQuestionError: as `page`.
    """
    _, rows = _days(asked, _chosen(asked, _meters(asked, account_id)))
    columns = list(account_usage.USAGE_COLUMNS)
    return Table(f"{account_id}.csv", columns, [{name: row[name] for name in columns} for row in rows])


def _meters(asked: Asked, account_id: str) -> list[dict[str, Any]]:
    published, asked_for = asked.settings.published, {"account_id": account_id}
    if rows := query(published, account_page_queries.ACCOUNT_METERS, asked_for):
        return rows
    with connected(published) as connection:
        nearest = rows_of(connection, queries.ACCOUNTS_NEAREST, {"name": account_id[:200]})
    advice = f" The nearest: {queries.listed(nearest)}." if nearest else ""
    raise NotFoundError(f"There is no such account.{advice}")


def _chosen(asked: Asked, meters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    wanted = asked.parameters.get("meter", "")
    found = [row for row in meters if row["meter"] == wanted] if wanted else list(meters)
    if not found:
        raise WrongQuestionError(f"This account has these meters: {', '.join(row['meter'] for row in meters)}.")
    return found[0]


def _days(asked: Asked, row: Mapping[str, Any]) -> tuple[tuple[date, date], list[dict[str, Any]]]:
    """The first and the last day that are shown, of the business zone, and usage on each; last week by default."""
    zone = asked.settings.zone
    start, end = periods.last_iso_week(row["as_of"].astimezone(zone).date())
    try:
        start = date.fromisoformat(asked.parameters.get("from") or start.isoformat())
        end = date.fromisoformat(asked.parameters["to"]) + timedelta(days=1) if asked.parameters.get("to") else end
    except (ValueError, OverflowError):
        raise WrongQuestionError("A day is written as 2026-11-20.") from None
    if not timedelta(0) < end - start <= timedelta(days=LONGEST_DAYS):
        raise WrongQuestionError(f"Ask for 1 to {LONGEST_DAYS} days, the first one before the last.")
    try:
        _, rows = account_usage.usage(asked.settings.published, row["account_id"], start, end, zone, row["meter"])
    except account_usage.UNKNOWN as error:
        raise WrongQuestionError(str(error)) from None
    return (start, end - timedelta(days=1)), rows


def _chart(asked: Asked, row: Mapping[str, Any]) -> dict[str, Any] | None:
    until = min(row["as_of"].replace(hour=0, minute=0, second=0, microsecond=0), row["period_end"])
    if not units.adds_up(row["aggregation"]):
        return None
    bounds = {"start": row["period_start"].replace(tzinfo=None), "until": until.replace(tzinfo=None)}
    days = query(
        asked.settings.published,
        account_page_queries.PERIOD_DAYS_OF_METER,
        {"account_id": row["account_id"], "meter": row["meter"], **bounds},
    )
    return charts.chart(row, [day["utc_day"] for day in days], [day["units"] for day in days], row["as_of"])


def _billed(asked: Asked, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was counted, reported and confirmed of the period's closed hours; None where the account is not billed."""
    customer = row["stripe_customer_id"]
    if not customer or not row["is_main"]:
        return None
    bounds = {name: row[name].replace(tzinfo=None) for name in ("period_start", "period_end")}
    asked_for = {"stripe_customer_id": customer}
    [found] = query(asked.settings.published, account_page_queries.BILLED_SO_FAR, {**asked_for, **bounds})
    [shared] = query(asked.settings.published, account_page_queries.CUSTOMER_ACCOUNTS, asked_for)
    return {**found, "customer": customer, "accounts": shared["accounts"]}


def _draft(asked: Asked, row: Mapping[str, Any], on: date) -> dict[str, str] | None:
    """The letter to the customer, where the advice is to write one."""
    letter = email_draft.letter(row, on) if row["advice"] and row["quota"] else None
    if letter is None:
        return None
    try:
        text = email_draft.draft(letter, asked.settings.templates)
    except DraftError as error:
        return {"text": str(error), "link": ""}
    return {"text": text, "link": mailto.link(text)}
