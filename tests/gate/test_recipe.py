"""The rows 4.9 to 4.12 of the monetization recipe, through an application with a gate on a real Redis."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from headroom_gate import Gate
from headroom_gate.asgi import GateMiddleware
from headroom_gate.redis_counter import RedisCounter
from tests.fakes.redis import Redis
from tests.gate.world import END, NOW, Captured, Clock, make_account, make_limits, make_snapshot, publish

PLANS = {"free": {"rate_limit_per_second": "0.05"}, "slow": {"throttle_per_second": "0.05"}, "team": {}}
"""0.05 a second is one in 20 seconds."""


async def answered(_: Request) -> Response:
    return PlainTextResponse("found")


def make_api(counter: RedisCounter) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await counter.aclose()

    routes = [Route("/v1/search", answered), Route("/v1/items/{id}", answered)]
    return Starlette(routes=routes, lifespan=lifespan)


class Door:
    """Two gates of one Redis, each in front of an application."""

    def __init__(self, folder: Path, redis: Redis, *accounts: list[Any], now: float = NOW) -> None:
        self.clock, self.events = Clock(now), Captured()
        limits = make_limits(folder, make_snapshot(*accounts, plans=PLANS, published_at=now - 60), self.clock)
        self.gates, self._clients = list[Gate](), list[TestClient]()
        for _ in range(2):
            counter = RedisCounter(redis.url, timeout_seconds=30)
            gate = Gate(limits, counter=counter, events=self.events, clock=self.clock)
            self.gates.append(gate)
            self._clients.append(TestClient(GateMiddleware(make_api(counter), gate, lambda _: "acme")))

    def __enter__(self) -> Self:
        for client in self._clients:
            client.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for client in self._clients:
            client.__exit__(*error)

    def get(self, times: int = 1, path: str = "/v1/items/7") -> list[Any]:
        return [self._clients[number % len(self._clients)].get(path) for number in range(times)]


def test_row_4_9_limit_is_reported_once_a_period_by_all_gates(tmp_path: Path, redis: Redis) -> None:
    with Door(tmp_path, redis, make_account(quota=2), now=END - 120) as door:
        door.get(6)
        assert len(door.events.named("usage.limit_reached")) == 1

        door.clock.now = END
        door.get(6)

    assert [each["used"] for each in door.events.named("usage.limit_reached")] == [2, 2]


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("monitor", [200, 200, 200, 200]),
        ("soft", [200, 200, 200, 200]),
        ("throttle", [200, 200, 200, 429]),
        ("hard", [200, 200, 429, 429]),
    ],
)
def test_row_4_10_plan_decides_how_service_degrades(
    tmp_path: Path, redis: Redis, kind: str, statuses: list[int]
) -> None:
    with Door(tmp_path, redis, make_account(kind=kind, quota=2, plan="slow")) as door:
        assert [answer.status_code for answer in door.get(4)] == statuses


def test_row_4_10_block_is_opt_in(tmp_path: Path, redis: Redis) -> None:
    with Door(tmp_path, redis, make_account(kind=None, quota=0)) as door:
        (answer,) = door.get()
    assert (answer.status_code, answer.headers["x-ratelimit-overage"]) == (200, "1")


def test_row_4_11_tier_has_its_rate_on_all_gates(tmp_path: Path, redis: Redis) -> None:
    with Door(tmp_path, redis, make_account(plan="free")) as door:
        allowed, refused = door.get(2)

    assert (allowed.status_code, allowed.headers["x-ratelimit-remaining"]) == (200, "999")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "20"
    assert [refused.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining")] == ["1", "0"]
    assert refused.json()["violated-policies"] == ["rate"]
    assert [each["refused_by"] for each in door.events.named("api_call_refused")] == ["rate"]


def test_row_4_11_events_that_fail_fail_no_request(
    tmp_path: Path, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("CRITICAL"), Door(tmp_path, redis, make_account(quota=1)) as door:
        door.events.capture = None  # type: ignore[assignment,method-assign]
        assert [answer.status_code for answer in door.get(2)] == [200, 429]


def test_row_4_12_weight_of_the_day_is_what_a_call_costs(tmp_path: Path, redis: Redis) -> None:
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(NOW + 86_400))
    meter = json.loads(make_snapshot())["meters"]["api-calls"]
    meter["weights"] = [["/v1/search", "2026-01-01", "5"], ["/v1/search", tomorrow, "9"]]
    with Door(tmp_path, redis, make_account(quota=20)) as door:
        snapshot = make_snapshot(make_account(quota=20), meters={"api-calls": meter}, published_at=NOW + 80_000)
        publish(door.gates[0], tmp_path, snapshot)
        today = door.get(2, "/v1/search")
        door.clock.now += 86_400
        refused_or_not = door.get(2, "/v1/search")
        (light,) = door.get()

    assert [answer.headers["x-ratelimit-remaining"] for answer in today] == ["15", "10"]
    assert [answer.status_code for answer in refused_or_not] == [200, 429]
    assert (light.status_code, light.headers["x-ratelimit-remaining"]) == (200, "0")
    assert [each["weight"] for each in door.events if each.get("endpoint") == "/v1/search"] == [5, 5, 9, 9]
