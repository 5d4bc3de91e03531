"""What is wrong with a built site: links that lead nowhere, and what a page would load from another host.

The builder checks links from page to page. This also checks links to other files, and what the theme puts around a
page.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

DBT = "dbt/index.html"
"""dbt's own page: its links are made by its script."""
NOT_FOUND = "404.html"
"""The theme's own, which links to a heading that it does not have."""
FETCHED = {"mermaid", "glightbox", "pyodide"}
"""Classes of elements for which the theme's script gets a library from another host."""
_LOADED_BY_STYLE = re.compile(r"(?:@import\s*|url\(\s*)[\"']?(?:https?:)?//[^\"')\s]+")


class Page(HTMLParser):
    """The anchors of a page, where it links to, what it loads, and the classes of its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.classes |= set(given.get("class", "").split())
        if "src" in given:
            self.loads.append(given["src"])
        if "href" in given:
            is_loaded = tag == "link" and given.get("rel") not in ("prev", "next", "canonical")
            (self.loads if is_loaded else self.links).append(given["href"])


def faults(site: Path) -> list[str]:
    return [*_faults_of_pages(site), *_faults_of_styles(site)]


def _faults_of_pages(site: Path) -> Iterator[str]:
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for address in page.loads:
            if urlsplit(address).netloc:
                yield f"{name} loads {address}"
        for each in sorted(page.classes & FETCHED):
            yield f"{name} has class {each}, for which the theme loads a script from another host"
        if name == DBT:
            continue
        for address in (*page.links, *page.loads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            root = site if parts.path.startswith("/") else path.parent
            target = (root / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name} links to {address}: there is no such file"
            elif name == NOT_FOUND or not parts.fragment or target not in pages:
                continue
            elif unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name} links to {address}: the page has no such heading"


def _faults_of_styles(site: Path) -> Iterator[str]:
    for path in sorted(site.rglob("*.css")):
        for match in _LOADED_BY_STYLE.finditer(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} loads {match[0]}"
