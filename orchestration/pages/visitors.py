"""Who is at the door: somebody with a key, or the user of a login proxy."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import get_args

import sqlalchemy as sa
from starlette.requests import Request

from orchestration.ledger import page_keys, page_views
from orchestration.ledger.ledger import Ledger
from orchestration.pages import addresses
from orchestration.pages.asking import Audience, NotFoundError, Visitor
from orchestration.pages.wrong_keys import WrongKeys
from orchestration.settings import Settings

COOKIE = "headroom_key"
CUSTOMER_COOKIE = "headroom_usage"
GATE = "gate"
"""Audience of a key."""
_REMEMBERED = 10_000
_NAME_CHARACTERS = 200

Seen = tuple[str, str, str]
"""A visitor, an account and a page."""


class NoKeyError(PermissionError):
    """Nobody, or somebody whose key is wrong, expired or revoked. The message says what to do, and not which it was."""


class TooManyError(PermissionError):
    """This address tried too many wrong keys."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many wrong keys came from your address. Wait {seconds} s, or ask for a new link.")
        self.seconds = seconds
        """To wait."""


@dataclass
class _Batch:
    """Views that are committed together."""

    views: dict[Seen, datetime] = field(default_factory=dict)
    is_done: bool = False
    fault: sa.exc.SQLAlchemyError | None = None


class Door:
    """Lets visitors in, and writes down whose figures they saw. One for a process; threads share it."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger, self._clock = ledger, clock
        self._header, self._trusted = settings.pages_trust_header, settings.pages_trusted
        self._wrong = WrongKeys()
        self._hour: datetime | None = None
        self._recorded: set[Seen] = set()
        self._batch = _Batch()
        self._writing = threading.Lock()
        self._forgot_on: date | None = None
        self._lock = threading.Lock()

    def with_secret(self, secret: str, request: Request) -> page_keys.PageKey:
        """The valid key with that secret.

        :raises NoKeyError: there is none.
        :raises TooManyError: nor were the last ones from that address.
        """
        now = self._clock()
        key = page_keys.find(self._ledger, secret)
        if key is not None and key.is_valid(now):
            return key
        if seconds := self._wrong.note(addresses.client(request, self._trusted), now):
            raise TooManyError(seconds)
        raise NoKeyError("This link is not valid, or not any longer. Ask who gave it to you for a new one.")

    def visitor(self, request: Request) -> Visitor:
        """By the bearer token, else the login proxy, else the cookie. A customer's page asks for a customer's cookie.

        :raises NoKeyError: none of them, or it is not valid.
        :raises TooManyError: too many wrong ones came from that address.
        """
        is_customers = request.scope["path"].startswith("/u/")
        secret: str | None = _bearer(request)
        if not secret and not is_customers and (user := self._user(request)):
            return Visitor(user, "internal")
        secret = secret or request.cookies.get(CUSTOMER_COOKIE if is_customers else COOKIE)
        if not secret:
            raise NoKeyError(
                f"This page opens with a link. Ask your {'contact' if is_customers else 'data team'} for one."
            )
        key = self.with_secret(secret, request)
        if key.audience not in get_args(Audience):  # least of all is it a colleague's
            raise NotFoundError("This key is a gate's. It opens /v1/limits alone.")
        return Visitor(key.name, "internal" if key.account_id is None else "customer", key.account_id, key.id)

    def gate(self, request: Request) -> page_keys.PageKey:
        """The key of a gate, by the bearer token: no cookie and no login proxy opens what gates get.

        :raises NoKeyError: there is none, or it is not valid.
        :raises NotFoundError: it is not a gate's.
        :raises TooManyError: too many wrong ones came from that address.
        """
        secret = _bearer(request)
        if not secret:
            raise NoKeyError('Send the key of a gate. `headroom pages grant "api gate" --audience gate` prints one.')
        key = self.with_secret(secret, request)
        if key.audience != GATE:
            raise NotFoundError("There is no such page.")
        return key

    def record(self, visitor: Visitor, account_id: str, page: str) -> None:
        """Before the answer: this visitor sees that account's figures."""
        self.note(f"key:{visitor.key_id}" if visitor.key_id else f"login:{visitor.name}", account_id, page)

    def note(self, who: str, account_id: str, page: str) -> None:
        """The same of a visitor as the access record names it: key:id or login:name."""
        now = self._clock()
        hour = now.replace(minute=0, second=0, microsecond=0)
        seen = (who, account_id, page)
        with self._lock:
            if hour != self._hour or len(self._recorded) >= _REMEMBERED:
                self._hour, self._recorded = hour, set()
            if seen in self._recorded:
                return
            batch = self._batch
            batch.views[seen] = now
        with self._writing:
            if not batch.is_done:
                self._write(batch)
        if batch.fault:
            raise batch.fault
        with self._lock:
            if hour == self._hour:
                self._recorded.add(seen)

    def _write(self, batch: _Batch) -> None:
        """One commit for all who wait: SQLite lets writers at once starve each other."""
        with self._lock:
            self._batch = _Batch()
        now = self._clock()
        try:
            if self._forgot_on != now.date():
                page_views.forget(self._ledger, now, page_views.KEPT_DAYS)
                self._forgot_on = now.date()
            page_views.record(self._ledger, [page_views.View(*seen, at) for seen, at in batch.views.items()])
        except sa.exc.SQLAlchemyError as fault:  # each of them answers it
            batch.fault = fault
        batch.is_done = True

    def _user(self, request: Request) -> str | None:
        """Whom a trusted login proxy names. Named twice, by the proxy and by the visitor, it is nobody."""
        if not self._header or not addresses.is_trusted(request, self._trusted):
            return None
        named = request.headers.getlist(self._header)
        if len(named) != 1:
            return None
        return named[0].encode("latin-1").decode("utf-8", "replace").strip()[:_NAME_CHARACTERS] or None


def _bearer(request: Request) -> str:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else ""
