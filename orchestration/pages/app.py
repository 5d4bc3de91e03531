"""The pages as a Starlette application: addresses, who may open them, and answers. What a page shows is in its module.

Each request is answered in a thread, from one published copy; only gates wait without one. An answer is for its
visitor alone: no proxy keeps it.
"""

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import duckdb
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from orchestration.ledger.ledger import Ledger
from orchestration.pages import (
    account,
    changes,
    customer,
    digests,
    machines,
    openapi,
    quality,
    rendering,
    top,
    utilization,
)
from orchestration.pages.asking import Asked, NotFoundError, Page, Table, Visitor, WrongQuestionError
from orchestration.pages.cookies import cookie
from orchestration.pages.headers import Headers
from orchestration.pages.limits import Limits
from orchestration.pages.links import Served
from orchestration.pages.rendering import STYLE
from orchestration.pages.visitors import COOKIE, CUSTOMER_COOKIE, Door, NoKeyError, TooManyError
from orchestration.settings import Settings
from orchestration.warehouse.kept_copy import KeptCopy
from orchestration.warehouse.published_copy import (
    LockedCopyError,
    NothingPublishedError,
    OutdatedCopyError,
    UnreadableCopyError,
)

Endpoint = Callable[[Request], Response | Awaitable[Response]]
MOST_PARAMETERS = 30
"""Of an address; later ones are ignored, and of two of a name the last one counts."""
LEDGER_SECONDS = 5
"""That a view waits for another writer, before it is refused."""

logger = logging.getLogger("headroom.pages")


def build(settings: Settings, clock: Callable[[], datetime]) -> Starlette:
    """The application. `clock` is the real time, for keys and the access record; pages show that of `settings`."""
    return _Site(settings, clock).application()


