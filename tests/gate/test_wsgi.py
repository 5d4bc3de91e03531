"""The gate in front of an application on Flask, and of bare WSGI."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.test import Client

from headroom_gate import Gate, subject_of_key
from headroom_gate.wsgi import Environ, GateMiddleware, flask_template
from tests.gate.world import END, NOW, Captured, Clock, make_account, make_gate, make_limits, make_snapshot


def make_app() -> flask.Flask:
    app = flask.Flask("api")

    @app.get("/v1/items/<int:number>")
    def item(number: int) -> str:
        return f"item {number}"

    @app.get("/v1/search")
    def search() -> tuple[str, int]:
        return "found", 206

    @app.get("/fail")
    def fail() -> str:
        raise RuntimeError("the API fails")

    return app


def flask_client(gate: Gate) -> Client:
    app = make_app()
    return Client(GateMiddleware(app.wsgi_app, gate, lambda _: "acme", flask_template(app)))


def bare_client(gate: Gate, app: Callable[..., Iterable[bytes]]) -> Client:
    return Client(GateMiddleware(app, gate, lambda _: "acme"))


def test_flask_answer_gets_the_fields_of_the_gate(tmp_path: Path) -> None:
    answer = flask_client(make_gate(tmp_path, make_account(used=812))).get("/v1/items/7")
    assert (answer.status_code, answer.text) == (200, "item 7")
    assert answer.headers["RateLimit"] == '"quota";r=187;t=1814400'


def test_flask_call_over_a_hard_quota_is_refused(tmp_path: Path) -> None:
    events = Captured()
    answer = flask_client(make_gate(tmp_path, make_account(used=1000), events=events)).get("/v1/items/7")
    assert answer.status == "429 Too Many Requests"
    assert answer.headers["Retry-After"] == str(END - NOW)
    assert answer.json
    assert answer.json["violated-policies"] == ["quota"]
    assert [each["event"] for each in events] == ["api_call_refused", "usage.limit_reached"]


def test_flask_call_is_metered_by_its_rule(tmp_path: Path) -> None:
    events = Captured()
    client = flask_client(make_gate(tmp_path, events=events))
    for path in ("/v1/items/7", "/v1/search", "/nowhere"):
        client.get(path)
    assert [(each.get("endpoint"), each["status"], each["weight"]) for each in events] == [
        ("/v1/items/<int:number>", 200, 1),
        ("/v1/search", 206, 5),
        (None, 404, 1),
    ]


def test_flask_call_that_fails_is_metered_as_500(tmp_path: Path) -> None:
    events = Captured()
    flask_client(make_gate(tmp_path, events=events)).get("/fail")
    assert [each["status"] for each in events] == [500]


def test_wsgi_application_that_raises_is_metered_once(tmp_path: Path) -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        raise RuntimeError("the API fails")

    events = Captured()
    with pytest.raises(RuntimeError):
        bare_client(make_gate(tmp_path, events=events), app).get("/v1/search")
    assert [(each["status"], each["endpoint"]) for each in events] == [(500, "/v1/search")]


def test_wsgi_application_that_is_a_generator_is_metered_once(tmp_path: Path) -> None:
    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("201 Created", [])
        yield b"made"

    events = Captured()
    answer = bare_client(make_gate(tmp_path, events=events), app).get("/v1/search")
    assert (answer.status_code, answer.data) == (201, b"made")
    assert "RateLimit" in answer.headers
    assert [each["status"] for each in events] == [201]


def test_wsgi_generator_that_nobody_starts_is_closed_and_metered(tmp_path: Path) -> None:
    class Parts:
        is_closed = False

        def __iter__(self) -> Iterator[bytes]:
            yield b"made"

        def close(self) -> None:
            self.is_closed = True

    events, parts = Captured(), Parts()
    app = GateMiddleware(lambda *_: parts, make_gate(tmp_path, events=events), lambda _: "acme")
    body: Any = app({"PATH_INFO": "/v1/search"}, lambda *_: print)

    body.close()  # as servers do where the client went away

    assert parts.is_closed
    assert events == [{"account_id": "acme", "event": "api_call", "endpoint": "/v1/search", "weight": 5}]


def test_wsgi_generator_that_fails_first_is_metered_as_500(tmp_path: Path) -> None:
    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        yield from [b"made"][environ["nothing"] :]

    events = Captured()
    with pytest.raises(KeyError):
        bare_client(make_gate(tmp_path, events=events), app).get("/v1/search")
    assert [each["status"] for each in events] == [500]


def test_wsgi_body_is_closed(tmp_path: Path) -> None:
    class Body(list[bytes]):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    body = Body([b"found"])

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return body

    bare_client(make_gate(tmp_path), app).get("/").close()
    assert body.is_closed


def test_wsgi_key_is_named_by_its_hash(tmp_path: Path) -> None:
    events = Captured()
    app = GateMiddleware(make_app().wsgi_app, make_gate(tmp_path, events=events))
    client = Client(app)
    for headers in ({"Authorization": "bearer sk_live_4711"}, {"X-API-Key": "sk_live_4711"}, {}):
        client.get("/v1/search", headers=headers)
    assert len({each["account_id"] for each in events}) == 1
    assert len(events) == 2
    assert events[0]["account_id"].startswith("key_")


def test_wsgi_key_that_is_made_up_does_not_hide_the_other(tmp_path: Path) -> None:
    subject = subject_of_key("sk_live_4711")
    limits = make_limits(tmp_path, make_snapshot(make_account(used=1000), subjects=[[subject, "acme", None, None]]))
    client = Client(GateMiddleware(make_app().wsgi_app, Gate(limits, clock=Clock())))
    headers = {"Authorization": "Bearer made-up", "X-API-Key": "sk_live_4711"}
    assert client.get("/v1/search", headers=headers).status_code == 429
