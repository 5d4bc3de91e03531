from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestration.channels.preview import PreviewChannel, digest_text, print_digest
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import deliver
from tests.support.builders import NOW

ITEM = {
    "account_id": "acme",
    "name": "Acme",
    "owner": "dana.reyes@example.com",
    "plan": "growth",
    "severity": "warm",
    "threshold": "80 %",
    "used": "83,801",
    "quota": "100,000",
    "pct": "83.8 %",
    "crossed_at": "19 Nov 23:04",
    "cause": "usage",
    "hits_cap": "Tue 24 Nov",
    "projected": "145,000",
    "mrr": "45.57",
    "sparkline": "▃▃█████▃▃████▅",
}


def make_digest(**fields: Any) -> dict[str, Any]:
    return {
        "date": "2026-11-20",
        "headline": "1 account crossed a threshold since the last digest.",
        "items": [{**ITEM, **fields}],
        "footer": ["Data through 20 Nov 07:52 UTC", "20 lines rejected"],
    }


def printed(digest: dict[str, Any], width: int) -> str:
    stream = StringIO()
    print_digest(Console(file=stream, width=width, color_system=None), digest)
    return stream.getvalue()


def test_digest_shows_every_figure() -> None:
    text = digest_text(make_digest())

    shown = ["name", "owner", "severity", "pct", "crossed_at", "hits_cap", "projected", "mrr", "sparkline"]
    for value in (
        *(ITEM[field] for field in shown if field != "owner"),
        "dana.reyes",
        "80 % 19 Nov",
        "83,801 / 100,000",
        "2026-11-20",
        "20 lines rejected",
    ):
        assert str(value) in text


def test_digest_keeps_figures_whole_when_the_terminal_is_narrow() -> None:
    text = printed(make_digest(name="A very long name of an account " * 3), width=120)

    for figure in ("Projected", "145,000", "83,801 / 100,000", "80 % 19 Nov 23:04"):
        assert figure in text
    assert "…" not in text


def test_digest_shows_names_as_they_are() -> None:
    name = "[bold]R&D[/bold] <!channel> :fire:"

    assert name in printed(make_digest(name=name), width=300)


def test_digest_shows_no_control_characters_of_names() -> None:
    digest = {**make_digest(name="a\x1b[2Jb\nc", owner="d\x9be"), "headline": "First to call: a\x1b[2Jb\nc."}

    text = digest_text(digest)
    assert text.count("a\ufffd[2Jb\ufffdc") == 2
    assert "d\ufffde" in text


def test_quiet_digest_has_no_table() -> None:
    text = digest_text({**make_digest(), "items": [], "headline": "No account crossed a threshold."})

    assert "No account crossed a threshold." in text
    assert "Account " not in text


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


def test_digest_says_why_and_lists_the_others() -> None:
    reasons = {"renewal": "12 Mar 2027", "action": "Call today", "details": ["+3.2 points"], "caveats": ["on trial"]}
    sections = [{"title": "Already over the quota", "lines": ["Beta\x1b: 5 / 4"], "more": 2}]
    links = [{"text": "this run", "url": "https://d/runs/1"}]
    text = digest_text({**make_digest(**reasons), "sections": sections, "links": links})

    for line in (
        "Acme Call today · renews 12 Mar 2027",
        "  +3.2 points",
        "  Note: on trial",
        "Already over the quota",
        "  Beta\ufffd: 5 / 4",
        "  … and 2 more",
        "this run: https://d/runs/1",
    ):
        assert line in text.splitlines()


def test_digest_that_was_frozen_by_an_earlier_version_can_still_be_shown() -> None:
    digest = make_digest(threshold_pct=95)
    del digest["items"][0]["threshold"]

    assert "95 % 19 Nov 23:04" in digest_text(digest)
