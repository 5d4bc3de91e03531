"""The digest by several routes: everybody gets their own accounts, once, with the figures of one moment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.ledger import decided
from orchestration.ledger.ledger import State
from tests.fakes.email import FakeEmail
from tests.fakes.faults import LOST_AFTER
from tests.fakes.slack import FakeSlack
from tests.orchestration.defs.installation import Installation, built_marts, outcome

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::dagster.BetaWarning")  # Dagster's own

WEDNESDAY = "2024-11-20T08:00:00+00:00"
OWNERS = {"acme": "ingrid@example.com", "beta": "priya@example.com", "gamma": "priya@example.com"}
ROUTES = """
    [[route]]
    name = "owners"
    takes = "digest"
    channel = "email"
    to_column = "owner"
    options = { from = "Headroom <usage@example.com>" }

    [[route]]
    name = "enterprise"
    takes = "digest"
    where = { segment = "enterprise" }
    channel = "slack"
    to = "C0ENTERPRISE"
"""
DIGEST = "local|digest|2024-11-20"


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with built_marts(tmp_path_factory.mktemp("marts") / "data", {name: name for name in OWNERS}) as it:
        yield it


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEmail]:
    with FakeEmail() as server:
        for name, value in server.environment("owners").items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def installation(data: Path, marts: Path, mail: FakeEmail, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with FakeSlack() as slack:
        slack.channels["C0ENTERPRISE"] = {}
        installation = Installation(data, marts, slack, monkeypatch)
        (data / "routes.toml").write_text(ROUTES)
        installation.at(WEDNESDAY)
        installation.publish(*OWNERS)
        for account, owner in OWNERS.items():
            installation.change(f"update utilization_mtd set owner = '{owner}' where account_id = '{account}'")
            installation.change(f"update account_advice set owner = '{owner}' where account_id = '{account}'")
        installation.change("update utilization_mtd set segment = 'enterprise' where account_id = 'gamma'")
        yield installation
        installation.instance.dispose()


def accounts_in(text: str) -> set[str]:
    return {account for account in OWNERS if account in text}


def letters(mail: FakeEmail) -> dict[str, set[str]]:
    return {each["to"]: accounts_in(each["text"]) for each in mail.arrived}


def posts(installation: Installation) -> dict[str, set[str]]:
    """Accounts that each channel shows, threads included."""
    shown: dict[str, set[str]] = {}
    for message in installation.slack.messages:
        thread = installation.slack.threads.get(message["ts"], [])
        shown[message["channel"]] = accounts_in(str([message, thread]))
    return shown


def test_each_owner_segment_and_team_gets_the_digest_of_its_accounts(
    installation: Installation, mail: FakeEmail
) -> None:
    result = installation.materialize()

    assert letters(mail) == {"ingrid@example.com": {"acme"}, "priya@example.com": {"beta", "gamma"}}
    assert posts(installation) == {"C0ENTERPRISE": {"gamma"}, "C0DIGEST": set(OWNERS)}
    keys = {each.key for each in decided.deliveries_of(installation.ledger(), DIGEST)}
    assert keys == {
        f"{DIGEST}|owners/ingrid@example.com",
        f"{DIGEST}|owners/priya@example.com",
        f"{DIGEST}|enterprise",
        f"{DIGEST}|slack",
    }
    assert "enterprise: sent" in outcome(result)


def test_mail_server_that_is_down_holds_up_no_channel_and_is_tried_again(
    installation: Installation, mail: FakeEmail
) -> None:
    mail.is_down = True
    failed = installation.materialize()
    assert set(posts(installation)) == {"C0ENTERPRISE", "C0DIGEST"}
    assert "route owners" in outcome(failed)

    mail.is_down = False
    installation.at("2024-11-20T08:30:00+00:00")
    installation.publish()  # later figures, without a crossing: what is sent was decided at eight
    installation.tick()

    assert letters(mail) == {"ingrid@example.com": {"acme"}, "priya@example.com": {"beta", "gamma"}}
    assert len(installation.slack.messages) == 2
    states = {each.state for each in decided.deliveries_of(installation.ledger(), DIGEST)}
    assert states == {State.SENT}


def test_digest_whose_answer_was_lost_is_one_letter(installation: Installation, mail: FakeEmail) -> None:
    mail.fail_next(LOST_AFTER, LOST_AFTER)
    assert "may have" in outcome(installation.materialize())

    installation.at("2024-11-20T09:00:00+00:00")
    installation.materialize()

    assert letters(mail) == {"ingrid@example.com": {"acme"}, "priya@example.com": {"beta", "gamma"}}
    assert len(mail.letters) == 4  # sent again, under the same Message-ID: the mailbox shows one
