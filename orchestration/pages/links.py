"""How pages name each other: as addresses of the server, or as files beside each other."""

from typing import Protocol
from urllib.parse import quote, urlencode


class Links(Protocol):
    """Where things are, relative to the page that is made."""

    def home(self, **parameters: str) -> str: ...

    def account(self, account_id: str) -> str: ...

    def digest(self, on: str) -> str: ...

    def page(self, name: str, **parameters: str) -> str:
        """`top`, `changes` or `quality`."""
        ...

    def style(self) -> str: ...


def account_path(account_id: str) -> str:
    """The path of an account's page. Browsers take `.` and `..` for folders, however they are written."""
    if account_id in (".", ".."):
        return f"/accounts/?{urlencode({'id': account_id})}"
    return f"/accounts/{quote(account_id, safe='')}"


class Served:
    """Links of the server. `root` is what a proxy puts before its paths, such as `/usage`."""

    def __init__(self, root: str = "") -> None:
        self._root = root.rstrip("/")

    def home(self, **parameters: str) -> str:
        return self._path("/", parameters)

    def account(self, account_id: str) -> str:
        return f"{self._root}{account_path(account_id)}"

    def digest(self, on: str) -> str:
        return f"{self._root}/digests/{quote(on, safe='')}"

    def page(self, name: str, **parameters: str) -> str:
        return self._path(f"/{name}", parameters)

    def style(self) -> str:
        return f"{self._root}/static/pages.css"

    def _path(self, path: str, parameters: dict[str, str]) -> str:
        kept = {name: value for name, value in parameters.items() if value}
        return f"{self._root}{path}{'?' if kept else ''}{urlencode(kept)}"
