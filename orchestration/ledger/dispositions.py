"""What people answered to alerts, as rows of their own: a reaction or a reply, for each account that it is about.

An answer is known by its `source`, so reading it again changes nothing. One that is gone keeps its row, withdrawn. What
an answer means and whom it is about is decided in `messages/`; which of several holds, by the models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestration.ledger.ledger import Delivery, Ledger, State, delivery_of
from orchestration.ledger.tables import announced_crossings, deliveries, dispositions, messages


@dataclass(frozen=True)
class Said:
    """An answer about one account and meter."""

    source: str
    """Where the channel has it, without which it was withdrawn: C0DIGEST/1732089600.000100 :eyes:"""
    account_id: str
    meter: str
    disposition: str
    by_user: str
    """The channel's id of who said it; of several the first."""
    said_at: datetime
    """UTC; of a reaction, when it was first read."""


@dataclass(frozen=True)
class Kept:
    """What reading a thread changed."""

    new: int
    """Answers that are new, changed, or there again."""
    withdrawn: int


def threads(ledger: Ledger, env: str, kinds: Sequence[str], since: datetime) -> list[Delivery]:
    """Messages of these kinds that were sent since then, by their keys; replies are not among them."""
    query = (
        sa.select(deliveries)
        .join(messages, deliveries.c.message == messages.c.key)
        .where(messages.c.kind.in_(kinds), messages.c.key.startswith(f"{env}|", autoescape=True))
        .where(deliveries.c.state == State.SENT, deliveries.c.finished_at >= since)
        .order_by(deliveries.c.key)
    )
    with ledger.reading() as connection:
        return [delivery_of(row) for row in connection.execute(query)]


def keep(ledger: Ledger, env: str, delivery: Delivery, said: Sequence[Said], now: datetime) -> Kept:
    """Make what is known of the thread of `delivery` what was read there: `said` is all of it."""
    with ledger.reading() as connection:
        new, gone = _changes(connection, delivery.key, said)
    if not (new or gone):
        return Kept(0, 0)
    with ledger.transaction() as connection:
        new, gone = _changes(connection, delivery.key, said)
        for it in gone:
            connection.execute(sa.update(dispositions).where(_is(delivery, it)).values(withdrawn_at=now))
        for each in new:
            connection.execute(sa.delete(dispositions).where(_is(delivery, _key(each))))
            values = {**vars(each), "env": env, "delivery_key": delivery.key, "message_key": delivery.message}
            connection.execute(sa.insert(dispositions).values(values))
    return Kept(len(new), len(gone))


def alerts(ledger: Ledger, env: str) -> list[dict[str, Any]]:
    """The crossings that a message announced and no later one withdrew: alerted_at is the moment of its figures."""
    table = announced_crossings.c
    query = (
        sa.select(table.account_id, table.meter, table.period_start, table.quota, table.threshold, table.crossed_at)
        .add_columns(table.detected_at.label("alerted_at"), table.message_key)
        .where(table.env == env, table.outcome == "announced", table.withdrawn_by.is_(None))
        .order_by(table.detected_at, table.account_id, table.meter, table.period_start, table.quota, table.threshold)
    )
    with ledger.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def answers(ledger: Ledger, env: str) -> list[dict[str, Any]]:
    """All rows of an environment, withdrawn ones too, without who said it."""
    table = dispositions.c
    query = (
        sa.select(table.message_key, table.source, table.account_id, table.meter, table.disposition)
        .add_columns(table.said_at, table.withdrawn_at)
        .where(table.env == env)
        .order_by(table.delivery_key, table.source, table.account_id, table.meter)
    )
    with ledger.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


_Key = tuple[str, str, str]
"""source, account_id, meter: of one delivery."""


def _changes(connection: sa.Connection, key: str, said: Sequence[Said]) -> tuple[list[Said], list[_Key]]:
    """What is to be written, and what is there no longer."""
    query = sa.select(dispositions).where(dispositions.c.delivery_key == key)
    known = {_key(row): row for row in connection.execute(query)}
    found = {_key(each): each for each in said}
    new = [each for it, each in found.items() if it not in known or _is_other(known[it], each)]
    return new, [it for it, row in known.items() if it not in found and not row.withdrawn_at]


def _is(delivery: Delivery, it: _Key) -> sa.ColumnElement[bool]:
    table, (source, account_id, meter) = dispositions.c, it
    is_answer = (table.source == source, table.account_id == account_id, table.meter == meter)
    return sa.and_(table.delivery_key == delivery.key, *is_answer)


def _is_other(row: Any, said: Said) -> bool:
    return bool(row.withdrawn_at) or row.disposition != said.disposition


def _key(row: Any) -> _Key:
    return row.source, row.account_id, row.meter
