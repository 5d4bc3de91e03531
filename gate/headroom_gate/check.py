"""The gate as a service that proxies ask: Envoy's ext_authz over HTTP, nginx's auth_request. A tiny ASGI app.

`/check/...` decides, `/metrics` is for Prometheus, `/healthz` says that the process runs. The answer is 200 or the
refusal's status. nginx takes 403 alone for a refusal: `/check?refused=403` answers that, with the status meant in
`X-Gate-Status` and why in `X-Gate-Reason`. What the API answers is not known here, so events have no status.
"""

import os
from collections.abc import Callable
from urllib.parse import parse_qs

from headroom_gate import metrics
from headroom_gate.asgi import App, Receive, Scope, Send, _encoded
from headroom_gate.gate import Gate
from headroom_gate.identify import by_key
from headroom_gate.reader import Limits

PREFIX = "/check"


def check_app(gate: Gate, identify: Callable[[Scope], str | None] = by_key) -> App:
    """The service. The path of the call is that of `X-Original-URI`, or what follows `/check`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == "/healthz":
            await _answer(send, 200, [], b"ok\n")
        elif path == "/metrics":
            await _answer(send, 200, [("Content-Type", "text/plain; version=0.0.4")], metrics.text(gate).encode())
        elif path.startswith(PREFIX):
            await _check(gate, identify, scope, send)
        else:
            await _answer(send, 404, [], b"")

    return app


def from_environment() -> App:
    """`uvicorn --factory headroom_gate.check:from_environment`.

    HEADROOM_GATE_LIMITS is a file or an address, HEADROOM_GATE_KEY its key, HEADROOM_GATE_REDIS a Redis for many gates,
    HEADROOM_GATE_ENDPOINTS route templates with blanks between them. Events go to HEADROOM_GATE_EVENTS (an address of
    the collector, with HEADROOM_GATE_EVENTS_KEY) through the folder HEADROOM_GATE_SPOOL.

    :raises KeyError: HEADROOM_GATE_LIMITS is missing.
    """
    given = os.environ
    counter = events = None
    if url := given.get("HEADROOM_GATE_REDIS"):
        from headroom_gate.redis_counter import RedisCounter

        counter = RedisCounter(url)
    if url := given.get("HEADROOM_GATE_EVENTS"):
        from headroom_gate.spool import SpooledEvents

        events = SpooledEvents(
            url, given.get("HEADROOM_GATE_EVENTS_KEY", ""), given.get("HEADROOM_GATE_SPOOL", "gate-spool")
        )
    limits = Limits(given["HEADROOM_GATE_LIMITS"], key=given.get("HEADROOM_GATE_KEY", ""))
    endpoints = given.get("HEADROOM_GATE_ENDPOINTS", "").split()
    return check_app(Gate(limits, counter=counter, events=events, endpoints=endpoints))


async def _check(gate: Gate, identify: Callable[[Scope], str | None], scope: Scope, send: Send) -> None:
    subject = gate.read(identify, scope)
    if subject is None:
        await _answer(send, 200, [], b"")
        return
    given = dict(scope["headers"])
    original = given.get(b"x-original-uri", b"").decode("latin-1")
    endpoint = gate.endpoint_of(original.partition("?")[0] or scope["path"].removeprefix(PREFIX))
    decision = await gate.decide_async(subject, endpoint)
    if decision.is_allowed:
        gate.served(subject, decision, endpoint, None)
        await _answer(send, 200, gate.fields(decision), b"")
        return
    fields, body = gate.refused(subject, decision, endpoint)
    wanted = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("refused")
    status = 403 if wanted == ["403"] else decision.status
    meant = [("X-Gate-Status", str(decision.status)), ("X-Gate-Reason", decision.reason)]
    await _answer(send, status, [*fields, *meant], body)


async def _answer(send: Send, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _encoded(fields)})
    await send({"type": "http.response.body", "body": body})
