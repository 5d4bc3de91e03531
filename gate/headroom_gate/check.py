"""The gate as a service that proxies ask: Envoy's ext_authz over HTTP, nginx's auth_request. A tiny ASGI app.

`/check/...` decides, `/metrics` is for Prometheus, `/healthz` says that the process runs. The answer is 200 or the
refusal's status. nginx takes 403 alone for a refusal: `/check?refused=403` answers that, with the status meant in
`X-Gate-Status` and why in `X-Gate-Reason`. What the API answers is not known here, so events have no status.
"""

import asyncio
import os
from urllib.parse import parse_qs, unquote_to_bytes

from headroom_gate import metrics
from headroom_gate.asgi import App, Receive, Scope, Send, respond
from headroom_gate.call import Call
from headroom_gate.gate import Fail, Gate
from headroom_gate.identify import Identify, by_key
from headroom_gate.reader import Limits

PREFIX = "/check"
FAILS: dict[str, Fail] = {"open": "open", "closed": "closed"}


def check_app(gate: Gate, identify: Identify = by_key) -> App:
    """The service. The path of the call is that of `X-Original-URI`, or what follows `/check`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(gate, receive, send)
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == "/healthz":
            await respond(send, 200, [], b"ok\n")
        elif path == "/metrics":
            await respond(send, 200, [("Content-Type", "text/plain; version=0.0.4")], metrics.text(gate).encode())
        elif path.startswith(PREFIX):
            await _check(gate, identify, scope, send)
        else:
            await respond(send, 404, [], b"")

    return app


def from_environment() -> App:
    """`uvicorn --factory headroom_gate.check:from_environment`.

    HEADROOM_GATE_LIMITS is a file or an address, HEADROOM_GATE_KEY its key, HEADROOM_GATE_REDIS a Redis for many gates,
    HEADROOM_GATE_ENDPOINTS route templates with blanks between them, HEADROOM_GATE_FAIL open or closed. Events go to
    HEADROOM_GATE_EVENTS (an address of the collector, with HEADROOM_GATE_EVENTS_KEY) through the folder
    HEADROOM_GATE_SPOOL.

    :raises KeyError: HEADROOM_GATE_LIMITS is missing.
    :raises ValueError: HEADROOM_GATE_FAIL is neither open nor closed, or the collector's address is not one.
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
    fail = given.get("HEADROOM_GATE_FAIL") or "open"
    if fail not in FAILS:
        raise ValueError(f"HEADROOM_GATE_FAIL is {fail!r}. It may be {' or '.join(FAILS)}")
    return check_app(Gate(limits, counter=counter, events=events, endpoints=endpoints, fail=FAILS[fail]))


async def _live(gate: Gate, receive: Receive, send: Send) -> None:
    """Until the server ends: then the events that wait are sent."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.to_thread(gate.close)
    await send({"type": "lifespan.shutdown.complete"})


async def _check(gate: Gate, identify: Identify, scope: Scope, send: Send) -> None:
    subject = gate.subject(identify, scope)
    if subject is None:
        await respond(send, 200, [], b"")
        return
    endpoint = gate.endpoint_of(_path(scope))
    call = Call(gate, subject, endpoint, await gate.decide_async(subject, endpoint))
    if call.is_allowed:
        call.answered(None)
        await respond(send, 200, call.fields(), b"")
        return
    fields, body = call.refusal()
    wanted = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("refused")
    meant = [("X-Gate-Status", str(call.status)), ("X-Gate-Reason", call.reason)]
    await respond(send, 403 if wanted == ["403"] else call.status, [*fields, *meant], body)


def _path(scope: Scope) -> str:
    """Of the call that the proxy asks about, decoded as the API decodes it."""
    original: bytes = dict(scope["headers"]).get(b"x-original-uri", b"")
    path: str = scope["path"]
    return unquote_to_bytes(original.partition(b"?")[0]).decode("utf-8", "replace") or path.removeprefix(PREFIX)
