"""What a page is made of, and what it gives back. Here is no HTTP and no HTML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from orchestration.ledger.ledger import Ledger
from orchestration.pages.links import Links
from orchestration.settings import Settings
from orchestration.usage.spreadsheet import spreadsheet

Audience = Literal["internal", "customer"]
"""Of pages. A gate sees none: limits.py answers it."""


class NotFoundError(LookupError):
    """There is no such account, digest or page for this visitor. The message is a sentence for a person."""


class WrongQuestionError(ValueError):
    """A parameter has no such value. The message says which values there are."""


@dataclass(frozen=True)
class Visitor:
    """Somebody who may see pages."""

    name: str
    """What the key was granted to, or the user of the login proxy."""
    audience: Audience
    account_id: str | None = None
    """The only account that a customer sees; None inside the company."""
    key_id: str | None = None
    """Of the key; None behind a login proxy."""

    @property
    def is_internal(self) -> bool:
        return self.audience == "internal"


@dataclass(frozen=True)
class Asked:
    """One question: of one published copy, at one moment, by one visitor.

    Inside, `published_copy.query(settings.published, …)` and everything built on it reads the copy that is kept open.
    """

    settings: Settings
    ledger: Ledger
    now: datetime
    visitor: Visitor
    links: Links
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of the address, after the question mark."""


@dataclass(frozen=True)
class Page:
    """A page, before it is HTML."""

    template: str
    """Its file in templates/, without `.html.jinja`."""
    title: str
    values: Mapping[str, Any]
    account_id: str | None = None
    """Whose figures it shows, for the access record; None: those of many."""


@dataclass(frozen=True)
class Table:
    """Rows as CSV."""

    file_name: str
    columns: list[str]
    """Also where there is no row."""
    rows: Sequence[Mapping[str, object]]

    def as_csv(self) -> str:
        """A whole file, which begins with a byte order mark."""
        return spreadsheet(self.rows) if self.rows else "\ufeff" + ",".join(self.columns) + "\r\n"


MakePage = Callable[[Asked], Page]
