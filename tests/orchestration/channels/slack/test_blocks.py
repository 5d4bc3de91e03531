"""How a digest reads at Slack, and that all of it arrives within Slack's limits."""

import csv
import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels.slack import blocks
from orchestration.channels.slack.blocks import (
    MAX_ITEMS,
    MAX_NEWS,
    TEXT_CHARACTERS,
    digest_message,
    digest_payloads,
    message_text,
)
from orchestration.channels.slack.channel import SlackChannel
from orchestration.channels.slack.files import table_file
from orchestration.channels.slack.notices import CHARACTERS
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import deliver, deliver_parts
from tests.fakes.slack import FakeSlack
from tests.support.builders import CHART, FOOTER, ITEM, NOW, make_digest, make_group


def lines_of(message: dict[str, Any]) -> list[str]:
    return message_text(message).splitlines()


def elements(value: Any, kind: str) -> list[dict[str, Any]]:
    """All elements of a kind, however deep."""
    if isinstance(value, dict):
        found = [value] if value.get("type") == kind else []
        return found + [each for inner in value.values() for each in elements(inner, kind)]
    return [each for inner in value for each in elements(inner, kind)] if isinstance(value, list) else []


NAMES = ["Acme", "<&>" * 200, "🦊" * 300, "株式会社" * 100, "a\nb", " ", "\u200b"]


@pytest.mark.parametrize("name", NAMES[:5], ids=range(5))
def test_every_account_arrives_in_order_when_there_are_200(tmp_path: Path, name: str) -> None:
    digest = make_digest(200, headline=f"First to call: {name}.", name=name, owner=name, owner_name=name)
    digest["items"] = [{**item, "details": [f"account {number}"]} for number, item in enumerate(digest["items"])]
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
    details = [line for reply in thread for line in lines_of(reply) if line.startswith("• account")]
    assert details == [f"• account {number}" for number in range(200)]
    shown = sum(line[:1].isdigit() for line in lines_of(message))
    assert 0 < shown <= MAX_NEWS
    assert f"… and {200 - shown} more in the thread" in lines_of(message)
    assert len(message_text(message)) <= TEXT_CHARACTERS + 100  # line ends are not counted


def mixed(names: int, name: str = "Globex Corporation") -> dict[str, Any]:
    """A digest with lines and with lines of so many names."""
    briefs = [{"name": name, "url": "", "text": "114 %"}] * min(names, 5)
    keys = ("csm_check_in", "do_not_pitch", "will_not_run_out", "resolved")
    groups = [make_group(key, names, briefs=briefs) for key in keys]
    digest = make_digest(30)
    return {**digest, "groups": [*digest["groups"], *groups]}


def test_message_has_ten_ordinary_accounts_and_all_lines_of_names() -> None:
    message, replies = digest_message(mixed(3), {})
    lines = lines_of(message)

    assert lines[:4] == [
        "Usage digest · Fri 20 Nov",
        "1 account crossed a threshold.",
        "Call: upgrade (30)",
        (
            "1. Acme · 83 k / 100 k (83 %), crossed 80 % today 04:12 · runs out Tue 24 Nov, then calls are refused"
            " · Dana Reyes: call and offer the scale plan (+$450 MRR)"
        ),
    ]
    assert [line for line in lines if line.startswith(f"{MAX_NEWS}. Acme")]
    assert lines[13] == "… and 20 more in the thread"
    names = " · ".join(["Globex Corporation 114 %"] * 3)
    assert lines[14] == f"Usage dropped or stopped: check in (3)  {names}"
    assert sum(lines_of(reply).count("Acme  ▃▃█████▃▃████▅") for reply in replies) == 30


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_message_is_one_screen_whatever_the_names_are(name: str) -> None:
    digest = mixed(40, name)
    digest["items"] = [{**item, "name": name} for item in digest["items"]]
    message, replies = digest_message(digest, {})

    assert sum(map(len, lines_of(message))) <= TEXT_CHARACTERS
    assert max(len(json.dumps(shown["blocks"])) for shown in (message, *replies)) <= CHARACTERS
    assert all(f"({group['count']})" in message_text(message) for group in digest["groups"])
    with FakeSlack() as slack:
        for shown in (message, *replies):
            posted = slack.answer("chat.postMessage", {"channel": slack.channel, **shown}, slack.token)
            assert '"ok": true' in str(posted.body)


