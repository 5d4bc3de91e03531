"""What was said about one account, to whom and when: the messages that announce its crossings, and the digests.

Which crossings a message announces is in `announced_crossings` and `routed_crossings`; here they are only read. The
weekly and the monthly digest announce none: what they say of an account is in their own lines.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.tables import (
    announced_crossings,
    deliveries,
    dispositions,
    messages,
    route_starts,
    routed_crossings,
)

PERIODIC = ("weekly", "monthly")
"""Kinds of messages that have lines about accounts, and announce no crossing."""


@dataclass(frozen=True)
class Announced:
    """A crossing that a message announces."""

    meter: str
    threshold: str
    is_withdrawn: bool


@dataclass(frozen=True)
class Remark:
    """A line about the account in a weekly or monthly digest."""

    heading: str
    """Of its section, with the number of lines: Dropping (12)."""
    text: str


@dataclass(frozen=True)
class Way:
    """Deliveries of a message by one route that are in the same state."""

    route: str
    channel: str
    state: State
    at: datetime | None
    """When the last of them was done; None before."""
    permalink: str | None
    """Of one of them."""
    count: int


@dataclass(frozen=True)
class Answered:
    """What people answered, and did not withdraw."""

    account_id: str
    meter: str
    disposition: str
    said_at: datetime


@dataclass(frozen=True)
class Announcement:
    """A message that is about an account."""

    key: str
    kind: str
    decided_at: datetime
    crossings: list[Announced] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)


@dataclass(frozen=True)
class Digest:
    """A digest in the list of all."""

    on: str
    """Its business day, ISO 8601."""
    decided_at: datetime
    accounts: int
    """Whose crossings it announces."""
    ways: list[Way]


def of_account(ledger: Ledger, env: str, account_id: str, limit: int) -> list[Announcement]:
    """The newest first."""
    of_digest, routed = announced_crossings.c, routed_crossings.c
    # the key begins with environment and route
    routes = sa.select(route_starts.c.route).where(route_starts.c.env == env)
    announced = sa.union_all(
        sa.select(
            of_digest.message_key, of_digest.meter, of_digest.threshold,
            of_digest.withdrawn_by.is_not(None).label("is_withdrawn"),
        ).where(of_digest.env == env, of_digest.account_id == account_id, of_digest.outcome == "announced"),
        sa.select(routed.message_key, routed.meter, routed.threshold, sa.false()).where(
            routed.env == env, routed.route.in_(routes), routed.account_id == account_id,
            routed.message_key.is_not(None),
        ),
    ).subquery()  # fmt: skip
    newest = (
        sa.select(messages.c.key, messages.c.kind, messages.c.decided_at)
        .where(messages.c.key.in_(sa.select(announced.c.message_key)))
        .order_by(messages.c.decided_at.desc(), messages.c.key)
        .limit(limit)
    )
    with ledger.reading() as connection:
        all_found = [Announcement(*row) for row in connection.execute(newest)]
        all_found += _with_remarks(connection, env, account_id, limit)
        all_found.sort(key=lambda each: each.decided_at, reverse=True)
        found = {each.key: each for each in all_found[:limit]}
        for row in connection.execute(sa.select(announced).where(announced.c.message_key.in_(found))):
            crossing = Announced(row.meter, row.threshold, bool(row.is_withdrawn))
            if crossing not in found[row.message_key].crossings:
                found[row.message_key].crossings.append(crossing)
        for key, ways in _ways(connection, list(found)).items():
            found[key].ways.extend(ways)
        for key, answers in _answers(connection, list(found), account_id).items():
            found[key].answers.extend(answers)
    return list(found.values())


def _with_remarks(connection: sa.Connection, env: str, account_id: str, limit: int) -> Iterator[Announcement]:
    """Weekly and monthly digests with lines about the account, the newest first."""
    content = sa.cast(messages.c.content, sa.Text)
    position = sa.func.strpos if connection.dialect.name == "postgresql" else sa.func.instr
    named = (
        sa.select(messages)
        .where(
            messages.c.kind.in_(PERIODIC),
            sa.or_(*(messages.c.key.startswith(f"{env}|{kind}|", autoescape=True) for kind in PERIODIC)),
            position(content, json.dumps(account_id)) > 0,
        )
        .order_by(messages.c.decided_at.desc(), messages.c.key)
        .limit(limit)
    )
    for row in connection.execute(named):
        remarks = [
            Remark(section["heading"], line["text"])
            for section in row.content.get("sections", [])
            for line in section["lines"]
            if line.get("account_id") == account_id
        ]
        if remarks:
            yield Announcement(row.key, row.kind, row.decided_at, remarks=remarks)


def digests(ledger: Ledger, env: str, limit: int) -> list[Digest]:
    """The newest first."""
    crossings = announced_crossings.c
    newest = (
        sa.select(messages.c.key, messages.c.decided_at)
        .where(messages.c.kind == "digest", messages.c.key.startswith(f"{env}|digest|", autoescape=True))
        .order_by(messages.c.decided_at.desc(), messages.c.key.desc())
        .limit(limit)
    )
    with ledger.reading() as connection:
        rows = connection.execute(newest).all()
        keys = [row.key for row in rows]
        counts = (
            sa.select(crossings.message_key, sa.func.count(sa.distinct(crossings.account_id)))
            .where(crossings.env == env, crossings.outcome == "announced", crossings.message_key.in_(keys))
            .group_by(crossings.message_key)
        )
        accounts = dict(connection.execute(counts).tuples().all())
        ways = _ways(connection, keys)
    return [
        Digest(row.key.split("|")[2], row.decided_at, accounts.get(row.key, 0), ways.get(row.key, [])) for row in rows
    ]


def neighbours(ledger: Ledger, env: str, on: str) -> tuple[str, str]:
    """The business days of the digests before and after that of `on`, ISO 8601; empty where there is none."""
    table, prefix = messages.c, f"{env}|digest|"
    is_digest = (table.kind == "digest", table.key.startswith(prefix, autoescape=True))
    with ledger.reading() as connection:
        before = connection.scalar(sa.select(sa.func.max(table.key)).where(*is_digest, table.key < prefix + on))
        after = connection.scalar(sa.select(sa.func.min(table.key)).where(*is_digest, table.key > prefix + on))
    return str(before or "").removeprefix(prefix), str(after or "").removeprefix(prefix)


def ways_of(ledger: Ledger, key: str) -> list[Way]:
    """Where the message went, by routes."""
    with ledger.reading() as connection:
        return _ways(connection, [key]).get(key, [])


def answers_to(ledger: Ledger, key: str) -> list[Answered]:
    """What people answered to the message, the oldest first."""
    with ledger.reading() as connection:
        return _answers(connection, [key], None).get(key, [])


def _ways(connection: sa.Connection, keys: Sequence[str]) -> dict[str, list[Way]]:
    """Without the payloads, which may hold pictures. Replies have no message."""
    table = deliveries.c
    query = (
        sa.select(table.message, table.route, table.channel, table.state)
        .add_columns(sa.func.max(table.finished_at, type_=table.finished_at.type), sa.func.max(table.permalink))
        .add_columns(sa.func.count())
        .where(table.message.in_(keys))
        .group_by(table.message, table.route, table.channel, table.state)
        .order_by(table.message, table.route, table.channel, table.state)
    )
    found: dict[str, list[Way]] = {}
    for key, route, channel, state, at, permalink, count in connection.execute(query):
        found.setdefault(key, []).append(Way(route, channel, State(state), at, permalink, count))
    return found


def _answers(connection: sa.Connection, keys: Sequence[str], account_id: str | None) -> dict[str, list[Answered]]:
    table = dispositions.c
    delivered = sa.select(deliveries.c.key).where(deliveries.c.message.in_(keys))  # the key begins with the delivery
    query = (
        sa.select(table.message_key, table.account_id, table.meter, table.disposition, table.said_at)
        .where(table.delivery_key.in_(delivered), table.withdrawn_at.is_(None))
        .where(table.account_id == account_id if account_id is not None else sa.true())
        .order_by(table.said_at, table.account_id, table.meter)
    )
    found: dict[str, list[Answered]] = {}
    for key, *said in connection.execute(query):
        found.setdefault(key, []).append(Answered(*said))
    return found
