"""What routes did with crossings and limit hits, since when they look, and which customers want no more mail.

A route by itself decides each crossing once. What it decides is in `messages/account_notice.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestration.ledger.tables import route_starts, routed_crossings
from orchestration.ledger.tables import unsubscribed as unsubscribed_table

Key = tuple[str, str, datetime, int, str]
"""(account_id, meter, period_start, quota, threshold)."""


def since(connection: sa.Connection, env: str, route: str, terms: str, at: datetime) -> datetime:
    """From when on the route has its `terms`: what was crossed before is old for it. New terms count from `at` on."""
    table = route_starts.c
    of_route = sa.and_(table.env == env, table.route == route)
    row = connection.execute(sa.select(table.since, table.terms).where(of_route)).first()
    if row is not None and row.terms == terms:
        found: datetime = row.since
        return found
    connection.execute(sa.delete(route_starts).where(of_route))
    connection.execute(sa.insert(route_starts).values(env=env, route=route, since=at, terms=terms))
    return at


def known_since(connection: sa.Connection, env: str, route: str, terms: str) -> datetime | None:
    """The same, without a start; None where the route has other terms, or never looked."""
    table = route_starts.c
    of_terms = sa.select(table.since).where(table.env == env, table.route == route, table.terms == terms)
    found: datetime | None = connection.scalar(of_terms)
    return found


def decided(connection: sa.Connection, env: str, route: str, first_period: datetime) -> set[Key]:
    """The crossings that the route has an outcome of, of periods from `first_period` on."""
    table = routed_crossings.c
    query = sa.select(table.account_id, table.meter, table.period_start, table.quota, table.threshold).where(
        table.env == env, table.route == route, table.period_start >= first_period
    )
    return {(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)}


def messages_since(connection: sa.Connection, env: str, route: str, at: datetime) -> Counter[str]:
    """How many messages about each account the route has decided since then."""
    table = routed_crossings.c
    query = sa.select(table.account_id, sa.func.count()).where(
        table.env == env, table.route == route, table.decided_at >= at, table.message_key.is_not(None)
    )
    return Counter(dict(connection.execute(query.group_by(table.account_id)).tuples().all()))


def record(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """The outcomes, in the transaction that freezes their messages."""
    if rows:
        connection.execute(sa.insert(routed_crossings), list(rows))


def unsubscribed(connection: sa.Connection) -> set[str]:
    """The addresses that get no letters, in small letters."""
    return set(connection.scalars(sa.select(unsubscribed_table.c.address)))


def unsubscribe(connection: sa.Connection, address: str, note: str, at: datetime) -> bool:
    """No letter goes there from now on; False where that was so before."""
    if address.casefold() in unsubscribed(connection):
        return False
    connection.execute(sa.insert(unsubscribed_table).values(address=address.casefold(), since=at, note=note))
    return True


def resubscribe(connection: sa.Connection, address: str) -> bool:
    """Letters may go there again; False where they might before."""
    of_address = unsubscribed_table.c.address == address.casefold()
    return connection.execute(sa.delete(unsubscribed_table).where(of_address)).rowcount > 0