def test_short_items_are_no_more_than_slack_has_blocks() -> None:
    _, [first, last] = digest_message(make_digest(MAX_ITEMS + 1, sparkline="", details=[]), {})

    assert [sum(line == "Acme" for line in lines_of(reply)) for reply in (first, last)] == [MAX_ITEMS, 1]
    assert lines_of(last)[0] == "Dana Reyes: 41 accounts, continued"


def test_owner_has_one_reply_and_one_ping() -> None:
    """Seen: an owner was pinged for each account. The message itself has names and no addresses."""
    digest = make_digest(3)
    digest["items"] += [{**ITEM, "owner": "omar@example.com", "owner_name": "Omar"}, {**ITEM, "owner": ""}]
    digest["items"][-1]["owner_name"] = "no owner"
    message, replies = digest_message(digest, {"dana.reyes@example.com": "U0DANA"})

    assert [lines_of(reply)[0] for reply in replies] == [
        "@U0DANA: 3 accounts",
        "Omar: 1 account",
        "no owner: 1 account",
    ]
    assert elements(message["blocks"], "user") == []
    assert elements([reply["blocks"] for reply in replies], "user") == [{"type": "user", "user_id": "U0DANA"}]
    assert "@example.com" not in json.dumps([message, replies])


def test_thread_has_the_exact_figures_and_what_needs_no_action() -> None:
    digest = mixed(1)
    digest["items"] = [ITEM, {**ITEM, "group": "will_not_run_out", "name": "Slow"}]
    digest["known"] = [{"title": "Quota used up on an earlier day (3)", "lines": ["Beta: 5 / 4"], "more": 2}]
    _, [owner, quiet, known] = digest_message(digest, {"dana.reyes@example.com": "U0DANA"})

    assert lines_of(owner) == [
        "@U0DANA: 1 account",
        "Acme  ▃▃█████▃▃████▅",
        ("• 83,801 / 100,000 calls (83.8 %) · crossed 80 % today 04:12 · runs out Tue 24 Nov, then calls are refused"),
        "• projected 145,000 · +3.2 points since yesterday 08:00",
    ]
    assert lines_of(quiet)[:2] == ["No action needed", "Slow · Dana Reyes  ▃▃█████▃▃████▅"]
    assert elements(quiet["blocks"], "user") == []
    assert lines_of(known) == ["Quota used up on an earlier day (3)", "• Beta: 5 / 4", "• … and 2 more"]


def test_payload_says_which_accounts_it_is_about_and_slack_gets_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_ITEMS", 2)
    digest = make_digest(4, notes=[{"title": "Top endpoints", "text": "/v1/search"}])
    digest["items"] = [{**item, "account_id": f"a{number}"} for number, item in enumerate(digest["items"])]
    digest["known"] = [{"title": "Quota used up on an earlier day (3)", "lines": ["Beta: 5 / 4"], "more": 2}]
    payload, replies = digest_payloads(digest, [], "local", {})

    meter = ITEM["meter"]
    assert payload["about"] == [["a0", meter], ["a1", meter], ["a2", meter], ["a3", meter]]
    first, continued, known, *notes = replies
    assert first["about"] == [["a0", meter], ["a1", meter]]
    assert continued["about"] == [["a2", meter], ["a3", meter]]
    assert "about" not in known
    assert [note["about"] for note in notes] == [[["a0", meter]], [["a1", meter]], [["a2", meter]]]
    assert all(set(reply["message"]) == {"text", "blocks"} for reply in replies)


