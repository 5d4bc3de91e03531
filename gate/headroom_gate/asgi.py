"""The gate as ASGI middleware: Starlette, FastAPI, Litestar, Quart, Django. WebSockets pass."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from headroom_gate import headers
from headroom_gate.call import Call
from headroom_gate.gate import Gate
from headroom_gate.identify import Identify, by_key

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


_NAMES = {name: name.lower().encode() for name in headers.NAMES}


class GateMiddleware:
    """Asks the gate before each HTTP request, and says in each answer where the account stands.

    `identify` gives the subject of a request; None lets the request through uncounted, as one without a key.
    `template` gives the route template that the weight is set for. By default the gate matches the path itself.
    """

    def __init__(
        self, app: App, gate: Gate, identify: Identify = by_key, template: Callable[[Scope], str | None] | None = None
    ) -> None:
        self._app, self._gate, self._identify = app, gate, identify
        self._template = template or (lambda scope: gate.endpoint_of(scope["path"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        subject = self._gate.subject(self._identify, scope) if scope["type"] == "http" else None
        if subject is None:
            await self._app(scope, receive, send)
            return
        endpoint = self._gate.read(self._template, scope)
        call = Call(self._gate, subject, endpoint, await self._gate.decide_async(subject, endpoint))
        if call.is_allowed:
            await self._serve(scope, receive, send, call)
        else:
            fields, body = call.refusal()
            await respond(send, call.status, fields, body)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        root_path: str = scope.get("root_path", "")

        def report(status: int | None) -> None:
            call.endpoint = call.endpoint or _route(scope, root_path)
            call.answered(status)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                # reported before the answer leaves: what a client has seen is metered
                report(message["status"])
                message = {**message, "headers": [*message.get("headers", ()), *_encoded(call.fields())]}
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            report(500)
            raise
        finally:
            report(None)  # the client went away before there was an answer


async def respond(send: Send, status: int, fields: headers.Fields, body: bytes) -> None:
    """A whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": _encoded(fields)})
    await send({"type": "http.response.body", "body": body})


def _route(scope: Scope, root_path: str) -> str | None:
    """The template of Starlette and FastAPI, with the prefix of a mounted app."""
    path = getattr(scope.get("route"), "path", None)
    return None if path is None else f"{scope.get('root_path', '').removeprefix(root_path)}{path}"


def _encoded(fields: headers.Fields) -> list[tuple[bytes, bytes]]:
    return [(_NAMES.get(name) or name.lower().encode(), value.encode("latin-1")) for name, value in fields]
