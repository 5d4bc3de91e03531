"""How pages name each other: as addresses of the server, or as files beside each other."""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode

SLUG_CHARACTERS = 40
"""Of an id in the name of a file, for people. The hash after it tells ids apart."""


class Links(Protocol):
    """Where things are, relative to the page that is made."""

    @property
    def is_served(self) -> bool:
        """A server answers: there are searches, filters and days to choose. Else pages are files."""
        ...

    def home(self, **parameters: str) -> str: ...

    def account(self, account_id: str, **parameters: str) -> str: ...

    def digest(self, on: str) -> str: ...

    def page(self, name: str, **parameters: str) -> str:
        """`top`, `changes`, `digests` or `quality`."""
        ...

    def style(self) -> str: ...


def account_path(account_id: str) -> str:
    """The path of an account's page. Browsers take `.` and `..` for folders, however they are written."""
    if account_id in (".", ".."):
        return f"/accounts/?{urlencode({'id': account_id})}"
    return f"/accounts/{quote(account_id, safe='')}"


class Served:
    """Links of the server. `root` is what a proxy puts before its paths, such as `/usage`."""

    is_served = True

    def __init__(self, root: str = "") -> None:
        self._root = root.rstrip("/")

    def home(self, **parameters: str) -> str:
        return self._path("/", parameters)

    def account(self, account_id: str, **parameters: str) -> str:
        return self._path(account_path(account_id), parameters)

    def digest(self, on: str) -> str:
        return f"{self._root}/digests/{quote(on, safe='')}"

    def page(self, name: str, **parameters: str) -> str:
        return self._path(f"/{name}", parameters)

    def style(self) -> str:
        return f"{self._root}/static/pages.css"

    def _path(self, path: str, parameters: dict[str, str]) -> str:
        kept = {name: value for name, value in parameters.items() if value}
        joined = "" if not kept else "&" if "?" in path else "?"
        return f"{self._root}{path}{joined}{urlencode(kept)}"


@dataclass(frozen=True)
class Contents:
    """What an export has."""

    main_meters: Mapping[str, str]
    """Of each account that has a page: the meter that the page shows. Its other meters have pages of their own."""
    digests: Collection[str]
    """Their business days, ISO 8601."""
    said: str
    """What the export is, for the foot of each page."""


class Exported:
    """Links between files. `root` leads from the page to the folder: empty, or `../`.

    What only a server can answer leads to the page as it is. What has no file leads to the list, which says why.
    """

    is_served = False

    def __init__(self, contents: Contents, root: str = "") -> None:
        self._contents, self._root = contents, root
        self.said = contents.said

    def home(self, **parameters: str) -> str:
        if parameters.get("format") == "csv":
            return f"{self._root}utilization.csv"
        number = parameters.get("page", "1")
        return f"{self._root}{'index.html' if number == '1' else f'index-{number}.html'}"

    def account(self, account_id: str, **parameters: str) -> str:
        main = self._contents.main_meters.get(account_id)
        if main is None:
            return f"{self._root}accounts.html#not-here"
        meter = parameters.get("meter", main)
        return f"{self._root}accounts/{account_file(account_id, '' if meter == main else meter)}"

    def digest(self, on: str) -> str:
        return f"{self._root}digests/{on}.html" if on in self._contents.digests else self.page("digests")

    def page(self, name: str, **parameters: str) -> str:
        meter = f".{file_part(parameters['meter'])}" if parameters.get("meter") else ""
        return f"{self._root}{name}{meter}.{'csv' if parameters.get('format') == 'csv' else 'html'}"

    def style(self) -> str:
        return f"{self._root}static/pages.css"


def account_file(account_id: str, meter: str = "") -> str:
    """The name of the file of an account's page, or of a further meter of it.

    It is safe on every file system, and another one for each id, also where letters have no case. The same id has the
    same name in each export.
    """
    return f"{file_part(account_id)}{f'.{file_part(meter)}' if meter else ''}.html"


def file_part(name: str) -> str:
    """A name as a part of a file's: what people recognise, and a hash of all of it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:SLUG_CHARACTERS].strip("-")
    return f"{slug}-{digest}" if slug else digest
