"""A published copy of a small demo with hostile names in it, built once for a module of tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestration import settings
from orchestration.ledger import page_keys
from orchestration.ledger.ledger import Ledger
from orchestration.pages import app
from tests.support.pages_world import NOW, publish


@dataclass
class Site:
    """The application over it, and keys."""

    published: Path
    ledger: Ledger
    application: Any

    def inside(self) -> TestClient:
        """A colleague's browser."""
        return self._with(f"/k/{self.secret(None)}")

    def customer(self, account_id: str) -> TestClient:
        return self._with(f"/u/{self.secret(account_id)}")

    def secret(self, account_id: str | None) -> str:
        return page_keys.grant(self.ledger, account_id or "CS team", account_id, NOW, NOW + timedelta(days=9_000))[1]

    def _with(self, link: str) -> TestClient:
        client = TestClient(self.application, base_url="http://pages.test")
        assert client.get(link).status_code == 200
        return client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages") / "data"
    published = publish(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(folder))
        patch.setenv("HEADROOM_NOW", NOW.isoformat())
        config = settings.load()
        ledger = Ledger(config.ledger_url)
        with TestClient(app.build(config, lambda: NOW)) as running:
            yield Site(published, ledger, running.app)
        ledger.close()
