"""The gate in front of an application on Starlette."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from headroom_gate import Gate, subject_of_key
from headroom_gate.asgi import GateMiddleware
from headroom_gate.identify import by_key
from headroom_gate.policy import Question
from tests.gate.world import END, NOW, Captured, Clock, make_account, make_gate, make_limits, make_snapshot, publish


async def answered(request: Request) -> Response:
    return PlainTextResponse("found", int(request.query_params.get("status", 200)), {"Server": "own"})


async def failing(_: Request) -> Response:
    raise RuntimeError("the API fails")


def client_of(gate: Gate, **options: Any) -> TestClient:
    routes = [
        Route("/v1/search", answered),
        Route("/v1/free", answered),
        Route("/v1/items/{id:int}", answered, methods=["GET", "POST"]),
        Route("/fail", failing),
        Mount("/v2", routes=[Route("/items/{id}", answered)]),
    ]
    options.setdefault("identify", lambda scope: dict(scope["headers"]).get(b"account", b"").decode() or None)
    app = Starlette(routes=routes, middleware=[Middleware(GateMiddleware, gate=gate, **options)])
    return TestClient(app, headers={"account": "acme"}, raise_server_exceptions=False)


def test_answer_of_the_api_gets_the_fields_of_the_gate(tmp_path: Path) -> None:
    answer = client_of(make_gate(tmp_path, make_account(used=812))).get("/v1/items/1")

    assert (answer.status_code, answer.text, answer.headers["server"]) == (200, "found", "own")
    assert answer.headers["ratelimit"] == '"quota";r=187;t=1814400'
    assert answer.headers["x-ratelimit-remaining"] == "187"


def test_hard_quota_refuses_with_429_before_the_api_is_called(tmp_path: Path) -> None:
    events = Captured()
    client = client_of(make_gate(tmp_path, make_account(used=1000), events=events))

    answer = client.get("/v1/items/1")

    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["retry-after"] == str(END - NOW)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["usage"] == "https://headroom.example.com/u/"
    assert events.named("api_call") == []


def test_refused_call_is_an_event_that_no_meter_counts(tmp_path: Path) -> None:
    events = Captured()
    client = client_of(make_gate(tmp_path, make_account(used=998), events=events))

    client.get("/v1/search")

    assert events.named("api_call_refused") == [
        {
            "account_id": "acme",
            "event": "api_call_refused",
            "endpoint": "/v1/search",
            "status": 429,
            "refused_by": "quota",
            "weight": 5,
        }
    ]


def test_reached_limit_is_reported_once_a_period(tmp_path: Path) -> None:
    events = Captured()
    client = client_of(make_gate(tmp_path, make_account(used=1000), events=events))

    for _ in range(3):
        client.get("/v1/items/1")

    facts = {"metric": "api-calls", "limit": 1000, "used": 1000, "plan": "team"}
    assert events.named("usage.limit_reached") == [{"account_id": "acme", "event": "usage.limit_reached", **facts}]
    assert len(events.named("api_call_refused")) == 3


@pytest.mark.parametrize(
    ("path", "endpoint", "weight"),
    [
        ("/v1/search?q=1", "/v1/search", 5),
        ("/v1/free", "/v1/free", 0),
        ("/v1/items/17", "/v1/items/{id:int}", 1),
        ("/v2/items/17", "/v2/items/{id}", 1),
    ],
)
def test_served_call_is_metered_by_its_route_template(tmp_path: Path, path: str, endpoint: str, weight: int) -> None:
    events = Captured()
    client_of(make_gate(tmp_path, events=events)).get(path)
    assert events == [
        {"account_id": "acme", "event": "api_call", "endpoint": endpoint, "status": 200, "weight": weight}
    ]


def test_path_that_no_route_has_is_metered_without_an_endpoint(tmp_path: Path) -> None:
    events = Captured()
    client_of(make_gate(tmp_path, events=events)).get("/users/ada@example.com")
    assert events == [{"account_id": "acme", "event": "api_call", "status": 404, "weight": 1}]


def test_call_that_the_api_fails_is_metered_once_as_500(tmp_path: Path) -> None:
    events = Captured()
    assert client_of(make_gate(tmp_path, events=events)).get("/fail").status_code == 500
    assert [(each["event"], each["status"]) for each in events] == [("api_call", 500)]


def test_call_whose_client_went_away_is_metered_without_a_status(tmp_path: Path) -> None:
    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    events = Captured()
    app = GateMiddleware(cancelled, make_gate(tmp_path, events=events), lambda _: "acme")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(app({"type": "http", "path": "/v1/search"}, None, None))  # type: ignore[arg-type]
    assert events == [{"account_id": "acme", "event": "api_call", "endpoint": "/v1/search", "weight": 5}]


def test_weight_of_the_template_goes_from_the_quota(tmp_path: Path) -> None:
    client = client_of(make_gate(tmp_path))
    left = [client.get(path).headers["x-ratelimit-remaining"] for path in ("/v1/search", "/v1/free", "/v1/items/1")]
    assert left == ["995", "995", "994"]


def test_template_of_the_framework_takes_the_place_of_the_match(tmp_path: Path) -> None:
    events = Captured()
    client_of(make_gate(tmp_path, events=events), template=lambda _: "/v1/search").get("/v1/items/1")
    assert (events[0]["endpoint"], events[0]["weight"]) == ("/v1/search", 5)


def test_request_without_a_subject_passes_uncounted(tmp_path: Path) -> None:
    events = Captured()
    client = client_of(make_gate(tmp_path, make_account(used=1000), events=events), identify=lambda _: None)
    answer = client.get("/v1/items/1")
    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers
    assert events == []


def test_key_is_named_by_its_hash_and_belongs_to_its_account(tmp_path: Path) -> None:
    subject, events = subject_of_key("sk_live_4711"), Captured()
    limits = make_limits(tmp_path, make_snapshot(make_account(used=812), subjects=[[subject, "acme", None, None]]))
    client = client_of(Gate(limits, events=events, clock=Clock()), identify=by_key)

    for name, value in (("Authorization", "Bearer sk_live_4711"), ("X-API-Key", "sk_live_4711")):
        assert client.get("/v1/items/1", headers={name: value}).headers["x-ratelimit-limit"] == "1000"

    assert [each["account_id"] for each in events] == [subject, subject]
    assert "sk_live" not in repr(events)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer sk_live_4711", "X-API-Key": "made-up"},
        {"X-API-Key": "made-up", "Authorization": "Bearer sk_live_4711"},
        {"Authorization": "Bearer made-up", "X-API-Key": "sk_live_4711"},
        {"Authorization": "Bearer ", "X-API-Key": "sk_live_4711"},
    ],
)
def test_key_that_is_made_up_does_not_hide_the_other(tmp_path: Path, headers: dict[str, str]) -> None:
    snapshot = make_snapshot(make_account(used=1000), subjects=[[subject_of_key("sk_live_4711"), "acme", None, None]])
    client = client_of(Gate(make_limits(tmp_path, snapshot), clock=Clock()), identify=by_key)
    assert client.get("/v1/items/1", headers=headers).status_code == 429


def test_empty_key_is_none(tmp_path: Path) -> None:
    events = Captured()
    client = client_of(make_gate(tmp_path, events=events), identify=by_key)
    assert client.get("/v1/items/1", headers={"Authorization": "Bearer ", "X-API-Key": " "}).status_code == 200
    assert events == []


def test_subject_that_is_not_text_is_an_error_and_the_call_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = make_gate(tmp_path, make_account("5", used=1000))
    assert client_of(gate, identify=lambda _: 5).get("/v1/items/1").status_code == 200
    assert gate.decisions == {"error": 1}
    assert "5, which is not a subject in text" in caplog.text


def test_unknown_subject_is_let_through_and_counted_in_a_metric(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, make_account("globex"))
    answer = client_of(gate).get("/v1/items/1")
    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers
    assert gate.decisions == {"unknown": 1}


def test_upgrade_opens_the_door_with_the_next_snapshot(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, make_account(used=1000))
    client = client_of(gate)
    assert client.get("/v1/items/1").status_code == 429

    publish(gate, tmp_path, make_snapshot(make_account(used=1000, quota=5000), published_at=NOW + 1))

    assert client.get("/v1/items/1").headers["x-ratelimit-remaining"] == "3999"


def test_new_period_opens_the_door_without_a_new_snapshot(tmp_path: Path) -> None:
    clock = Clock(END - 1)
    limits = make_limits(tmp_path, make_snapshot(make_account(used=1000), published_at=END - 60), clock)
    client = client_of(Gate(limits, clock=clock))
    assert client.get("/v1/items/1").status_code == 429

    clock.now = END

    assert client.get("/v1/items/1").headers["x-ratelimit-remaining"] == "999"


def test_snapshot_of_yesterday_refuses_nothing(tmp_path: Path) -> None:
    clock, events = Clock(NOW + 86_400), Captured()
    gate = make_gate(tmp_path, make_account(used=1000), clock=clock, events=events)
    answer = client_of(gate).get("/v1/items/1")
    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers
    assert gate.decisions == {"stale": 1}
    assert events.named("api_call")


def test_clock_that_jumps_ahead_makes_the_snapshot_an_old_one(tmp_path: Path) -> None:
    clock = Clock()
    client = client_of(make_gate(tmp_path, make_account(used=1000), clock=clock))
    statuses = []
    for now in (NOW, NOW + 7 * 3600, NOW - 7 * 3600, NOW):
        clock.now = now
        statuses.append(client.get("/v1/items/1").status_code)
    assert statuses == [429, 200, 429, 429]


def test_snapshot_of_yesterday_keeps_no_rate(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, make_account(plan="rated"), clock=Clock(NOW + 86_400))
    assert [client_of(gate).get("/v1/items/1").status_code for _ in range(5)] == [200] * 5


def test_closed_gate_keeps_the_limits_of_yesterday(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, make_account(used=1000), clock=Clock(NOW + 86_400), fail="closed")
    assert client_of(gate).get("/v1/items/1").status_code == 429


def test_gate_without_a_snapshot_lets_all_through(tmp_path: Path) -> None:
    limits = make_limits(tmp_path, make_snapshot())
    limits._snapshot = None
    assert client_of(Gate(limits)).get("/v1/items/1").status_code == 200


def test_closed_gate_without_a_snapshot_answers_503(tmp_path: Path) -> None:
    limits = make_limits(tmp_path, make_snapshot())
    limits._snapshot = None
    answer = client_of(Gate(limits, fail="closed")).get("/v1/items/1")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_gate_that_may_fail_in_no_known_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fail is 'shut'"):
        Gate(make_limits(tmp_path, make_snapshot()), fail="shut")  # type: ignore[arg-type]


def test_function_of_the_owner_that_fails_lets_the_call_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = make_gate(tmp_path, make_account(used=1000))
    with caplog.at_level(logging.CRITICAL):
        assert client_of(gate, identify=lambda scope: scope["nothing"]).get("/v1/items/1").status_code == 200
        assert client_of(gate, template=lambda scope: scope["nothing"]).get("/v1/items/1").status_code == 429
    assert gate.decisions["error"] == 2


class Broken:
    """A counter with a fault."""

    def take(self, question: Question) -> Any:
        raise ZeroDivisionError

    async def take_async(self, question: Question) -> Any:
        raise ZeroDivisionError


def test_fault_of_the_gate_fails_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gate = make_gate(tmp_path, counter=Broken())
    with caplog.at_level(logging.CRITICAL):
        assert client_of(gate).get("/v1/items/1").status_code == 200
        assert gate.decide("acme", None).is_allowed
    assert gate.decisions == {"error": 2}


class Failing:
    """Events that cannot be captured."""

    def capture(self, account_id: str, event: str = "api_call", **properties: object) -> None:
        raise OSError("the disk is full")


def test_event_that_cannot_be_captured_fails_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gate = make_gate(tmp_path, make_account(used=999), events=Failing())
    client = client_of(gate)
    with caplog.at_level(logging.CRITICAL):
        assert [client.get("/v1/items/1").status_code for _ in range(2)] == [200, 429]
    assert gate.metering.failures == 3


def test_event_that_the_meter_does_not_count_is_not_limited(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, make_account(used=1000), event="upload")
    assert client_of(gate).get("/v1/items/1").status_code == 200
    assert gate.decisions == {"other_meter": 1}


def test_websocket_passes(tmp_path: Path) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.send_text("open")
        await socket.close()

    app = GateMiddleware(echo, make_gate(tmp_path, make_account(used=1000)), lambda _: "acme")
    with TestClient(app).websocket_connect("/") as socket:
        assert socket.receive_text() == "open"


def test_metrics_say_the_age_of_the_snapshot_and_what_was_decided(tmp_path: Path) -> None:
    from headroom_gate import metrics

    clock = Clock()
    events = Captured()
    events.dropped = 3
    gate = make_gate(tmp_path, clock=clock, events=events)
    client_of(gate).get("/v1/items/1")
    clock.now = NOW + 90

    text = metrics.text(gate)

    assert 'headroom_gate_calls_total{reason="ok"} 1\n' in text
    assert "headroom_gate_snapshot_age_seconds 90\n" in text
    assert "headroom_gate_events_dropped_total 3\n" in text


def test_metrics_are_read_while_other_threads_count(tmp_path: Path) -> None:
    from headroom_gate import metrics

    gate, reasons = make_gate(tmp_path), 20_000
    counting = threading.Thread(target=lambda: [gate._count(f"reason {number}") for number in range(reasons)])
    counting.start()
    while counting.is_alive():
        metrics.text(gate)
    assert len(gate.decisions) == reasons
