"""The gate as WSGI middleware: Flask, Django, Pyramid, Bottle."""

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from headroom_gate.gate import Gate
from headroom_gate.identify import by_environ_key
from headroom_gate.policy import Decision

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
        identify: Callable[[Environ], str | None] = by_environ_key,
        template: Callable[[Environ], str | None] | None = None,
    ) -> None:
        self._app, self._gate, self._identify = app, gate, identify
        self._template = template or (lambda environ: gate.endpoint_of(path_of(environ)))

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        subject = self._gate.read(self._identify, environ)
        if subject is None:
            return self._app(environ, start_response)
        endpoint = self._gate.read(self._template, environ)
        decision = self._gate.decide(subject, endpoint)
        if decision.is_allowed:
            return self._serve(environ, start_response, subject, decision, endpoint)
        fields, body = self._gate.refused(subject, decision, endpoint)
        start_response(f"{decision.status} {HTTPStatus(decision.status).phrase}", fields)
        return [body]

    def _serve(
        self, environ: Environ, start_response: StartResponse, subject: str, decision: Decision, endpoint: str | None
    ) -> Iterable[bytes]:
        statuses: list[int] = []

        def answer(status: str, fields: list[tuple[str, str]], *error: object) -> Callable[[bytes], object]:
            if not statuses:  # an application may start again after an error
                statuses.append(int(status[:3]))
                self._gate.served(subject, decision, endpoint, statuses[0])
            return start_response(status, [*fields, *self._gate.fields(decision)], *error)

        try:
            body = self._app(environ, answer)
        except BaseException:
            if not statuses:
                self._gate.served(subject, decision, endpoint, 500)
            raise
        return body if statuses else self._lazily(body, statuses, subject, decision, endpoint)

    def _lazily(
        self, body: Iterable[bytes], statuses: list[int], subject: str, decision: Decision, endpoint: str | None
    ) -> Iterator[bytes]:
        """A body that is a generator starts the answer with its first part, or fails before."""
        try:
            yield from body
        finally:
            if not statuses:
                self._gate.served(subject, decision, endpoint, 500)
            if hasattr(body, "close"):
                body.close()


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
