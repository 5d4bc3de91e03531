"""The gate: what it adds to a request in process, with a count here or in Redis, and a snapshot of a million accounts.

Requests go to the application itself, without a server and a network: medians of single requests, in turn. The peer is
slowapi, which is installed first, as for make test-clients.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from headroom_gate import Gate, Limits
from headroom_gate.asgi import GateMiddleware
from headroom_gate.redis_counter import RedisCounter
from headroom_gate.spool import SpooledEvents
from tests.bench.measure import ROUNDS, Row, python
from tests.clients import installed
from tests.clients.installed import NotInstalledError
from tests.fakes import redis as servers
from tests.gate.world import Captured, make_account, make_snapshot

SLOWAPI = installed.python("slowapi==0.1.10")
REQUESTS = 2000
ACCOUNTS = 1_000_000
App = Callable[..., Awaitable[None]]


def bench(folder: Path) -> list[Row]:
    """Rows of requests, then those of the snapshot."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "limits.json"
    account = make_account(quota=10**12, plan="rated")
    plans = {"rated": {"rate_limit_per_second": "1000000"}}
    path.write_text(make_snapshot(account, published_at=time.time(), plans=plans))
    with servers.running() as redis:
        spool = SpooledEvents("http://127.0.0.1:9/", "key", folder / "spool")
        apps: dict[str, App] = {
            "bare": make_api(),
            "gate": in_front(path),
            "gate, events in a file": in_front(path, events=spool),
            "gate, count in Redis": in_front(path, counter=RedisCounter(redis.url, timeout_seconds=5)),
        }
        apps |= peers(redis.url)
        medians = asyncio.run(measured(apps))
        spool.close()
    return [*request_rows(medians), *snapshot_rows(folder)]


async def measured(apps: dict[str, App]) -> dict[str, list[float]]:
    """Microseconds of a request by each application, a median for each round."""
    found: dict[str, list[float]] = {name: [] for name in apps}
    for round_number in range(ROUNDS + 1):
        for name, app in apps.items():
            microseconds = [await one(app) for _ in range(REQUESTS)]
            if round_number:  # the first one warms up
                found[name].append(statistics.median(microseconds))
    return found


def request_rows(medians: dict[str, list[float]]) -> list[Row]:
    pairs = [(name, "bare") for name in medians if name.startswith("gate")]
    pairs += [("gate", "slowapi")] if "slowapi" in medians else []
    pairs += [("gate, count in Redis", "slowapi, Redis")] if "slowapi, Redis" in medians else []
    rows = []
    for name, against in pairs:
        ours, theirs = medians[name], medians[against]
        ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
        added = statistics.median(mine - bare for mine, bare in zip(ours, medians["bare"], strict=True))
        mine, other = statistics.median(ours), statistics.median(theirs)
        what = f"a request through the {name}"
        rows.append(Row(what, f"{mine:.0f} µs (+{added:.0f})", f"{other:.0f} µs", f"{ratio:.2f}", against, ratio))
    return rows


def snapshot_rows(folder: Path) -> list[Row]:
    """A million accounts, in a process of its own for its memory."""
    path = folder / "million.json"
    rows = (json.dumps(make_account(f"account-{number}", used=number)) for number in range(ACCOUNTS))
    # a row on a line, as Headroom writes it
    path.write_text(make_snapshot().replace(json.dumps(make_account()), ",\n".join(rows)))
    run = python("tests.bench.gate", path)
    parse_seconds, load_seconds, kept_bytes = json.loads(run.output)
    ours = f"{parse_seconds:.2f} s, {path.stat().st_size / 1e6:.0f} MB kept in {kept_bytes / 1e6:.0f} MB"
    what = f"limits.json of {ACCOUNTS:,} accounts, CPU"
    ratio = parse_seconds / load_seconds
    return [Row(what, ours, f"{load_seconds:.2f} s", f"{ratio:.2f}", "json.loads", ratio)]


async def one(app: App) -> float:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/search",
        "raw_path": b"/v1/search",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"api.example.com"), (b"account", b"acme")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
    }
    started = time.perf_counter()
    await app(scope, receive, send)
    return (time.perf_counter() - started) * 1e6


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: dict[str, Any]) -> None:
    assert message.get("status", 200) == 200, message


async def answered(_: Request) -> Response:
    return PlainTextResponse("found")


def make_api() -> App:
    return Starlette(routes=[Route("/v1/items/{id}", answered), Route("/v1/search", answered)])


def in_front(path: Path, **options: Any) -> App:
    limits = Limits(path)
    limits.refresh()
    limits.close()
    gate = Gate(limits, **{"events": Forgotten(), **options})
    return GateMiddleware(make_api(), gate, lambda _: "acme")


class Forgotten(Captured):
    """Takes events, and keeps none."""

    def capture(self, account_id: str, event: str = "api_call", **properties: object) -> None:
        pass


def peers(redis_url: str) -> dict[str, App]:
    """None where slowapi cannot be installed."""
    try:
        sys.path.append(str(SLOWAPI.install()))  # last: what both need is that of this environment
    except NotInstalledError as reason:
        print(f"slowapi cannot be installed: {reason}")  # noqa: T201
        return {}
    return {"slowapi": with_slowapi("memory://"), "slowapi, Redis": with_slowapi(redis_url)}


def with_slowapi(storage: str) -> App:
    """One limit for all routes, with its header fields."""
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware

    limiter = Limiter(
        key_func=lambda: "acme",
        default_limits=["1000000/second"],
        headers_enabled=True,
        storage_uri=storage,
        strategy="moving-window" if storage == "memory://" else "sliding-window-counter",
    )
    app = Starlette(routes=[Route("/v1/items/{id}", answered), Route("/v1/search", answered)])
    app.state.limiter = limiter
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


def main() -> None:
    """Print the CPU seconds of the gate and of json.loads, and the bytes that the snapshot keeps."""
    import gc
    import tracemalloc

    from headroom_gate.parsing import parse

    raw = Path(sys.argv[1]).read_bytes()
    started = time.process_time()
    json.loads(raw)
    loaded = time.process_time()
    parse(raw)
    parsed = time.process_time()
    gc.collect()
    tracemalloc.start()
    snapshot = parse(raw)
    gc.collect()
    kept_bytes, _ = tracemalloc.get_traced_memory()
    assert snapshot.accounts == ACCOUNTS
    print(json.dumps([parsed - loaded, loaded - started, kept_bytes]))  # noqa: T201


if __name__ == "__main__":
    main()
