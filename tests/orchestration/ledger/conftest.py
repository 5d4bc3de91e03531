"""Fixtures for the tests of the ledger itself."""

import pytest

from orchestration.ledger.ledger import Ledger
from tests.support import ledgers


@pytest.fixture(autouse=True)
def real_first_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    """The migrations are under test here."""
    monkeypatch.setattr(Ledger, "__init__", ledgers.OPEN)
