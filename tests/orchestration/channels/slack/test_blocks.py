"""How a digest reads at Slack, and that all of it arrives within Slack's limits."""

import csv
import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels.slack.blocks import (
    CHARACTERS,
    MAX_ITEMS,
    MAX_NEWS,
    digest_message,
    digest_payloads,
    table_file,
)
from orchestration.channels.slack.channel import SlackChannel
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import deliver, deliver_parts
from tests.fakes.slack import FakeSlack
from tests.support.builders import FOOTER, NOW, make_digest


def items_of(message: dict[str, Any]) -> list[str]:
    """The accounts that a message draws."""
    texts = [block["text"]["text"] for block in message["blocks"] if block["type"] == "section"]
    return [text for text in texts if " · warm · " in text]


NAMES = ["Acme", "<&>" * 200, "🦊" * 300, "株式会社" * 100, "a\nb"]


@pytest.mark.parametrize("name", NAMES, ids=range(5))
def test_every_account_arrives_in_order_when_there_are_200(tmp_path: Path, name: str) -> None:
    digest = make_digest(200, headline=f"First to call: {name}.", name=name, owner=name)
    for number, item in enumerate(digest["items"]):
        digest["items"][number] = {**item, "used": f"{number:,}"}
    payload, replies = digest_payloads(digest, [], "local", {})
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    with ledger.transaction() as connection:
        ledger.prepare(connection, "many", "slack", payload, NOW, replies)

    with FakeSlack() as slack:  # it has Slack's limits
        channel = SlackChannel(slack.token, {"sales": slack.channel}, slack.url)
        assert deliver(ledger, "many", channel, lambda: NOW).state is State.SENT
        deliver_parts(ledger, "many", channel, lambda: NOW)

    ledger.close()
    [message] = slack.messages
    thread = slack.threads[message["ts"]]
    drawn = [text for shown in (message, *thread) for text in items_of(shown)]
    assert [text.partition(" · warm · ")[2].partition(" / ")[0] for text in drawn] == [str(n) for n in range(200)]
    shown = len(items_of(message))
    assert message["blocks"][-2]["text"]["text"] == f"… and {200 - shown} more in the thread"
    assert thread[0]["text"].startswith(f"Usage digest 2026-11-20: accounts {shown + 1} to ")
    assert thread[-1]["text"].endswith(" to 200 of 200")


LISTS = [
    {"title": title, "lines": ["Globex Corporation: 1,885 / 1,645 (114.5 %), MRR 1,947.53; on trial"] * 5, "more": 3}
    for title in ("Already over the quota", "Resolved: the quota was raised", "Dropping", "Before the renewal")
]


def test_message_has_ten_ordinary_accounts_and_all_lists() -> None:
    message, [reply] = digest_message({**make_digest(30), "sections": LISTS}, {})

    assert len(items_of(message)) == MAX_NEWS
    assert len(items_of(reply)) == 20
    drawn = [block["text"]["text"].splitlines() for block in message["blocks"][-5:-1]]
    assert [lines[0] for lines in drawn] == [section["title"] for section in LISTS]
    assert all((len(lines), lines[-1]) == (7, "… and 3 more") for lines in drawn)
    assert message["blocks"][-6]["text"]["text"] == "… and 20 more in the thread"


@pytest.mark.parametrize("name", NAMES, ids=range(5))
def test_lists_for_which_there_is_no_room_are_in_the_thread(name: str) -> None:
    lists = [{**section, "lines": [f"{name * 9}: 5 / 4"] * 5} for section in LISTS]
    message, replies = digest_message({**make_digest(3), "sections": lists}, {})

    blocks = [message["blocks"], *(reply["blocks"] for reply in replies)]
    assert max(len(json.dumps(shown)) for shown in blocks) <= CHARACTERS
    drawn = [block["text"]["text"] for shown in blocks for block in shown if block["type"] == "section"]
    titles = [section["title"] for section in LISTS]
    assert [text.splitlines()[0] for text in drawn if text.splitlines()[0] in titles] == titles


def test_short_items_are_no_more_than_slack_has_blocks() -> None:
    short = {"owner": "", "sparkline": "", "mrr": "", "renewal": "", "details": [], "action": ""}
    _, [first, last] = digest_message(make_digest(MAX_NEWS + MAX_ITEMS + 1, **short), {})

    assert (len(items_of(first)), len(items_of(last))) == (MAX_ITEMS, 1)


def test_digest_draws_every_figure_of_an_account() -> None:
    text = digest_message(make_digest(caveats=["on trial", "snoozed"]), {})[0]["blocks"][2]["text"]["text"]

    assert text.splitlines() == [
        "Acme · warm · 83,801 / 100,000 (83.8 %) · hits cap: Tue 24 Nov · projected 145,000",
        "Call today · dana.reyes@example.com · MRR 45.57 · renews 12 Mar 2027",
        "+3.2 points since yesterday 08:00",
        "soft limit: overage starts",
        "Note: on trial; snoozed",
        "▃▃█████▃▃████▅",
    ]


