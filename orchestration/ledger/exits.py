"""What people decide about a delivery that the program cannot bring to its end: its channel is gone, the message that
it replies to was deleted, or it went to the wrong channel.

    any ──resend──> prepared        it goes to the channel that is configured now, whatever became of it before
    draft ──send──> prepared        the letter to a customer may go
    not sent ──give up──> given_up  it is not sent
    not sent ──settle──> sent       somebody has seen that it arrived

Each decision is a row of its own, with a note and what was known before. Nothing is sent here: `outbox.py` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from orchestration.ledger import routed
from orchestration.ledger.ledger import Delivery, Ledger, State
from orchestration.ledger.outbox import ATTEMPT_LIMIT, OVER
from orchestration.ledger.tables import deliveries, delivery_decisions, messages

LETTERS = ("crossing", "limit_hit")
"""Kinds of messages that customers get."""


class Decision(StrEnum):
    """What people decided."""

    RESEND = "resend"
    GIVE_UP = "give_up"
    SETTLE = "settle"
    SEND = "send"


@dataclass(frozen=True)
class Decided:
    """A decision that was made."""

    key: str
    number: int
    decision: Decision
    note: str
    decided_at: datetime
    state_before: State
    receipt_before: str | None


class UndecidableError(ValueError):
    """The decision does not fit the delivery. The message says why and what to do."""


def resend(ledger: Ledger, key: str, note: str, now: datetime) -> list[str]:
    """Have it sent once more, with its replies, as if nothing had been attempted; the keys.

    It carries a new mark (`Delivery.mark`): the message of before is not taken for it.

    :raises UndecidableError: there is none, or an attempt may be under way.
    """
    values: dict[str, Any] = {"state": State.PREPARED, "attempted_at": None, "resends": deliveries.c.resends + 1}
    values = {**values, "doubts": 0, "not_before": None}
    return _decide(ledger, key, Decision.RESEND, note, now, values, values)


def release(ledger: Ledger, key: str, note: str, now: datetime) -> list[str]:
    """The draft, with its replies, may be sent; the keys.

    :raises UndecidableError: there is none, it is not a draft, or its customer has unsubscribed since.
    """
    values = {"state": State.PREPARED}
    return _decide(ledger, key, Decision.SEND, note, now, values, values)


def give_up(ledger: Ledger, key: str, note: str, now: datetime) -> list[str]:
    """It, and its replies that were not sent, are not sent any more; the keys.

    :raises UndecidableError: there is none, it was sent, or an attempt may be under way.
    """
    values = {"state": State.GIVEN_UP, "finished_at": now}
    return _decide(ledger, key, Decision.GIVE_UP, note, now, values, values)


def drop_letters(ledger: Ledger, address: str, note: str, now: datetime) -> list[str]:
    """Letters to customers that wait to go to the address are not sent any more; their keys."""
    waits = (State.DRAFT, State.PREPARED, State.FAILED)
    query = (
        sa.select(deliveries.c.key, deliveries.c.payload, messages.c.content)
        .join(messages, deliveries.c.message == messages.c.key)
        .where(deliveries.c.state.in_(waits), messages.c.kind.in_(LETTERS))
    )
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
    of_address = [
        key
        for key, payload, content in rows
        if content.get("audience") == "customer" and str(payload.get("to", "")).casefold() == address.casefold()
    ]
    for key in of_address:
        give_up(ledger, key, note, now)
    return sorted(of_address)


def settle(
    ledger: Ledger, key: str, note: str, now: datetime, receipt: str | None = None, permalink: str | None = None
) -> list[str]:
    """It arrived, as people have seen. Its replies follow under `receipt`; without one they are given up. The keys.

    :raises UndecidableError: there is none, it was sent, or an attempt may be under way.
    """
    values = {"state": State.SENT, "finished_at": now, "receipt": receipt, "permalink": permalink}
    replies = {} if receipt else {"state": State.GIVEN_UP, "finished_at": now}
    return _decide(ledger, key, Decision.SETTLE, note, now, values, replies)


def stuck(ledger: Ledger, prefix: str, now: datetime) -> list[Delivery]:
    """Of each delivery that is waiting there: itself, or where that was sent, the first of its replies that was not.

    One whose quiet hours last is not stuck.
    """
    found = []
    for key in ledger.waiting(prefix):
        thread = [*filter(None, [ledger.delivery(key)]), *ledger.parts(key)]
        left = [each for each in thread if each.state not in OVER][:1]
        found += [each for each in left if not (each.not_before and each.not_before > now)]
    return found


def decisions(ledger: Ledger, key: str) -> list[Decided]:
    """What was decided about it, oldest first."""
    table = delivery_decisions.c
    query = sa.select(delivery_decisions).where(table.key == key).order_by(table.number)
    with ledger.reading() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query)]
    return [
        Decided(**{**row, "decision": Decision(row["decision"]), "state_before": State(row["state_before"])})
        for row in rows
    ]


def _decide(
    ledger: Ledger,
    key: str,
    decision: Decision,
    note: str,
    now: datetime,
    values: Mapping[str, Any],
    reply_values: Mapping[str, Any],
) -> list[str]:
    """In one transaction: the new values of the delivery and of its replies, and a row about each.

    What was sent stays as it is, unless it is sent once more.
    """
    if not note.strip():
        raise UndecidableError("say why: the note is what people find later")
    with ledger.transaction() as connection:
        delivery = ledger.delivery(key, connection)
        if delivery is None:
            raise UndecidableError(f"there is no delivery {key!r}; `headroom deliveries` lists the keys")
        if _is_closed(delivery, decision):
            raise UndecidableError(f"{key} was sent: `headroom deliveries resend` sends it once more")
        if decision is Decision.SEND:
            _must_be_releasable(connection, delivery)
        if decision is Decision.GIVE_UP and delivery.state is State.GIVEN_UP:
            raise UndecidableError(f"{key} was given up before")
        parts: Sequence[Delivery] = ledger.parts(key, connection) if reply_values else ()
        changes = [(delivery, values), *((part, reply_values) for part in parts if not _is_closed(part, decision))]
        for each, its_values in changes:
            if each.state is State.SENDING and each.attempted_at and now - each.attempted_at < ATTEMPT_LIMIT:
                raise UndecidableError(f"an attempt to send {each.key} may be under way: wait a minute and decide then")
            _change(connection, each, its_values)
            _note(connection, each, decision, note.strip(), now)
    return [each.key for each, _ in changes]


def _must_be_releasable(connection: sa.Connection, delivery: Delivery) -> None:
    if delivery.state is not State.DRAFT:
        raise UndecidableError(f"{delivery.key} is not a draft: `headroom deliveries resend` sends it once more")
    to = str(delivery.payload.get("to", ""))
    if to.casefold() in routed.unsubscribed(connection):
        raise UndecidableError(
            f"{to} has unsubscribed. `headroom deliveries give-up` drops the draft, `headroom routes resubscribe`"
            " lets mail go there again"
        )


def _is_closed(delivery: Delivery, decision: Decision) -> bool:
    return delivery.state is State.SENT and decision is not Decision.RESEND


def _change(connection: sa.Connection, delivery: Delivery, values: Mapping[str, Any]) -> None:
    emptied = dict.fromkeys(("finished_at", "receipt", "error", "address", "permalink"))
    connection.execute(sa.update(deliveries).where(deliveries.c.key == delivery.key).values({**emptied, **values}))


def _note(connection: sa.Connection, delivery: Delivery, decision: Decision, note: str, now: datetime) -> None:
    table = delivery_decisions.c
    last = connection.scalar(sa.select(sa.func.max(table.number)).where(table.key == delivery.key)) or 0
    row = {
        "key": delivery.key,
        "number": last + 1,
        "decision": decision,
        "note": note,
        "decided_at": now,
        "state_before": delivery.state,
        "receipt_before": delivery.receipt,
    }
    connection.execute(sa.insert(delivery_decisions).values(row))
