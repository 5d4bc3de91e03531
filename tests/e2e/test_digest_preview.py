"""`headroom digest --preview`: what people see in the terminal and in a browser is what Slack gets, and only a look."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser, open_browser
from tests.e2e.program import DAY, Program
from tests.fakes.slack import FakeSlack
from tests.support.builders import land, make_event, make_quota

KEY = f"local|digest|{DAY}|slack"
NAMES = {
    "acme": "<script>document.title = 'x'</script>",
    "beta": "<!channel> *b* <https://evil.example|x>",
    "gamma": "</p><img src=https://evil.example/x.png> & Söhne",
}
ELEMENTS = "[...new Set([...document.body.querySelectorAll('*')].map(e => e.tagName.toLowerCase()))].sort()"
ADDRESSES = "[...document.querySelectorAll('[src], [href]')].map(e => (e.src || e.href).split(',')[0])"
BODIES = "[...document.querySelectorAll('.body > :not(.head)')].map(e => e.alt || e.innerText).join('\\n')"
OPENED = "document.querySelectorAll('details').forEach(e => e.open = true)"


@pytest.fixture(scope="module")
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        yield server


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, slack: FakeSlack) -> Program:
    """Three accounts at 80 %, and one that was there long ago, counted and published; no digest was decided yet."""
    program = Program(tmp_path_factory.mktemp("preview"))
    program.with_slack(slack)
    quotas = [make_quota(account, 5, "2024-11-01T00:00:00Z") for account in (*NAMES, "old")]
    land(program.landing, "quotas.ndjson", *quotas)
    land(program.landing, "old.ndjson", *(make_event("old", f"2024-11-05T0{hour}:00:00Z") for hour in range(4)))
    times = [f"{DAY}T0{hour}:00:00Z" for hour in range(4)]
    land(program.landing, "calls.ndjson", *(make_event(account, time) for account in NAMES for time in times))
    program.data.mkdir()
    lines = "".join(f'{account},"{name}"\n' for account, name in NAMES.items())
    (program.data / "accounts.csv").write_text(f"account_id,name\n{lines}")
    program.run("run", HEADROOM_ENV="staging", SLACK_BOT_TOKEN="")  # what another environment announced is news here
    return program


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def page(program: Program, day: str = DAY) -> Path:
    return program.data / "preview" / f"digest-{day}.html"


# The tests of this module are the morning of one installation.


def test_preview_shows_what_would_be_sent_and_records_nothing(program: Program, slack: FakeSlack) -> None:
    shown = program.run("digest", "--preview").stdout

    assert "3 accounts crossed 80 %" in shown
    assert all(name[:39] in shown for name in NAMES.values())
    assert f"As it would be sent, with the figures of {DAY} 08:00 UTC." in shown
    assert shown.splitlines()[-1] == f"As Slack shows it: {page(program)}"
    assert slack.requests == []
    assert program.ledger("select key from deliveries where key like 'local%'") == []
    assert program.ledger("select account_id from announced_crossings where env = 'local'") == []


def test_page_shows_every_account_and_takes_no_name_for_more_than_text(program: Program, browser: Browser) -> None:
    browser.open(page(program))

    text = browser.value("document.body.innerText")
    assert all(name in text for name in NAMES.values())
    elements = [
        "article",
        "b",
        "blockquote",
        "br",
        "li",
        "ol",
        "ul",
        "details",
        "div",
        "h2",
        "i",
        "img",
        "main",
        "p",
        "section",
        "span",
        "summary",
    ]
    assert set(browser.value(ELEMENTS)) <= {*elements, "table", "tbody", "td", "time", "tr"}
    assert set(browser.value(ADDRESSES)) <= {"data:image/png;base64"}
    assert browser.value("document.title") == f"Usage digest {DAY}"
    assert [url for url in browser.requested if not url.startswith("file:")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_is_readable_by_day_and_night(program: Program, browser: Browser, scheme: str) -> None:
    browser.open(page(program), width=390, scheme=scheme)
    browser.value(OPENED)

    assert browser.value("document.documentElement.scrollWidth") == 390
    paper, ink = browser.value(
        "['backgroundColor', 'color'].map(n => getComputedStyle(document.querySelector('.window'))[n].match(/\\d+/)[0])"
    )
    assert (int(paper) > 200 > 100 > int(ink)) if scheme == "light" else (int(ink) > 200 > 100 > int(paper))


def test_preview_shows_what_was_sent(program: Program, slack: FakeSlack, browser: Browser) -> None:
    browser.open(page(program))
    draft = browser.value(BODIES)
    program.run("run", "--only", "digest")
    requests = len(slack.requests)

    shown = program.run("digest", "--preview", "--date", DAY).stdout

    assert "\nSent 20" in shown
    assert len(slack.requests) == requests
    browser.open(page(program))
    assert browser.value(BODIES) == draft
    [message] = slack.messages
    texts = re.findall(r'"text": "([^"\\]+)"', json.dumps(message["blocks"], ensure_ascii=False))
    assert texts
    assert [text for text in texts if " ".join(text.split()) not in " ".join(draft.split())] == []
    assert all(file["name"] in draft or file["alt"] in draft for file in slack.uploads.values())


def test_announced_crossing_is_no_news_but_can_be_drawn_again(program: Program, browser: Browser) -> None:
    browser.open(page(program))
    sent = browser.value(BODIES)
    tomorrow = program.run("digest", "--preview", "--date", "2024-11-21").stdout
    again = program.run("digest", "--preview", "--redraw").stdout

    assert "No account crossed a threshold" in tomorrow
    assert "As it would be sent" in again
    browser.open(page(program))
    assert browser.value(BODIES) == sent
    assert program.ledger("select key from deliveries where key like 'local%' and parent is null") == [(KEY,)]
