"""The gate as WSGI middleware: Flask, Django, Pyramid, Bottle."""

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from headroom_gate.call import Call
from headroom_gate.gate import Gate
from headroom_gate.identify import Identify, by_environ_key

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class GateMiddleware:
    """Asks the gate before each request, and says in each answer where the account stands.

    `identify` gives the subject of a request; None lets the request through uncounted, as one without a key.
    `template` gives the route template that the weight is set for. By default the gate matches the path itself.
    """

    def __init__(
        self,
        app: App,
        gate: Gate,
        identify: Identify = by_environ_key,
        template: Callable[[Environ], str | None] | None = None,
    ) -> None:
        self._app, self._gate, self._identify = app, gate, identify
        self._template = template or (lambda environ: gate.endpoint_of(path_of(environ)))

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        subject = self._gate.subject(self._identify, environ)
        if subject is None:
            return self._app(environ, start_response)
        endpoint = self._gate.read(self._template, environ)
        call = Call(self._gate, subject, endpoint, self._gate.decide(subject, endpoint))
        if call.is_allowed:
            return self._serve(environ, start_response, call)
        fields, body = call.refusal()
        start_response(f"{call.status} {HTTPStatus(call.status).phrase}", fields)
        return [body]

    def _serve(self, environ: Environ, start_response: StartResponse, call: Call) -> Iterable[bytes]:
        def answer(status: str, fields: list[tuple[str, str]], *error: object) -> Callable[[bytes], object]:
            call.answered(int(status[:3]))
            return start_response(status, [*fields, *call.fields()], *error)

        try:
            body = self._app(environ, answer)
        except BaseException:
            call.answered(500)
            raise
        return body if call.is_reported else _Body(body, call)


class _Body:
    """Of an application that starts its answer with the first part, as a generator does, or fails before."""

    def __init__(self, body: Iterable[bytes], call: Call) -> None:
        self._body, self._call = body, call

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except BaseException:
            self._call.answered(500)
            raise

    def close(self) -> None:
        """Servers call this at the end, also where a client went away before the first part."""
        self._call.answered(None)
        if hasattr(self._body, "close"):
            self._body.close()


def path_of(environ: Environ) -> str:
    """The path of a request, decoded, with the prefix that the application is mounted at."""
    raw: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return raw.encode("latin-1").decode("utf-8", "replace")


def flask_template(app: Any) -> Callable[[Environ], str | None]:
    """A `template` for a Flask application: the rule of its route, such as /items/<int:id>."""

    def template(environ: Environ) -> str | None:
        try:
            rule, _ = app.url_map.bind_to_environ(environ).match(return_rule=True)
        except Exception:  # noqa: BLE001 - not found, wrong method, redirect: the API's own answers
            return None
        return str(rule.rule)

    return template
