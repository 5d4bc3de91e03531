"""A small demo with hostile names in it, counted and published: what the tests of the pages look at."""

import csv
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestration import demo
from orchestration.ledger import decided
from orchestration.ledger.ledger import Ledger
from orchestration.messages.digest_message import digest_message
from orchestration.messages.message import to_json
from tests.e2e.program import Program, finish
from tests.support.builders import make_digest
from tests.support.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, 17, 5, tzinfo=UTC)
HOSTILE = ("<script>alert(1)</script>", "a/b", "..", "naïve \u202eevil", "quo\"te's&amp;", "x" * 1_000)
"""Ids of accounts, which are their names, too."""


def publish(folder: Path) -> Path:
    """The demo of 60 accounts and the hostile ones in that data folder; returns the published copy."""
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
        return build_marts(folder, folder / "landing", NOW)


@dataclass(frozen=True)
class Served:
    """`headroom pages` of that demo, as a process, and links that open it."""

    url: str
    colleague: str
    customer: str

    def pages(self) -> dict[str, str]:
        """Addresses by a name for people: each page of a colleague, and the one of a customer."""
        inside = {
            "utilization": "/",
            "account": "/accounts/?id=%3Cscript%3Ealert(1)%3C/script%3E",
            "long name": f"/accounts/{HOSTILE[-1]}",
            "top": "/top",
            "changes": "/changes",
            "digests": "/digests",
            "digest": f"/digests/{NOW:%Y-%m-%d}",
            "quality": "/quality",
            "customer": "/u/",
            "not found": "/accounts/nobody",
        }
        return {name: f"{self.url}{path}" for name, path in inside.items()}


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """With one digest in the ledger."""
    program = Program(folder, {"HEADROOM_PAGES_PORT": "0", "HEADROOM_NOW": f"{NOW:%Y-%m-%dT%H:%M:%SZ}"})
    publish(program.data)
    _decide(program)
    links = [_link(program, "CS team"), _link(program, "--account", HOSTILE[0])]
    process = program.start("pages")
    assert process.stdout
    address = re.search(r"http://[\d.:]+", process.stdout.readline())
    assert address
    try:
        yield Served(address[0], *(f"{address[0]}{link}" for link in links))
    finally:
        process.send_signal(signal.SIGTERM)
        finish(process)


def _link(program: Program, *options: str) -> str:
    """The path of a new link."""
    printed = program.ask("pages", "grant", *options).stdout.split()[0]
    return "/" + printed.split("/", 3)[3]


def _decide(program: Program) -> None:
    ledger, key = Ledger(f"sqlite:///{program.data / 'ledger.sqlite'}"), f"local|digest|{NOW:%Y-%m-%d}"
    with ledger.transaction() as connection:
        decided.record(connection, key, to_json(digest_message(make_digest(3), ())), NOW)
        ledger.prepare(connection, f"{key}|slack", "slack", {"message": {}}, NOW, message=key)
    ledger.close()
