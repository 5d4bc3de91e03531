"""The last lines of a digest: snoozed accounts do not vanish. Others: test_wording.py."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from orchestration import settings
from orchestration.ledger.ledger import Ledger
from orchestration.messages import digest, footer
from orchestration.messages.crossings import TABLE
from tests.support.builders import NOW, QUALITY, make_standing

TODAY = date(2026, 11, 20)
TOMORROW = date(2026, 11, 21)


def snoozed(account: str, until: date | None = TOMORROW, **fields: Any) -> dict[str, Any]:
    plain = {"is_internal": False, "is_test": False}
    return {**dict.fromkeys(TABLE), **make_standing(account, snoozed_until=until, **{**plain, **fields})}


def test_footer_names_snoozed_accounts_once_and_counts_the_others() -> None:
    accounts = [snoozed(f"a{number}") for number in range(7)]

    assert footer.snoozed([*accounts, snoozed("a0", meter="seats")], TODAY) == (
        "7 accounts at a threshold are snoozed: a0, a1, a2, a3, a4 and 2 more"
    )
    assert footer.snoozed([snoozed("a", account_name="Acme")], TODAY) == "1 account at a threshold is snoozed: Acme"


@pytest.mark.parametrize("row", [snoozed("a", None), snoozed("a", TODAY), snoozed("a", is_test=True)], ids=range(3))
def test_footer_names_no_account_whose_snooze_is_over_or_that_is_ours(row: dict[str, Any]) -> None:
    assert footer.snoozed([row], TODAY) == ""


def test_digest_has_the_line_about_snoozed_accounts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest.published_copy, "query", lambda *_: [])
    config = settings.load()
    ledger = Ledger(config.ledger_url)
    figures = digest.Figures({**QUALITY, "as_of": NOW}, [], [], {}, [], [snoozed("acme")], NOW, None, None, {})
    with ledger.transaction() as connection:
        content = digest.compose_digest(figures, ledger, connection, config, TODAY, print)
    ledger.close()

    assert content.digest["footer"][-1] == "1 account at a threshold is snoozed: acme"
