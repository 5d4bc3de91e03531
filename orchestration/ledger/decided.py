"""What was decided to be said: each message once, as plain data, whichever routes it takes. The deliveries are in
`ledger.py`: a message has one for each route.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestration.ledger.ledger import Delivery, Ledger, State, delivery_of
from orchestration.ledger.tables import announced_crossings, deliveries, messages


@dataclass(frozen=True)
class Decided:
    """A message that was decided."""

    key: str
    """env|kind|subject, such as production|digest|2026-11-20."""
    kind: str
    content: dict[str, Any]
    """As `messages/message.py` writes it; of versions before routes, what Slack got."""
    decided_at: datetime
    """The moment of its figures."""


def record(connection: sa.Connection, key: str, content: dict[str, Any], at: datetime) -> None:
    """Write it down. Its deliveries are prepared in the same transaction."""
    kind = key.split("|")[1]
    connection.execute(sa.insert(messages).values(key=key, kind=kind, content=content, decided_at=at))


def find(connection: sa.Connection, key: str) -> Decided | None:
    """The message of that key, None where it was not decided yet."""
    row = connection.execute(sa.select(messages).where(messages.c.key == key)).first()
    return Decided(**row._mapping) if row else None


def exists(ledger: Ledger, key: str) -> bool:
    """Whether there is a message of that key."""
    with ledger.reading() as connection:
        return connection.scalar(sa.select(messages.c.key).where(messages.c.key == key)) is not None


def deliveries_of(ledger: Ledger, key: str) -> list[Delivery]:
    """The deliveries of a message, one for each route and address, by their keys; replies are not among them."""
    query = sa.select(deliveries).where(deliveries.c.message == key).order_by(deliveries.c.key)
    with ledger.reading() as connection:
        return [delivery_of(row) for row in connection.execute(query)]


def last_digest(connection: sa.Connection, env: str, but: str = "") -> Decided | None:
    """The newest digest `but` that one. Up to its `decided_at` crossings were looked at."""
    query = sa.select(messages).where(_is_digest(env), messages.c.key != but)
    row = connection.execute(query.order_by(messages.c.decided_at.desc()).limit(1)).first()
    return Decided(**row._mapping) if row else None


def last_digest_at(connection: sa.Connection, env: str, but: str = "") -> datetime | None:
    """When `last_digest` was decided."""
    newest = sa.select(messages.c.decided_at).where(_is_digest(env), messages.c.key != but)
    found: datetime | None = connection.scalar(newest.order_by(messages.c.decided_at.desc()).limit(1))
    return found


def first_digest_on(ledger: Ledger, env: str, since: str) -> str | None:
    """The business day of the oldest digest, ISO 8601; of those before `since` only one that still waits counts."""
    over = (State.SENT, State.PREVIEWED, State.GIVEN_UP)
    waits = sa.exists().where(deliveries.c.message == messages.c.key, deliveries.c.state.not_in(over))
    counts = sa.or_(messages.c.key >= f"{env}|digest|{since}", waits)
    with ledger.reading() as connection:
        oldest = connection.scalar(sa.select(sa.func.min(messages.c.key)).where(_is_digest(env), counts))
    return str(oldest).split("|")[2] if oldest else None


def told(
    connection: sa.Connection, prefix: str, since: datetime
) -> list[tuple[tuple[str, str, datetime, int, str], datetime | None]]:
    """Crossings found after `since` that messages under `prefix` announce, and when the first of their deliveries was
    done. One whose deliveries were all given up is not among them.
    """
    table, done = announced_crossings.c, (State.SENT, State.PREVIEWED)
    query = (
        sa.select(table.account_id, table.meter, table.period_start, table.quota, table.threshold)
        .add_columns(deliveries.c.state, deliveries.c.finished_at)
        .join(deliveries, table.message_key == deliveries.c.message)
        .where(table.message_key.startswith(prefix, autoescape=True), table.outcome == "announced")
        .where(table.detected_at > since, deliveries.c.state != State.GIVEN_UP)
        .order_by(table.detected_at, table.account_id, table.meter)
    )
    found: dict[tuple[str, str, datetime, int, str], datetime | None] = {}
    for row in connection.execute(query):
        key, at = (row[0], row[1], row[2], row[3], row[4]), row[6] if row[5] in done else None
        before = found.get(key)
        found[key] = min(at, before) if at and before else at or before
    return list(found.items())


def _is_digest(env: str) -> sa.ColumnElement[bool]:
    return sa.and_(messages.c.kind == "digest", messages.c.key.startswith(f"{env}|digest|", autoescape=True))
