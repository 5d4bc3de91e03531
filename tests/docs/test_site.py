"""The site of docs/ is whole: each page has its place, each link leads somewhere, nothing comes from elsewhere."""

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.docs.site import CONFIG, DOCS, SiteError, build
from tests.docs.site_faults import faults
from tests.e2e.browser import Browser, open_browser
from tests.test_docs_links import prose

OVERFLOW = "Math.max(0, document.documentElement.scrollWidth - innerWidth)"
COPIED = """
    (code => (code.setAttribute('data-md-copying', ''), code.innerText))(
        document.querySelector('.language-console code'))
"""
"""What the theme's button copies of the first block."""
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def in_navigation(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            yield from in_navigation(target) if isinstance(target, list) else [target]


@pytest.fixture(scope="module")
def dbt_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What dbt would write: it takes half a minute, and `make docs` waits for it."""
    page = tmp_path_factory.mktemp("dbt") / "static_index.html"
    page.write_text("<title>dbt</title>")
    return page


@pytest.fixture(scope="module")
def site(dbt_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(dbt_page, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def test_every_page_is_in_the_navigation_once() -> None:
    entries = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"]
    assert sorted(target for target in in_navigation(entries) if target.endswith(".md")) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_page_has_one_title_and_skips_no_level(page: str) -> None:
    lines = prose((DOCS / page).read_text(encoding="utf-8"))
    levels = [len(match[1]) for line in lines if (match := re.match(r"(#{1,6})\s", line))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_site_is_built_and_whole(dbt_page: Path, site: Path) -> None:
    assert (site / "dbt" / "index.html").read_text() == dbt_page.read_text()
    assert "/dbt/index.html" in (site / "reference" / "tables.html").read_text(encoding="utf-8")
    assert (site / "files" / "deploy" / "Dockerfile.txt").is_file()
    assert "production|digest|2026-11-20" in (site / "billing" / "ledger.html").read_text(encoding="utf-8")
    assert "HEADROOM_TIMEZONE" in (site / "search.json").read_text(encoding="utf-8")


def test_site_fits_a_phone_and_asks_no_other_host(site: Path, browser: Browser) -> None:
    for page in ("index", "data-in/events", "operate/deploy", "reference/settings"):
        browser.open(site / f"{page}.html", width=390)
        assert (page, browser.value(OVERFLOW)) == (page, 0)

    assert [address for address in browser.requested if not address.startswith("file:")] == []


def test_site_is_dark_where_the_reader_is(site: Path, browser: Browser) -> None:
    for scheme, name in (("light", "default"), ("dark", "slate")):
        browser.open(site / "index.html", scheme=scheme)
        assert browser.value("document.body.dataset.mdColorScheme") == name


def test_copied_block_has_whole_commands_and_no_answer(site: Path, browser: Browser) -> None:
    browser.open(site / "analysts.html")

    command, *more = browser.value(COPIED).strip().splitlines()
    assert command.startswith('headroom sql "select ')
    assert more
    assert all(line.startswith(("from ", "where ")) for line in more)


def test_site_is_not_built_where_a_link_leads_nowhere(dbt_page: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Headroom\n\n[Advice](index.md#advice)\n")

    with pytest.raises(SiteError, match=r"index\.md"):
        build(dbt_page, tmp_path / "out", docs)


@pytest.mark.parametrize(
    ("element", "said"),
    [
        ('<a href="b.html#two">', "a.html links to b.html#two: the page has no such heading"),
        ('<a href="c.toml">', "a.html links to c.toml: there is no such file"),
        ('<img src="c.png">', "a.html links to c.png: there is no such file"),
        ('<script src="https://example.com/s.js"></script>', "a.html loads https://example.com/s.js"),
        ('<link rel="stylesheet" href="//example.com/s.css">', "a.html loads //example.com/s.css"),
        (
            '<pre class="mermaid">',
            "a.html has class mermaid, for which the theme loads a script from another host",
        ),
        ('<a href="https://example.com/">', None),
        ('<a href="b.html#one">', None),
    ],
)
def test_fault_of_a_page_is_found(element: str, said: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(element)
    (tmp_path / "b.html").write_text('<h2 id="one">One</h2>')

    assert faults(tmp_path) == ([said] if said else [])


def test_style_from_another_host_is_found(tmp_path: Path) -> None:
    (tmp_path / "site.css").write_text(
        "@import 'https://example.com/a.css'; /* https://example.com */ a {b: url(c.png)}"
    )

    assert faults(tmp_path) == ["site.css loads @import 'https://example.com/a.css"]
