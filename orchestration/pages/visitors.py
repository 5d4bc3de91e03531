"""Who is at the door: somebody with a key, or the user of a login proxy."""

import threading
from collections.abc import Callable
from datetime import datetime

from starlette.requests import Request

from orchestration.ledger import page_keys, page_views
from orchestration.ledger.ledger import Ledger
from orchestration.pages.asking import Visitor
from orchestration.settings import Settings

COOKIE = "headroom_key"
CUSTOMER_COOKIE = "headroom_usage"


class NoKeyError(PermissionError):
    """Nobody, or somebody whose key is wrong, expired or revoked. The message says what to do, and not which it was."""


class TooManyError(PermissionError):
    """This address tried too many wrong keys."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many wrong keys. Wait {seconds} s, and open the link again.")
        self.seconds = seconds
        """To wait."""


class Door:
    """Lets visitors in, and writes down whose figures they saw. One for a process; threads share it."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._settings, self._ledger, self._clock = settings, ledger, clock
        self._recorded: set[tuple[str, str, str, datetime]] = set()
        self._lock = threading.Lock()

    def with_secret(self, secret: str, address: str) -> page_keys.PageKey:
        """The valid key with that secret.

        :raises NoKeyError: there is none.
        :raises TooManyError: nor were the last ones from that address.
        """
        key = page_keys.find(self._ledger, secret)
        if key is None or not key.is_valid(self._clock()):
            raise NoKeyError("This link is not valid, or not any longer. Ask who gave it to you for a new one.")
        return key

    def visitor(self, request: Request) -> Visitor:
        """By the bearer token, the cookie, or the login proxy.

        :raises NoKeyError: none of them, or it is not valid.
        :raises TooManyError: too many wrong ones came from that address.
        """
        address = request.client.host if request.client else ""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        is_customers = request.url.path.startswith(f"{request.scope.get('root_path', '')}/u/")
        secret = (
            bearer if scheme.lower() == "bearer" else request.cookies.get(CUSTOMER_COOKIE if is_customers else COOKIE)
        )
        if not secret:
            raise NoKeyError("This page opens with a link. Ask your data team for one.")
        key = self.with_secret(secret, address)
        return Visitor(key.name, "internal" if key.account_id is None else "customer", key.account_id, key.id)

    def record(self, visitor: Visitor, account_id: str, page: str) -> None:
        """Before the answer: this visitor sees that account's figures."""
        now = self._clock()
        who = f"key:{visitor.key_id}" if visitor.key_id else f"login:{visitor.name}"
        seen = (who, account_id, page, now.replace(minute=0, second=0, microsecond=0))
        if seen not in self._recorded:
            page_views.record(self._ledger, who, account_id, page, now)
            with self._lock:
                self._recorded = {each for each in self._recorded if each[3] == seen[3]} | {seen}
