"""axe-core finds no barrier in any page: names, landmarks, tables, contrast; on a phone and a desk, day and night."""

from collections.abc import Iterator

import pytest

from tests.clients import installed
from tests.e2e.browser import Browser, open_browser
from tests.support import pages_world
from tests.support.pages_world import Served

pytestmark = pytest.mark.clients

AXE = installed.node("axe-core@4.14.1")
FAULTS = """
    axe.run({resultTypes: ['violations']}).then(found => found.violations.flatMap(
        each => each.nodes.map(node => `${each.id}: ${node.html.slice(0, 200)} ${node.failureSummary}`)))
"""


@pytest.fixture(scope="module")
def script() -> str:
    try:
        return (AXE.install() / "node_modules" / "axe-core" / "axe.min.js").read_text()
    except installed.NotInstalledError as error:
        pytest.skip(f"axe-core cannot be had: {error}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pages_world.served(tmp_path_factory.mktemp("pages")) as pages:
        yield pages


@pytest.fixture(scope="module")
def browser(served: Served, script: str) -> Iterator[Browser]:
    with open_browser() as opened:
        opened.despite_policy()
        opened.open(served.colleague)
        opened.open(served.customer)
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_have_no_barriers(served: Served, browser: Browser, script: str, width: int, scheme: str) -> None:
    faults = {}
    for name, address in served.pages().items():
        browser.open(address, width=width, scheme=scheme)
        browser.value(f"document.querySelectorAll('details').forEach(each => each.open = true); {script}; true")
        if found := browser.value(FAULTS):
            faults[name] = found

    assert faults == {}
