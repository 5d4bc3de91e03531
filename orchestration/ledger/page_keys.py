"""Keys of the pages: who may open what, and until when. A key itself is nowhere but in its link; here is its hash.

A key has 256 random bits, so its hash needs no salt and cannot be guessed.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import page_keys


@dataclass(frozen=True)
class PageKey:
    """What a key opens."""

    id: str
    """By which people name it, for `revoke`. It opens nothing."""
    name: str
    audience: str
    """internal, customer or gate: colleagues, one customer, or a gate, which gets `limits.json` and no page."""
    account_id: str | None
    """The only account that a customer sees."""
    granted_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and now < self.expires_at


def grant(
    ledger: Ledger,
    name: str,
    account_id: str | None,
    now: datetime,
    expires_at: datetime,
    *,
    is_gate: bool = False,
) -> tuple[PageKey, str]:
    """A new key for the company, for the customer of an account, or for a gate; and its secret, which nobody can read
    again.
    """
    secret = secrets.token_urlsafe(32)
    key = PageKey(
        id=secrets.token_hex(4),
        name=name,
        audience="gate" if is_gate else "internal" if account_id is None else "customer",
        account_id=account_id,
        granted_at=now,
        expires_at=expires_at,
        revoked_at=None,
    )
    with ledger.transaction() as connection:
        connection.execute(sa.insert(page_keys).values(**vars(key), sha256=_hash(secret)))
    return key, secret


def find(ledger: Ledger, secret: str) -> PageKey | None:
    """The key with that secret, valid or not; None where there is none."""
    wanted = _hash(secret)
    with ledger.reading() as connection:
        row = connection.execute(sa.select(page_keys).where(page_keys.c.sha256 == wanted)).first()
    return _key(row) if row and hmac.compare_digest(row.sha256, wanted) else None


def listed(ledger: Ledger) -> list[PageKey]:
    """All of them, the newest first."""
    with ledger.reading() as connection:
        return [_key(row) for row in connection.execute(sa.select(page_keys).order_by(page_keys.c.granted_at.desc()))]


def revoke(ledger: Ledger, key_id: str, now: datetime) -> PageKey | None:
    """From now on it opens nothing. The key as it is then; None where there is none with that id."""
    table = page_keys.c
    with ledger.transaction() as connection:
        connection.execute(
            sa.update(page_keys).where(table.id == key_id, table.revoked_at.is_(None)).values(revoked_at=now)
        )
        row = connection.execute(sa.select(page_keys).where(table.id == key_id)).first()
    return _key(row) if row else None


def _key(row: sa.Row[tuple[object, ...]]) -> PageKey:
    return PageKey(**{name: value for name, value in row._mapping.items() if name != "sha256"})


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
