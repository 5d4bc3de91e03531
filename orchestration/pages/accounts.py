"""All accounts by their names: where files have no search, a browser finds them here."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.pages.asking import Page


def page(rows: Sequence[Mapping[str, Any]], in_all: int) -> Page:
    """`rows` are of page_queries.EXPORTED_METERS, one for each account: its main meter."""
    return Page("accounts", "Accounts A to Z", {"rows": rows, "in_all": in_all})
