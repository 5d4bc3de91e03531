"""The gate as ASGI middleware: Starlette, FastAPI, Litestar, Quart, Django. WebSockets pass."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from headroom_gate import headers
from headroom_gate.gate import Gate
from headroom_gate.identify import by_key
from headroom_gate.policy import Decision

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
        self,
        app: App,
        gate: Gate,
        identify: Callable[[Scope], str | None] = by_key,
        template: Callable[[Scope], str | None] | None = None,
    ) -> None:
        self._app, self._gate, self._identify = app, gate, identify
        self._template = template or (lambda scope: gate.endpoint_of(scope["path"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        subject = self._gate.read(self._identify, scope) if scope["type"] == "http" else None
        if subject is None:
            await self._app(scope, receive, send)
            return
        endpoint = self._gate.read(self._template, scope)
        decision = await self._gate.decide_async(subject, endpoint)
        if decision.is_allowed:
            await self._serve(scope, receive, send, _Call(self._gate, subject, decision, endpoint, scope))
            return
        fields, body = self._gate.refused(subject, decision, endpoint)
        await send({"type": "http.response.start", "status": decision.status, "headers": _encoded(fields)})
        await send({"type": "http.response.body", "body": body})

    async def _serve(self, scope: Scope, receive: Receive, send: Send, call: "_Call") -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                # reported before the answer leaves: what a client has seen is metered
                call.report(message["status"])
                message = {**message, "headers": [*message.get("headers", ()), *call.headers()]}
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            call.report(500)
            raise
        finally:
            call.report(None)  # the client went away before there was an answer


class _Call:
    """One call that was let through, reported once."""

    __slots__ = ("_decision", "_endpoint", "_gate", "_is_reported", "_root_path", "_scope", "_subject")

    def __init__(self, gate: Gate, subject: str, decision: Decision, endpoint: str | None, scope: Scope) -> None:
        self._gate, self._subject, self._decision, self._endpoint = gate, subject, decision, endpoint
        self._scope, self._root_path, self._is_reported = scope, scope.get("root_path", ""), False

    def report(self, status: int | None) -> None:
        if not self._is_reported:
            self._is_reported = True
            self._gate.served(self._subject, self._decision, self._endpoint or self._route(), status)

    def headers(self) -> list[tuple[bytes, bytes]]:
        return _encoded(self._gate.fields(self._decision))

    def _route(self) -> str | None:
        """The template of Starlette and FastAPI, with the prefix of a mounted app."""
        path = getattr(self._scope.get("route"), "path", None)
        return None if path is None else f"{self._scope.get('root_path', '').removeprefix(self._root_path)}{path}"


def _encoded(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(_NAMES.get(name) or name.lower().encode(), value.encode("latin-1")) for name, value in fields]