def test_links_are_made_of_their_address_and_our_words() -> None:
    links = [{"text": "this run", "url": "https://d/runs/1"}, {"text": "definition", "url": "https://d/x"}]
    footer = digest_message({**make_digest(), "links": links}, {})[0]["blocks"][-1]

    assert footer["elements"] == [{"type": "mrkdwn", "text": "<https://d/runs/1|this run> · <https://d/x|definition>"}]


def test_digest_leaves_out_the_revenue_when_it_is_unknown() -> None:
    assert "MRR" not in digest_message(make_digest(mrr=""), {})[0]["blocks"][2]["text"]["text"]


def test_owner_is_mentioned_by_the_user_id_alone() -> None:
    section = digest_message(make_digest(), {"dana.reyes@example.com": "U0DANA"})[0]["blocks"][2]

    assert section["fields"] == [{"type": "mrkdwn", "text": "<@U0DANA>"}]
    assert "dana.reyes" not in section["text"]["text"]


def test_quiet_day_says_so_in_one_message() -> None:
    quiet = "No account crossed a threshold since the last digest."
    payload, replies = digest_payloads(make_digest(0, headline=quiet), [{"account_id": "acme"}], "local", {})

    header, headline, footer = payload["message"]["blocks"]
    assert payload["message"]["text"] == headline["text"]["text"] == quiet
    assert header["text"]["text"] == "Usage digest 2026-11-20"
    assert footer["elements"][0]["text"] == " · ".join(FOOTER)
    assert replies == []


def test_table_comes_last_as_a_file_with_a_name_of_its_own() -> None:
    _, replies = digest_payloads(make_digest(MAX_NEWS + 1), [{"account_id": "acme"}], "production", {})

    assert [list(reply) for reply in replies] == [["message"], ["file"]]
    assert replies[-1]["file"]["name"] == "usage-digest-production-2026-11-20.csv"


@pytest.mark.parametrize("letter", ["x", "x ", "🦊", "<", "é\n"], ids=range(5))
def test_notes_on_the_first_accounts_are_whole_and_within_slacks_limits(letter: str) -> None:
    note = letter * (4_000 // len(letter))
    digest = make_digest(5, notes=["Top endpoints: /v1/search", note])
    _, replies = digest_payloads(digest, [], "local", {})

    titles, texts = [], []
    for reply in replies:
        title, *sections = reply["message"]["blocks"]
        assert len(json.dumps(reply["message"]["blocks"])) < 11_000
        assert len(sections) < 50
        titles.append(title["text"]["text"])
        texts += [section["text"]["text"] for section in sections]
    assert set(titles) == {"Acme"}
    assert "".join(texts) == f"Top endpoints: /v1/search{note}" * 3


def test_empty_note_is_left_out() -> None:
    assert digest_payloads(make_digest(1, notes=["", " \n"]), [], "local", {})[1] == []


def test_first_accounts_have_a_picture_where_they_have_calls() -> None:
    digest = make_digest(5, calls=[1, 2])
    digest["items"][1] = {**digest["items"][1], "calls": [0, 0]}
    _, replies = digest_payloads(digest, [{"account_id": "acme"}], "local", {})

    names = [reply["file"]["name"].removeprefix("usage-digest-local-2026-11-20") for reply in replies]
    assert names == ["-1.png", "-3.png", ".csv"]
    assert replies[0]["file"]["title"] == "Acme: calls by day, at most 2"


@pytest.mark.parametrize("name", ["=1+1", "+49", "-x", "@sum", "\t=1", "\r=1"])
def test_name_is_no_formula_in_a_spreadsheet(name: str) -> None:
    row = {"account_id": name, "used": -5, "pct": Decimal("-79.960000"), "on": date(2026, 11, 24), "owner": None}
    file = table_file("x.csv", "x", [row])

    [line] = csv.DictReader(io.StringIO(file["content"].removeprefix("\ufeff"), newline=""))
    assert line == {"account_id": f"'{name}", "used": "-5", "pct": "-79.960000", "on": "2026-11-24", "owner": ""}


@pytest.mark.parametrize("name", ["Acme, Inc.", 'the "best"', "a\nb", "<!channel>", "株式会社", "a=b"])
def test_name_reads_as_it_is_in_a_spreadsheet(name: str) -> None:
    file = table_file("x.csv", "x", [{"account_id": name}])

    [line] = csv.DictReader(io.StringIO(file["content"].removeprefix("\ufeff"), newline=""))
    assert line == {"account_id": name}
