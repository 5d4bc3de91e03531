"""The internal pages as files, for a bucket behind a login: no key, no customer's page, nothing that needs a server.

Each page is made by the function that the server calls, from one published copy. Links are relative, so that the folder
works from a disk and from any address.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from orchestration.ledger.ledger import Ledger
from orchestration.pages import account, accounts, changes, digests, quality, rendering, top, utilization
from orchestration.pages.asking import Asked, Page, Visitor
from orchestration.pages.export_folder import MARK, ExportError, Folder, renewed
from orchestration.pages.links import Contents, Exported
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.warehouse import page_queries, published_copy, queries

DIGESTS = 90
"""The newest."""
ROWS = 200
"""Of a page of the table of accounts. A browser finds names in many rows; a server has a search."""
_LIMITS: dict[str, str | int] = {"memory_limit": published_copy.MEMORY_LIMIT, "threads": 1}
"""Of the engine. Its questions are small: with two threads they take a fifth more CPU."""


@dataclass(frozen=True)
class Export:
    """What was written."""

    folder: Path
    files: int
    accounts: int
    """That have a page."""
    accounts_in_all: int
    digests: int


def export(settings: Settings, target: Path, most_accounts: int = page_queries.EXPORTED_ACCOUNTS) -> Export:
    """Write all pages to `target`, in place of the export that is there, with pages of the accounts that come first.

    :raises ExportError: something else is there, or it cannot be written.
    :raises published_copy.NothingPublishedError: nothing was built yet.
    """
    for own in (settings.landing, settings.lake):
        if target.resolve().is_relative_to(own.resolve()):
            raise ExportError(f"{target} is in {own}, where Headroom keeps its own files. Name another folder")
    ledger = Ledger(settings.ledger_url)
    try:
        with (
            published_copy.attached(settings.published, _LIMITS) as connection,
            published_copy.held(settings.published, connection, published_copy.KeptAnswers()),
            renewed(target) as folder,
        ):
            files = _Files(settings, ledger, folder, most_accounts)
            files.write_lists()
            files.write_digests()
            files.write_accounts()
            files.write_mark()
            return Export(target, folder.files, len(files.meters), files.in_all, len(files.days))
    finally:
        ledger.close()


class _Files:
    """The pages of one export, all of one moment and one published copy."""

    def __init__(self, settings: Settings, ledger: Ledger, folder: Folder, most_accounts: int) -> None:
        self._settings, self._ledger, self._folder, self._now = settings, ledger, folder, settings.now()
        rows = published_copy.query(settings.published, page_queries.EXPORTED_METERS, {"limit": most_accounts})
        self.meters = {name: list(found) for name, found in groupby(rows, key=lambda row: str(row["account_id"]))}
        """By account, its rows of the mart, that of its page first."""
        self.in_all = rows[0]["accounts"] if rows else 0
        self.days = digests.days(ledger, settings.env, DIGESTS)
        said = f"Files of {rendering.moment(self._now, settings.zone)}, without a search."
        if len(self.meters) < self.in_all:
            said += (
                f" The first {len(self.meters):,} of {counted(self.in_all, 'account')} have a page, by what they need."
            )
        self._contents = Contents({name: found[0]["meter"] for name, found in self.meters.items()}, self.days, said)
        self._pages_of_table = max(1, -(-len(rows) // ROWS))

    def write_lists(self) -> None:
        """The pages of many accounts, each with its CSV."""
        here = self._asked()
        self._write(here.links.page("changes"), here, "changes", changes.page(here))
        self._write(here.links.page("quality"), here, "quality", quality.page(here))
        mains = [found[0] for found in self.meters.values()]
        self._write(here.links.page("accounts"), here, "accounts", accounts.page(mains, self.in_all))
        self._write_tops([str(meter) for meter in top.page(here).values["meters"]])
        self._folder.write(here.links.home(format="csv"), utilization.table(here).as_csv())
        self._folder.write(here.links.page("changes", format="csv"), changes.table(here).as_csv())
        for number in range(1, self._pages_of_table + 1):
            asked = self._asked(page=str(number))
            page = utilization.page(asked, ROWS)
            ending = replace(page, values={**page.values, "pages": self._pages_of_table})
            self._write(asked.links.home(page=str(number)), asked, "utilization", ending)
        self._folder.write(here.links.style(), rendering.STYLE.read_text(encoding="utf-8"))
        self._folder.write("robots.txt", rendering.ROBOTS)

    def _write_tops(self, meters: Sequence[str]) -> None:
        """Of the main meter, which is not named, and of each."""
        for meter in ("", *meters):
            asked = self._asked(meter=meter)
            self._write(asked.links.page("top", meter=meter), asked, "top", top.page(asked))
            self._folder.write(asked.links.page("top", format="csv", meter=meter), top.table(asked).as_csv())

    def write_digests(self) -> None:
        here, below = self._asked(), self._asked("../")
        self._write(here.links.page("digests"), here, "digests", digests.listing(here, DIGESTS))
        for day in self.days:
            self._write(here.links.digest(day), below, "digests", digests.page(below, day))

    def write_accounts(self) -> None:
        """A page for each of their meters."""
        links = self._asked().links
        for name, rows in self.meters.items():
            for row in rows:
                asked = self._asked("../", meter=row["meter"])
                self._write(links.account(name, meter=row["meter"]), asked, "account", account.page(asked, name))

    def write_mark(self) -> None:
        """For machines: how old the files are, and how much they have."""
        quality_of_data = queries.data_quality(self._settings.published)
        moments = {"made_at": self._now, **{name: quality_of_data[name] for name in ("as_of", "data_through")}}
        facts = {
            "made_by": "headroom pages export",
            **{name: at.isoformat() if at else None for name, at in moments.items()},
            "accounts": len(self.meters),
            "accounts_in_all": self.in_all,
        }
        self._folder.write(MARK, json.dumps(facts) + "\n")

    def _asked(self, root: str = "", **parameters: str) -> Asked:
        visitor, links = Visitor("export", "internal"), Exported(self._contents, root)
        return Asked(self._settings, self._ledger, self._now, visitor, links, parameters)

    def _write(self, file: str, asked: Asked, name: str, page: Page) -> None:
        self._folder.write(file, rendering.render(page, asked, name))
