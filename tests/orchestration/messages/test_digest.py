"""`headroom digest --preview` of a digest that the ledger has; tests/e2e/test_digest_preview.py has the others."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration import settings
from orchestration.channels.slack.blocks import digest_payloads
from orchestration.cli.main import app
from orchestration.ledger.ledger import Ledger, State
from orchestration.messages.digest import digest_key, preview_digest
from tests.support.builders import CHART, NOW, make_digest

DAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.PREPARED, "Decided 2026-11-20 03:00 EST, not sent yet."),
        (State.SENDING, "Decided, in doubt: it may have been sent. The next run looks for it."),
        (State.SENT, "Sent 2026-11-20 04:00 EST."),
        (State.FAILED, "Decided, not sent: invite the bot"),
        (
            State.PREVIEWED,
            "Decided 2026-11-20 04:00 EST, not sent: set SLACK_BOT_TOKEN and HEADROOM_SLACK_CHANNEL to send.",
        ),
    ],
)
def test_preview_says_how_far_a_digest_is(
    data: Path, monkeypatch: pytest.MonkeyPatch, state: State, status: str
) -> None:
    monkeypatch.setenv("HEADROOM_TIMEZONE", "America/New_York")
    config = settings.load()
    ledger, key = Ledger(config.ledger_url), digest_key("local", "2026-11-20")
    payload, replies = digest_payloads(make_digest(1, chart=CHART), [], "local", {})
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, "slack", payload, NOW, replies)
    delivery = ledger.delivery(key)
    assert delivery
    if state is State.SENDING:
        ledger.claim(delivery, NOW)
    elif state is not State.PREPARED:
        ledger.finish(delivery, state, NOW + timedelta(hours=1), None, "invite the bot")
    ledger.close()

    shown = preview_digest(config, DAY, "slack", digest_payloads, None, warn=print)

    assert shown.status == status
    assert (shown.payload, shown.replies) == (payload, replies)


def test_preview_says_what_to_do_when_nothing_was_published(data: Path) -> None:
    result = CliRunner().invoke(app, ["digest", "--preview"])

    assert result.exit_code == 1
    assert "`headroom run` builds and publishes it" in result.output


def test_digest_without_a_flag_is_the_preview_and_sends_nothing(data: Path) -> None:
    config = settings.load()
    ledger, key = Ledger(config.ledger_url), digest_key("local", "2026-11-20")
    payload, replies = digest_payloads(make_digest(1, chart=CHART), [], "local", {})
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, "slack", payload, NOW, replies)

    plain, flagged = (
        CliRunner().invoke(app, ["digest", *flags, "--date", "2026-11-20"]) for flags in ([], ["--preview"])
    )

    assert plain.stdout == flagged.stdout
    delivery = ledger.delivery(key)
    ledger.close()
    assert delivery
    assert delivery.state is State.PREPARED
    shown = [line.strip() for line in plain.stdout.splitlines()]
    assert shown[:5] == [
        "Usage digest · Fri 20 Nov",
        "1 account crossed a threshold.",
        "",
        "Call: upgrade (1)",
        "1. Acme · 83 k / 100 k (83 %), crossed 80 % today 04:12",
    ]
    assert "Reply 1 of 2 in the thread" in shown
    assert "Dana Reyes: 1 account" in shown
    assert any(line.startswith("usage-digest-local-2026-11-20-1.png: Acme: 40 of 100 used") for line in shown)
    assert max(map(len, plain.stdout.splitlines()[:-1])) <= 100
