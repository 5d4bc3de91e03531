"""How a digest reads at Slack, and that all of it arrives within Slack's limits."""

import csv
import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels.slack import SlackChannel
from orchestration.channels.slack_blocks import MAX_ITEMS, digest_message, digest_payloads, table_file
from orchestration.delivery.ledger import Ledger, State
from orchestration.delivery.outbox import deliver, deliver_parts
from tests.builders import FOOTER, NOW, make_digest
from tests.fakes import FakeSlack


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


def test_ordinary_names_leave_room_for_thirty_accounts() -> None:
    message, replies = digest_message(make_digest(30), {})

    assert len(items_of(message)) == 30
    assert replies == []
    assert "more in the thread" not in json.dumps(message)


def test_short_items_are_no_more_than_slack_has_blocks() -> None:
    message, [reply] = digest_message(make_digest(MAX_ITEMS + 1, owner="", sparkline="", mrr=""), {})

    assert (len(items_of(message)), len(items_of(reply))) == (MAX_ITEMS, 1)


def test_digest_draws_every_figure_of_an_account() -> None:
    text = digest_message(make_digest(), {})[0]["blocks"][2]["text"]["text"]

    assert text == (
        "Acme · warm · 83,801 / 100,000 (83.8 %) · hits cap: Tue 24 Nov · projected 145,000 · MRR 45.57"
        " · dana.reyes@example.com\n▃▃█████▃▃████▅"
    )


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
    _, replies = digest_payloads(make_digest(60), [{"account_id": "acme"}], "production", {})

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