def test_name_is_bold_text_or_a_link_to_its_page_and_nothing_else() -> None:
    name = "<!channel> *b* <https://evil.example|x>"
    [plain] = elements(digest_message(make_digest(name=name), {})[0]["blocks"], "rich_text_list")[0]["elements"]
    url = "https://crm.example.com/acme"
    [linked] = elements(digest_message(make_digest(url=url), {})[0]["blocks"], "rich_text_list")[0]["elements"]

    assert plain["elements"][0] == {"type": "text", "text": name, "style": {"bold": True}}
    assert linked["elements"][0] == {"type": "link", "url": url, "text": "Acme", "style": {"bold": True}}


def test_links_are_made_of_their_address_and_our_words() -> None:
    links = [{"text": "this run", "url": "https://d/runs/1"}, {"text": "definition", "url": "https://d/x"}]
    footer = digest_message({**make_digest(), "links": links}, {})[0]["blocks"][-1]

    assert footer["elements"] == [{"type": "mrkdwn", "text": "<https://d/runs/1|this run> · <https://d/x|definition>"}]


def test_quiet_day_is_one_line() -> None:
    quiet = "No account crossed a threshold since Thu 19 Nov 08:00 CET."
    payload, replies = digest_payloads(make_digest(0, headline=quiet), [{"account_id": "acme"}], "local", {})

    assert lines_of(payload["message"]) == [quiet, " · ".join(FOOTER)]
    assert payload["message"]["text"] == quiet
    assert replies == []


def test_table_comes_last_as_a_file_with_a_name_of_its_own() -> None:
    digest = make_digest(1, chart=CHART)
    _, replies = digest_payloads(digest, [{"account_id": "acme"}], "production", {})

    names = [reply["file"]["name"] for reply in replies[1:]]
    assert names == ["usage-digest-production-2026-11-20-1.png", "usage-digest-production-2026-11-20.csv"]
    assert [list(reply) for reply in replies] == [["message", "about"], ["file"], ["file"]]
    _, without = digest_payloads(digest, [{"account_id": "acme"}], "production", {}, with_files=False)
    assert without == replies[:1]


@pytest.mark.parametrize("letter", ["x", "x ", "🦊", "<", "é\n"], ids=range(5))
def test_notes_on_the_first_accounts_are_whole_and_within_slacks_limits(letter: str) -> None:
    text = letter * (4_000 // len(letter))
    notes = [{"title": "Top endpoints", "text": "/v1/search"}, {"title": "Draft, not sent", "text": text}]
    _, [_, *replies] = digest_payloads(make_digest(5, notes=notes), [], "local", {})

    titles, texts = [], []
    for reply in replies:
        assert len(json.dumps(reply["message"]["blocks"])) <= CHARACTERS
        titles.append(lines_of(reply["message"])[0])
        texts += [quote["elements"][0]["text"] for quote in elements(reply["message"]["blocks"], "rich_text_quote")]
    assert {title.removesuffix(", continued") for title in titles} == {"Acme · Top endpoints", "Acme · Draft, not sent"}
    assert "".join(texts) == f"/v1/search{text}" * 3


def test_draft_has_a_link_that_opens_it_as_an_email() -> None:
    address = "mailto:ann@acme.example?subject=Acme"
    _, [_, reply] = digest_payloads(
        make_digest(notes=[{"title": "Draft, not sent", "text": "Hello", "mailto": address}]), [], "local", {}
    )

    [link] = elements(reply["message"]["blocks"], "link")
    assert (link["url"], link["text"]) == (address, "open as e-mail")


def test_empty_note_is_left_out() -> None:
    notes = [{"title": "a", "text": ""}, {"title": "b", "text": " \n"}]
    assert len(digest_payloads(make_digest(1, notes=notes), [], "local", {})[1]) == 1


def test_first_accounts_have_a_picture_where_they_have_calls() -> None:
    digest = make_digest(5, chart=CHART)
    digest["items"][1] = ITEM
    _, replies = digest_payloads(digest, [{"account_id": "acme"}], "local", {})

    files = [reply["file"] for reply in replies if "file" in reply]
    names = [file["name"].removeprefix("usage-digest-local-2026-11-20") for file in files]
    assert names == ["-1.png", "-3.png", ".csv"]
    assert files[0]["title"] == "Acme: 40 of 100 used after 3 of 30 days"


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
