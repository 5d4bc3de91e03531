from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestration.channels.preview import PreviewChannel, accounts_in, digest_text, print_digest, wrapped
from orchestration.channels.slack.blocks import digest_message, message_text
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import deliver
from tests.support.builders import NOW, make_digest, make_group


def printed(digest: dict[str, Any], width: int) -> str:
    stream = StringIO()
    print_digest(Console(file=stream, width=width, color_system=None), digest)
    return stream.getvalue()


def mixed() -> dict[str, Any]:
    """A digest with a group of lines and one of names."""
    briefs = [{"name": f"Account {n}", "url": "", "text": "81 %"} for n in range(5)]
    digest = make_digest(2)
    digest["groups"] = [*digest["groups"], make_group("will_not_run_out", 7, briefs=briefs)]
    return {
        **digest,
        "alerted": ["Beta 100 %, alerted Fri 14:05"],
        "links": [{"text": "this run", "url": "https://d/1"}],
    }


def test_digest_shows_the_facts_of_slack_in_the_same_words_and_order() -> None:
    digest = mixed()

    drawn = [line for line in message_text(digest_message(digest, {})[0]).splitlines() if "https" not in line]
    text, at = " ".join(digest_text(digest).split()), 0
    for part in (part for line in drawn for part in line.split(" · ")):
        at = text.index(" ".join(part.split()), at)


def test_digest_fits_a_hundred_columns() -> None:
    assert digest_text(mixed()).splitlines() == [
        "Usage digest · Fri 20 Nov",
        "1 account crossed a threshold.",
        "",
        "Call: upgrade (2)",
        " 1. Acme · 83 k / 100 k (83 %), crossed 80 % today 04:12",
        "    runs out Tue 24 Nov, then calls are refused",
        "    Dana Reyes: call and offer the scale plan (+$450 MRR)",
        " 2. Acme · 83 k / 100 k (83 %), crossed 80 % today 04:12",
        "    runs out Tue 24 Nov, then calls are refused",
        "    Dana Reyes: call and offer the scale plan (+$450 MRR)",
        "",
        "Will not run out this period (7)",
        "    Account 0 81 % · Account 1 81 % · Account 2 81 % · Account 3 81 % · Account 4 81 % · 2 more",
        "",
        "Alerted before this digest (1)",
        "    Beta 100 %, alerted Fri 14:05",
        "",
        "Data through 20 Nov 07:52 UTC · 20 lines rejected",
        "this run: https://d/1",
    ]


@pytest.mark.parametrize("width", [80, 100, 250])
def test_digest_keeps_figures_whole_whatever_the_width_is(width: int) -> None:
    digest = mixed()
    digest["items"] = [{**item, "name": "A very long name of an account " * 3} for item in digest["items"]]
    text = printed(digest, width)

    assert max(map(len, text.splitlines())) <= min(width, 100)
    for part in (*digest["items"][0]["facts"], digest["items"][0]["todo"], *digest["footer"]):
        assert any(part in line for line in text.splitlines())


def test_text_that_fits_no_line_is_broken_at_a_blank() -> None:
    assert wrapped(["a" * 5, "b" * 12 + " c"], 10, 2) == ["aaaaa", "  bbbbbbbb", "  bbbb c"]
    assert wrapped(["one two three four"], 10, 2) == ["one two", "  three", "  four"]
    assert wrapped(["", "x"], 10) == ["x"]


def test_digest_shows_names_as_they_are() -> None:
    name = "[bold]R&D[/bold] <!channel> :fire:"

    assert name in digest_text(make_digest(name=name))


def test_digest_shows_no_control_characters_of_names() -> None:
    digest = {**make_digest(name="a\x1b[2Jb\nc", todo="d\x9be"), "headline": "First to call: a\x1b[2Jb\nc."}

    text = digest_text(digest)
    assert text.count("a\ufffd[2Jb\ufffdc") == 2
    assert "d\ufffde" in text


def test_quiet_digest_is_a_line() -> None:
    text = digest_text(make_digest(0, headline="No account crossed a threshold."))

    assert text.splitlines()[1:3] == ["No account crossed a threshold.", ""]


def test_preview_is_recorded_and_never_sent(tmp_path: Path) -> None:
    ledger, channel = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"), PreviewChannel("Slack")
    with ledger.transaction() as connection:
        ledger.prepare(connection, "key", "slack", {"message": {"text": "hello"}}, NOW)

    delivery = deliver(ledger, "key", channel, lambda: NOW)
    ledger.close()

    assert (delivery.state, delivery.attempts, delivery.receipt) == (State.PREVIEWED, 0, None)
    assert channel.find(delivery) is None
    with pytest.raises(AssertionError):
        channel.send(delivery)


FORMER: dict[str, Any] = {
    "date": "2026-11-20",
    "headline": "1 account crossed a threshold since the last digest.",
    "items": [
        {
            "name": "Acme",
            "used": "83,801",
            "quota": "100,000",
            "pct": "83.8 %",
            "threshold": "80 %",
            "crossed_at": "19 Nov 23:04",
            "hits_cap": "Tue 24 Nov",
        }
    ],
    "sections": [{"title": "Already over the quota", "lines": ["Beta\x1b: 5 / 4"], "more": 2}],
    "told": ["Gamma: told 20 Nov 14:05"],
    "footer": ["20 lines rejected"],
}


def test_digest_that_was_frozen_by_an_earlier_version_can_still_be_shown() -> None:
    text = digest_text(FORMER)

    for line in (
        "Acme · 83,801 / 100,000 (83.8 %) · crossed 80 % 19 Nov 23:04 · Tue 24 Nov",
        "  Beta\ufffd: 5 / 4",
        "  … and 2 more",
        "Gamma: told 20 Nov 14:05",
        "20 lines rejected",
    ):
        assert line in text.splitlines()
    assert accounts_in(FORMER) == 1
    [item] = FORMER["items"]
    oldest = {**FORMER, "items": [{**item, "threshold_pct": 95}]}
    del oldest["items"][0]["threshold"]
    assert "crossed 95 % 19 Nov 23:04" in digest_text(oldest)
