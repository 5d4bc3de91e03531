"""Each page in this process, without a network: its time, and that of its queries alone. As JSON on stdout.

`accounts` prints ids of accounts instead, from all over the copy.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
from starlette.testclient import TestClient

from orchestration import settings
from orchestration.ledger import page_keys
from orchestration.ledger.ledger import Ledger
from orchestration.pages import app
from orchestration.warehouse import account_usage, published_copy, queries
from orchestration.warehouse.kept_copy import LIMITS

ROUNDS = 20
PAGES = {
    "utilization": "/",
    "a search": "/?q=jun",
    "a filter": "/?segment=enterprise",
    "sorted by name": "/?sort=name",
    "page 100": "/?page=100",
    "an account": "/accounts/juniper-mobility",
    "top": "/top",
    "changes": "/changes",
    "quality": "/quality",
    "a customer's": "/u/",
    "JSON of one": "/v1/accounts/juniper-mobility/usage",
    "JSON of 1,000": "/v1/usage",
}
CUSTOMER = "juniper-mobility"
Asked = list[tuple[str, Mapping[str, object] | None]]


def timed() -> list[dict[str, Any]]:
    config, now = settings.load(), datetime.now(UTC)
    ledger = Ledger(config.ledger_url)
    _, inside = page_keys.grant(ledger, "bench", None, now, now + timedelta(days=1))
    _, customer = page_keys.grant(ledger, "bench", CUSTOMER, now, now + timedelta(days=1))
    found = []
    with TestClient(app.build(config, lambda: datetime.now(UTC))) as client:
        client.cookies.update({"headroom_key": inside, "headroom_usage": customer})
        for page, path in PAGES.items():
            with _asked() as asked:
                first = _milliseconds(client, path)[0]
            times = [_milliseconds(client, path) for _ in range(ROUNDS)]
            wall, cpu = (statistics.median(each) for each in zip(*times, strict=True))
            found.append({"page": page, "rounds": ROUNDS, "ms": wall, "cpu_ms": cpu, "first_ms": first, "asked": asked})
    for each in found:
        each["bare_ms"] = _bare(str(config.published), each.pop("asked"))
    return found


def _milliseconds(client: TestClient, path: str) -> tuple[float, float]:
    started, used = time.perf_counter(), time.process_time()
    answer = client.get(path)
    spent = 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - used)
    assert answer.status_code == 200, (path, answer.text)
    return spent


@contextmanager
def _asked() -> Iterator[Asked]:
    """The queries that are asked inside, by the one function that asks them."""
    asked: Asked = []
    original = published_copy.rows_of

    def rows_of(
        connection: duckdb.DuckDBPyConnection, sql: str, parameters: published_copy.Parameters | None = None
    ) -> list[dict[str, Any]]:
        assert parameters is None or isinstance(parameters, Mapping)
        asked.append((sql, parameters))
        return original(connection, sql, parameters)

    modules: list[Any] = [published_copy, account_usage, queries]
    for module in modules:
        module.rows_of = rows_of
    try:
        yield asked
    finally:
        for module in modules:
            module.rows_of = original


def _bare(published: str, asked: Asked) -> float:
    with duckdb.connect(config=dict(LIMITS)) as connection:
        connection.execute(f"attach '{published}' as published (read_only); use published; set TimeZone = 'UTC'")
        milliseconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for sql, parameters in asked:
                connection.execute(sql, parameters).fetchall()
            milliseconds.append(1000 * (time.perf_counter() - started))
    return statistics.median(milliseconds)


def accounts() -> list[str]:
    with duckdb.connect(str(settings.load().published), read_only=True) as connection:
        found = connection.execute(
            "select account_id from utilization_mtd where is_main order by hash(account_id) limit 500"
        ).fetchall()
    return [account for (account,) in found]


if __name__ == "__main__":
    json.dump(accounts() if sys.argv[1:] == ["accounts"] else timed(), sys.stdout)
