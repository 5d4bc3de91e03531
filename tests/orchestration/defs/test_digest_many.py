"""Two hundred accounts cross in one night, and their names are what people and attackers type."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.slack import ERROR_AFTER, LOST_AFTER, FakeSlack
from tests.orchestration.defs.installation import BUILT_AT, Installation, announced, built_marts, outcome

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::dagster.BetaWarning")  # Dagster's own

NAMES = [
    "<!channel> <!here> <!everyone>",
    "<https://evil.example|invoice>",
    "<@U0SOMEBODY>",
    "*bold* _italic_ ~struck~ `code`",
    "R&D &amp; Söhne &lt;GmbH&gt;",
    "two\r\nlines\tand a tab",
    "\u202eover\u2067ride",
    "שלום בע״מ",
    "🦄 👩‍👩‍👧 :smile:",
    "long " * 60,
    "@channel #general https://evil.example",
]
ACCOUNTS = {f"account-{n:03}": f"#{n:03} {NAMES[n % len(NAMES)]}" for n in range(200)}


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with built_marts(tmp_path_factory.mktemp("marts") / "data", ACCOUNTS) as it:
        yield it


@pytest.fixture
def installation(data: Path, marts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with FakeSlack() as slack:
        installation = Installation(data, marts, slack, monkeypatch)
        installation.at(BUILT_AT)
        installation.publish(*ACCOUNTS)
        yield installation
        installation.instance.dispose()


def test_all_accounts_arrive_once_in_order_with_their_names_unchanged(installation: Installation) -> None:
    installation.slack.room[installation.slack.channel] = 2  # the message and one reply
    assert "ratelimited" in outcome(installation.materialize())
    installation.slack.room.clear()
    for fault in (LOST_AFTER, ERROR_AFTER):
        installation.slack.then(fault)
        assert "the next run looks before it posts again" in outcome(installation.materialize())
    assert outcome(installation.materialize()).startswith("already delivered")

    assert announced(installation) == {"2024-11-20": list(ACCOUNTS)}
    assert set(installation.slack.counts().values()) == {1}
    [message] = installation.slack.messages
    thread = installation.slack.threads[message["ts"]]
    shown = [text for posted in (message, *thread) for text in texts(posted.get("blocks", []))]
    assert list(dict.fromkeys(re.findall(r"#(\d{3}) ", " ".join(shown)))) == [name[-3:] for name in ACCOUNTS]
    for name in ACCOUNTS.values():
        assert any(readable(name) in text for text in shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", json.dumps([message, thread], ensure_ascii=False))
    assert all("<" not in posted["text"] for posted in (message, *thread))


def texts(value: Any) -> list[str]:
    """Every text that is drawn, none of which is anything but plain."""
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("text"), str):
        assert value["type"] in ("plain_text", "text")
        assert value["type"] == "plain_text" or set(value) <= {"type", "text", "style"}
        return [value["text"]]
    return [text for each in value.values() for text in texts(each)]


def readable(name: str) -> str:
    """Its beginning, on one line."""
    return " ".join(re.sub("[\u202a-\u202e\u2066-\u2069]", "", name).split())[:75]