class _Site:
    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._ledger = Ledger(settings.ledger_url, wait_seconds=LEDGER_SECONDS)
        self._copy = KeptCopy(settings.published)
        self._door = Door(settings, self._ledger, clock)
        self._limits = Limits(settings.published, self._door)
        self._root = urlsplit(settings.pages_url or "").path.rstrip("/")
        self._is_secure = (settings.pages_url or "").startswith("https://")
        self._frames = settings.pages_frames

    def application(self) -> Starlette:
        def route(path: str, endpoint: Endpoint) -> Route:
            return Route(path, endpoint, methods=["GET"])

        vary = ", ".join(filter(None, ("Cookie", "Authorization", self._settings.pages_trust_header)))
        around = Middleware(
            Headers,
            ancestors=self._frames,
            root=self._root,
            vary=vary,
            failed=lambda path: self._said(path, 500, _FAILED),
        )
        app = Starlette(
            routes=[
                route("/", self._internal("utilization", utilization.page, utilization.table)),
                route("/accounts/", self._account),
                route("/accounts/{account_id:path}", self._account),
                route("/top", self._internal("top", top.page, top.table)),
                route("/changes", self._internal("changes", changes.page, changes.table)),
                route("/digests", self._internal("digests", digests.listing)),
                route("/digests/{on}", self._digest),
                route("/quality", self._internal("quality", quality.page)),
                route("/k/{secret}", self._enter),
                route("/u/", self._customer),
                route("/u/{secret}", self._enter_as_customer),
                route("/v1/usage", self._machine_usage),
                route("/v1/accounts/{account_id:path}/usage", self._machine_account),
                route("/v1/limits", self._limits.answer),
                route("/openapi.json", self._openapi),
                route("/static/pages.css", lambda _: FileResponse(STYLE, headers={"cache-control": "max-age=3600"})),
                route("/robots.txt", lambda _: PlainTextResponse(rendering.ROBOTS)),
                route("/healthz", lambda _: PlainTextResponse("ok\n")),
            ],
            middleware=[around],
            exception_handlers={
                NoKeyError: self._refused(401),
                TooManyError: self._refused(429),
                NotFoundError: self._refused(404),
                WrongQuestionError: self._refused(400),
                NothingPublishedError: self._refused(503),
                OutdatedCopyError: self._refused(503),
                LockedCopyError: self._refused(503),
                UnreadableCopyError: self._refused(503),
                duckdb.InterruptException: self._refused(503),
                sa.exc.SQLAlchemyError: self._refused(503),
                404: self._refused(404),
                405: self._refused(405),
            },
            lifespan=self._lifespan,
        )
        app.router.redirect_slashes = False  # it would name the host that the visitor names
        return app

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        self._copy.close()
        self._ledger.close()

    # Pages

    def _internal(
        self, name: str, make: Callable[[Asked], Page], table: Callable[[Asked], Table] | None = None
    ) -> Endpoint:
        def endpoint(request: Request) -> Response:
            asked = self._asked(request, self._colleague(request))
            with self._copy.reading():
                if table and asked.parameters.get("format") == "csv":
                    shown = table(asked)
                    self._door.record(asked.visitor, "", name)
                    return _csv(shown)
                return self._html(asked, name, make(asked))

        return endpoint

    def _account(self, request: Request) -> Response:
        asked = self._asked(request, self._colleague(request))
        account_id = request.path_params.get("account_id") or request.query_params.get("id", "")
        with self._copy.reading():
            if asked.parameters.get("format") == "csv":
                shown = account.table(asked, account_id)
                self._door.record(asked.visitor, account_id, "account")
                return _csv(shown)
            return self._html(asked, "account", account.page(asked, account_id))

    def _digest(self, request: Request) -> Response:
        asked = self._asked(request, self._colleague(request))
        with self._copy.reading():
            return self._html(asked, "digests", digests.page(asked, request.path_params["on"]))

    def _customer(self, request: Request) -> Response:
        asked = self._asked(request, self._door.visitor(request))
        if asked.visitor.account_id is None:
            raise NotFoundError("This address is for customers. Open the account's own page.")
        with self._copy.reading():
            return self._html(asked, "customer", customer.page(asked, asked.visitor.account_id))

    def _html(self, asked: Asked, name: str, page: Page) -> Response:
        self._door.record(asked.visitor, page.account_id or "", name)
        return HTMLResponse(rendering.render(page, asked, name))

    # Keys

    def _enter(self, request: Request) -> Response:
        secret = request.path_params["secret"]
        key = self._door.with_secret(secret, request)
        if key.audience == "customer":
            raise NotFoundError("This key is a customer's. Open its own link.")
        if key.audience != "internal":
            raise NotFoundError("This key is a gate's. It opens /v1/limits alone.")
        return self._let_in(secret, COOKIE, f"{self._root}/", key.expires_at)

    def _enter_as_customer(self, request: Request) -> Response:
        secret = request.path_params["secret"]
        key = self._door.with_secret(secret, request)
        if key.account_id is None:
            raise NotFoundError("This key is not a customer's. Open its own link.")
        return self._let_in(secret, CUSTOMER_COOKIE, f"{self._root}/u/", key.expires_at)

    def _let_in(self, secret: str, cookie_name: str, path: str, until: datetime) -> Response:
        """The key goes into a cookie, and out of the address bar, the history and what is passed on.

        A link opens as often as it is asked for: chat programs that look at it first do no harm.
        """
        answer = RedirectResponse(path, 303)
        is_embedded = cookie_name == CUSTOMER_COOKIE and bool(self._frames) and self._is_secure
        answer.headers["set-cookie"] = cookie(
            cookie_name, secret, path, until, is_secure=self._is_secure, is_embedded=is_embedded
        )
        return answer

    # Machines

    def _machine_usage(self, request: Request) -> Response:
        return self._json(request, lambda asked: machines.usage(asked), asked_account=None)

    def _machine_account(self, request: Request) -> Response:
        account_id = request.path_params["account_id"]
        return self._json(request, lambda asked: machines.account_usage(asked, account_id), asked_account=account_id)

    def _json(self, request: Request, make: Callable[[Asked], dict[str, Any]], asked_account: str | None) -> Response:
        visitor = self._door.visitor(request)
        if visitor.account_id is not None and asked_account not in (None, visitor.account_id):
            raise NotFoundError("There is no such account.")
        asked = self._asked(request, visitor)
        with self._copy.reading() as version:
            scope = f"{version} {visitor} {request.scope['path']} {request.url.query}"
            tag = f'"{hashlib.sha256(scope.encode()).hexdigest()[:32]}"'
            headers = {"etag": tag, "cache-control": machines.cache_control(asked)}
            is_known = tag in request.headers.get("if-none-match", "")
            body = "" if is_known else json.dumps(make(asked))
            self._door.record(visitor, asked_account or visitor.account_id or "", "machine")
            if is_known:
                return Response(status_code=304, headers=headers)
            return Response(body, media_type="application/json", headers=headers)

    def _openapi(self, _request: Request) -> Response:
        return Response(json.dumps(openapi.document()), media_type="application/json")

    # Visitors

    def _colleague(self, request: Request) -> Visitor:
        visitor = self._door.visitor(request)
        if not visitor.is_internal:
            raise NotFoundError("There is no such page.")
        return visitor

    def _asked(self, request: Request, visitor: Visitor) -> Asked:
        return Asked(
            settings=self._settings,
            ledger=self._ledger,
            now=self._settings.now(),
            visitor=visitor,
            links=Served(self._root),
            parameters=dict(request.query_params.multi_items()[:MOST_PARAMETERS]),
        )

    def _refused(self, status: int) -> Callable[[Request, Exception], Response]:
        def answer(request: Request, error: Exception) -> Response:
            if status == 503:
                logger.warning("%s: %s", type(error).__name__, getattr(error, "orig", error))
            answered = self._said(request.scope["path"], status, _sentence(error, status))
            if isinstance(error, TooManyError):
                answered.headers["retry-after"] = str(error.seconds)
            elif status == 503:
                answered.headers["retry-after"] = "60"
            elif status == 401:
                answered.headers["www-authenticate"] = "Bearer"
            elif isinstance(error, HTTPException):
                answered.headers.update(error.headers or {})
            return answered

        return answer

    def _said(self, path: str, status: int, sentence: str) -> Response:
        if path.startswith("/v1/"):
            return Response(json.dumps({"error": sentence}), status, media_type="application/json")
        is_customers = path.startswith("/u/")
        return HTMLResponse(rendering.refusal(status, sentence, Served(self._root), is_customers=is_customers), status)


_FAILED = "Headroom failed to make this page. The data team finds the reason in its log."
# What the errors themselves say has paths and columns in it, which are nobody's business but the log's.
_SENTENCES: dict[type[Exception], str] = {
    duckdb.InterruptException: "The question took too long. Ask for less, or try again in a minute.",
    NothingPublishedError: "There are no figures yet. The first run counts them.",
    OutdatedCopyError: "Another version of Headroom made the figures. The next run makes them again.",
    UnreadableCopyError: "The figures cannot be read now. The next run makes them again.",
    LockedCopyError: "Another program has the figures open for writing. Try again in a minute.",
    sa.exc.SQLAlchemyError: "This view cannot be recorded now, so no figures are shown. Try again in a minute.",
}


def _sentence(error: Exception, status: int) -> str:
    for kind, sentence in _SENTENCES.items():
        if isinstance(error, kind):
            return sentence
    if status == 405:
        return "Pages only answer GET and HEAD."
    if status == 404 and not isinstance(error, NotFoundError):
        return "There is no such page."
    return str(error)


def _csv(table: Table) -> Response:
    name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in table.file_name
    )
    return Response(
        table.as_csv(), media_type="text/csv", headers={"content-disposition": f'attachment; filename="{name[:100]}"'}
    )
