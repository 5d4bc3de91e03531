"""What changed in the last week that the mart has: growing, dropping, dormant, new; and what is resolved since."""

from typing import Any

from orchestration.messages.weekly import HEADINGS
from orchestration.pages.asking import Asked, Page, Table
from orchestration.warehouse import page_queries
from orchestration.warehouse.published_copy import query_kept

COLUMNS = (
    *("account_id", "account_name", "meter", "unit", "week_start", "change_word", "used", "used_week_before"),
    *("change_pct", "first_call_on", "last_call_on", "owner", "csm", "advice", "recommended_action"),
)
ROWS = 100
"""Of one kind of change on the page; the CSV has more."""


def page(asked: Asked) -> Page:
    """The rows of weekly_changes by their words, the largest change first."""
    published = asked.settings.published
    rows, week = _rows(asked, ROWS), query_kept(published, page_queries.WEEK)
    groups = {word: [row for row in rows if row["change_word"] == word] for word in HEADINGS}
    return Page(
        "changes",
        "Changes of the week",
        {
            "week_start": week[0]["week_start"] if week else None,
            "groups": [
                (word, HEADINGS[word], found, found[0]["of_word"] if found else 0) for word, found in groups.items()
            ],
            "resolved": query_kept(published, page_queries.RESOLVED, {"limit": ROWS}),
        },
    )


def table(asked: Asked) -> Table:
    """Every account and meter that has a word, with its exact figures: of each word 50,000 at most."""
    rows = [{name: row[name] for name in COLUMNS} for row in _rows(asked, page_queries.CSV_ROWS)]
    return Table("changes.csv", list(COLUMNS), rows)


def _rows(asked: Asked, most: int) -> list[dict[str, Any]]:
    return query_kept(asked.settings.published, page_queries.CHANGED, {"limit": most})
