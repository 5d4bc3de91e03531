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
from tests.support.builders import NOW, make_digest

DAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.PREPARED, "Decided 2026-11-20 03:00 EST, not sent yet."),
        (State.SENDING, "Decided, in doubt: it may have been sent. The next run looks for it."),
        (State.SENT, "Sent 2026-11-20 04:00 EST."),
        (State.FAILED, "Decided, not sent: invite the bot"),
        (State.GIVEN_UP, "Decided, given up 2026-11-20 04:00 EST: it is not sent."),
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
    payload, replies = digest_payloads(make_digest(1, calls=[1]), [], "local", {})
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


def test_digest_is_not_sent_past_the_checks(data: Path) -> None:
    result = CliRunner().invoke(app, ["digest"])

    assert result.exit_code == 1
    assert "a digest is sent by `headroom run`" in result.output
