"""The pages in a real browser: on a phone and a desk, by keyboard, on paper, without scripts, and from one origin."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.browser import Browser, open_browser
from tests.support import pages_world
from tests.support.pages_world import HOSTILE, Served

WIDTHS = (390, 1280)
PAPER_WIDTH = 718
"""Of A4 between its margins."""
FIRST = "Skip to the figures"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SCROLLED = """
    [...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1
        && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).map(e => e.className + ' ' + e.ariaLabel)
"""
STRUCTURE = """
    [['main', 'h1'].map(each => document.querySelectorAll(each).length),
     [...document.querySelectorAll('table')].filter(e => !e.caption || e.querySelector('th:not([scope])')).length]
"""
UNSEEN = """
    [...document.querySelectorAll('#accounts tbody :is(th, td)')]
        .filter(e => e.innerText.trim() && !e.getClientRects().length).map(e => e.outerHTML)
"""
FOCUSED = """
    (e => e === document.body ? null : {
        what: e.ariaLabel || e.id || e.innerText, account: e.closest('tr')?.dataset.account ?? '',
        seen: getComputedStyle(e).outlineStyle !== 'none' && e.getBoundingClientRect().left >= 0,
    })(document.activeElement)
"""
MOST_STOPS = 300
MENU = "[...document.querySelectorAll('nav, form, .skip')].filter(e => getComputedStyle(e).display !== 'none').length"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pages_world.served(tmp_path_factory.mktemp("browser")) as pages:
        yield pages


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[Browser]:
    """Of somebody with a colleague's link, and a customer's."""
    with open_browser() as opened:
        opened.open(served.colleague)
        opened.open(served.customer)
        yield opened


def test_every_page_fits_its_window_and_is_well_formed(served: Served, browser: Browser) -> None:
    browser.complaints.clear()
    for name, address in served.pages().items():
        for width in WIDTHS:
            browser.open(address, width=width)
            assert browser.value(OVERFLOW) <= 0, (name, width)
            assert browser.value(SCROLLED) == [], (name, width)
            assert browser.value(STRUCTURE) == [[1, 1], 0], name

    assert {url for url in browser.requested if not url.startswith(f"{served.url}/")} == set()
    assert [each for each in browser.complaints if "404" not in each] == []


def test_phone_shows_every_figure_of_the_table(served: Served, browser: Browser) -> None:
    browser.open(served.url, width=390)

    assert browser.value("document.querySelectorAll('#accounts tbody tr').length") == 50
    assert browser.value(UNSEEN) == []


def test_paper_is_white_and_has_no_menu(served: Served, browser: Browser) -> None:
    browser.open(served.url)
    browser.show(PAPER_WIDTH, scheme="dark", media="print")

    assert browser.value(OVERFLOW) <= 0
    assert browser.value(MENU) == 0
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_keyboard_alone_reaches_everything_without_scripts(served: Served, browser: Browser) -> None:
    browser.without_scripts()
    browser.open(served.url)

    stops = list(_stops(browser))
    assert [stop for stop in stops if not stop["seen"]] == []
    names = [stop["what"] for stop in stops]
    order = [FIRST, "Headroom", "Top 20", "q", "segment", "sort", "Show", "Download as CSV", "Accounts"]
    order += ["Percent", "What to do", next(stop["what"] for stop in stops if stop["account"]), "Next"]
    assert [name for name in names if name in order] == order


def test_keyboard_opens_an_account_and_leaves_it_again(served: Served, browser: Browser) -> None:
    browser.without_scripts()
    browser.open(f"{served.url}/?q=script")
    account = next(stop for stop in _stops(browser) if stop["account"])
    browser.press("Enter", loads=True)

    assert browser.value("document.querySelector('h1').innerText") == account["what"] == HOSTILE[0]
    names = [stop["what"] for stop in _stops(browser)]
    assert {"from", "to", "Show these days", "Draft of an e-mail, not sent"} <= set(names)
    assert len(names) < MOST_STOPS


def _stops(browser: Browser) -> Iterator[dict[str, Any]]:
    """Where Tab leads, from the top of the page to its end; a field of several parts is one stop."""
    last = None
    for _ in range(MOST_STOPS):
        browser.press("Tab")
        stop = browser.value(FOCUSED)
        if stop is None or (last and stop["what"] == FIRST):
            return
        if stop != last:
            yield stop
        last = stop
