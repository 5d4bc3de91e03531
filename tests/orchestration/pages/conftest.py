"""A published copy of a small demo with hostile names in it, built once for a module of tests."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestration import demo, settings
from orchestration.ledger import page_keys
from orchestration.ledger.ledger import Ledger
from orchestration.pages import app
from tests.support.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, 17, 5, tzinfo=UTC)
HOSTILE = ("<script>alert(1)</script>", "a/b", "..", "naïve \u202eevil", "quo\"te's&amp;", "x" * 1_000)
"""Ids of accounts, which are their names, too."""


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
    demo.generate(folder / "landing", folder / "accounts.csv", now=NOW, accounts=60, days=40, events=12_000)
    with (folder / "landing" / "hostile.ndjson").open("w") as landed:
        for number, account in enumerate(HOSTILE):
            quota = {"account_id": account, "api_quota_monthly": 10, "plan": "growth"}
            events = [("quota_set", "2026-11-01T00:00:00Z", quota)]
            events += [
                ("api_call", f"2026-11-{day:02}T07:12:03Z", {"account_id": account, "endpoint": "<b>/v1</b>"})
                for day in range(11, 20)
            ]
            for at, (event, moment, properties) in enumerate(events):
                line = {"event": event, "uuid": f"h{number}-{at}", "timestamp": moment, "properties": properties}
                landed.write(json.dumps(line) + "\n")
    with (folder / "accounts.csv").open("a", newline="") as accounts:
        columns = (folder / "accounts.csv").read_text().splitlines()[0].split(",")
        rows = csv.DictWriter(accounts, columns, lineterminator="\n")
        rows.writerows({"account_id": each, "name": each, "owner": "a.b@example.com"} for each in HOSTILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(folder))
        patch.setenv("HEADROOM_NOW", NOW.isoformat())
        published = build_marts(folder, folder / "landing", NOW)
        config = settings.load()
        ledger = Ledger(config.ledger_url)
        with TestClient(app.build(config, lambda: NOW)) as running:
            yield Site(published, ledger, running.app)
        ledger.close()
