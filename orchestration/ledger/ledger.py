"""The ledger: what was ingested, decided, and sent. docs/billing/ledger.md has its states and invariants.

Every decision is committed here before it has an effect, in one transaction with what it was based on. What differs
between SQLite and Postgres is in engines.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestration.ledger import engines, migrate
from orchestration.ledger.engines import UnusableLedgerError
from orchestration.ledger.tables import (
    announced_crossings,
    channel_users,
    deliveries,
    landed_files,
    messages,
)


class State(StrEnum):
    """Where a delivery stands."""

    DRAFT = "draft"
    """It waits for a person: only `exits.release` lets it be sent."""
    PREPARED = "prepared"
    SENDING = "sending"
    SENT = "sent"
    PREVIEWED = "previewed"
    FAILED = "failed"
    GIVEN_UP = "given_up"
    """People decided that it is not sent."""


@dataclass(frozen=True)
class Delivery:
    """One immutable payload, for one channel, under one key."""

    key: str
    channel: str
    payload: dict[str, Any]
    state: State
    attempts: int
    created_at: datetime
    attempted_at: datetime | None
    finished_at: datetime | None
    receipt: str | None
    error: str | None
    parent: str | None
    """Key of the delivery that this one is a reply to."""
    address: str | None
    """Where the last attempt went; a later one looks there, whatever the configuration says by then."""
    permalink: str | None
    """URL at which people find it; None where the channel has none, or has not said."""
    resends: int = 0
    """How often people had it sent once more. See exits.py."""
    doubts: int = 0
    """How many of its attempts had no answer, and were followed by another one."""
    route: str = "slack"
    """The route that it takes; of a reply, that of its parent."""
    message: str | None = None
    """Key of the message that it delivers, of which other routes may have deliveries, too; None of a reply."""
    not_before: datetime | None = None
    """It waits until then: the quiet hours of its route."""

    @property
    def may_be_repeated(self) -> bool:
        """Whether an attempt before may have arrived, so that a channel that cannot be asked says so."""
        return self.doubts > 0

    @property
    def mark(self) -> str:
        """What the channel can find it by: its key, and of one that was sent once more, which of them it is."""
        return f"{self.key}#{self.resends}" if self.resends else self.key


class Ledger:
    """Opens the ledger at `url`. An SQLite file is created or migrated as needed; Postgres by `headroom db upgrade`.

    A user who may only read an SQLite file reads it: commands that write then fail.

    :raises UnusableLedgerError: it cannot be reached, or its tables are not those of this version.
    """

    def __init__(self, url: str, wait_seconds: int = engines.WAIT_SECONDS) -> None:
        self._engine = engines.create(url, wait_seconds)
        self._alone: sa.Connection | None = None
        if engines.is_sqlite(self._engine) and not engines.is_read_only(self._engine):
            migrate.upgrade(self._engine)
        else:
            migrate.require_newest(self._engine)

    @property
    def is_read_only(self) -> bool:
        """Whether this user may only read it. A server says so with each write."""
        return engines.is_read_only(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One write transaction; other writers wait.

        While `alone` lasts it is made on the connection that holds that lock: who has lost the lock cannot write.
        """
        if self._alone is not None and self._alone.invalidated:  # SQLAlchemy would open another one, without the lock
            raise UnusableLedgerError("the connection to the ledger was lost, and with it the lock; run again")
        opened = self._engine.connect() if self._alone is None else nullcontext(self._alone)
        with opened as connection, connection.begin():
            engines.begin_writing(connection)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Reads one after the other, of one moment on SQLite; writers do not wait."""
        with self._engine.connect() as connection:
            yield connection.execution_options(**{engines.ONLY_READS: True})

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """While this lasts, no other process does what goes by that name; a lock that dies with its process.

        :raises BusyError: another one does.
        """
        with engines.alone(self._engine, name) as self._alone:
            try:
                yield
            finally:
                self._alone = None

    # Landing files

    def last_batch(self) -> int:
        with self._engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.max(landed_files.c.batch))) or 0

    def landed_files(self) -> list[dict[str, Any]]:
        columns = [column for column in landed_files.c if column.name not in ("batch", "gone_at")]
        with self._engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(sa.select(*columns))]

    def record_files(self, batch: int, files: Sequence[Mapping[str, Any]]) -> None:
        """Remember how far the files were read in `batch`, in place of what was known of their paths."""
        with self.transaction() as connection:
            if files:
                of_path = landed_files.c.path == sa.bindparam("of_path")
                connection.execute(
                    sa.delete(landed_files).where(of_path), [{"of_path": file["path"]} for file in files]
                )
                connection.execute(sa.insert(landed_files), [{**file, "batch": batch} for file in files])

    # Deliveries

    def deliveries(self, channel: str | None = None) -> list[Delivery]:
        """All deliveries, newest first."""
        query = sa.select(deliveries).order_by(deliveries.c.created_at.desc(), deliveries.c.key)
        if channel:
            query = query.where(deliveries.c.channel == channel)
        with self._engine.connect() as connection:
            return [delivery_of(row) for row in connection.execute(query)]

    def delivery(self, key: str, connection: sa.Connection | None = None) -> Delivery | None:
        with nullcontext(connection) if connection is not None else self._engine.connect() as reader:
            row = reader.execute(_DELIVERY, {"of_key": key}).first()
        return delivery_of(row) if row else None

    def waiting(self, prefix: str) -> list[str]:
        """Keys of the deliveries under `prefix`, in their order, that have still to be sent, or replies of theirs have.

        One that was only previewed is not waiting, nor are its replies. Nor is a draft, or one that people gave up.
        """
        table = deliveries.c
        query = sa.select(table.key, table.parent, table.state).where(
            table.key.startswith(prefix, autoescape=True),
            table.state.not_in([State.SENT, State.GIVEN_UP, State.DRAFT]),
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        previewed = {key for key, parent, state in rows if state == State.PREVIEWED and not parent}
        return sorted({parent or key for key, parent, _ in rows} - previewed)

    def parts(self, key: str, connection: sa.Connection | None = None) -> list[Delivery]:
        """The replies to the delivery, in the order in which they are sent."""
        with nullcontext(connection) if connection else self._engine.connect() as reader:
            found = [delivery_of(row) for row in reader.execute(_PARTS, {"of_key": key})]
        return sorted(found, key=lambda part: (len(part.key), part.key))

    def prepare(
        self,
        connection: sa.Connection,
        key: str,
        channel: str,
        payload: dict[str, Any],
        now: datetime,
        replies: Sequence[dict[str, Any]] = (),
        *,
        message: str | None = None,
        route: str = "slack",
        not_before: datetime | None = None,
        is_draft: bool = False,
    ) -> None:
        """Freeze a payload, and those of its replies. Sending them later never recomputes them.

        `message` is the key of the decided message that it delivers; without one it is a message of its own, by `key`.
        A draft, with its replies, waits until a person releases it.
        """
        if message is None:
            of_its_own = {"key": key, "kind": "".join(key.split("|")[1:2]), "content": payload, "decided_at": now}
            connection.execute(sa.insert(messages).values(of_its_own))
        rows = [(key, payload, None), *((f"{key}:{n}", reply, key) for n, reply in enumerate(replies, 1))]
        connection.execute(
            sa.insert(deliveries),
            [
                {
                    "key": name,
                    "channel": channel,
                    "payload": content,
                    "state": State.DRAFT if is_draft else State.PREPARED,
                    "attempts": 0,
                    "created_at": now,
                    "parent": parent,
                    "message": None if parent else message or key,
                    "route": route,
                    "not_before": not_before,
                }
                for name, content, parent in rows
            ],
        )

    def claim(self, delivery: Delivery, at: datetime, address: str | None = None) -> Delivery | None:
        """Take the delivery for one attempt; None if another process was faster. `at` is the real clock."""
        claimed = replace(
            delivery,
            state=State.SENDING,
            attempts=delivery.attempts + 1,
            attempted_at=at,
            finished_at=None,
            error=None,
            address=address,
            doubts=delivery.doubts + (delivery.state is State.SENDING),
        )
        names = ("state", "attempts", "attempted_at", "finished_at", "error", "address", "doubts")
        return claimed if self._change(delivery, {name: getattr(claimed, name) for name in names}) else None

    def finish(self, delivery: Delivery, state: State, at: datetime, receipt: str | None, error: str | None) -> bool:
        """Record the outcome of the attempt that `delivery` describes; False if it is no longer the latest."""
        return self._change(delivery, {"state": state, "finished_at": at, "receipt": receipt, "error": error})

    def note_doubt(self, delivery: Delivery, error: str) -> bool:
        """Record why it is still in doubt; False if the attempt that `delivery` describes is no longer the latest."""
        return self._change(delivery, {"error": error})

    def remember_permalink(self, key: str, permalink: str) -> None:
        with self.transaction() as connection:
            connection.execute(sa.update(deliveries).where(deliveries.c.key == key).values(permalink=permalink))

    def _change(self, delivery: Delivery, values: dict[str, Any]) -> bool:
        unchanged = {f"of_{name}": getattr(delivery, name) for name in _ATTEMPT}
        changed = {f"to_{name}": value for name, value in values.items()}
        with self.transaction() as connection:
            return connection.execute(_change_of(tuple(values)), {**unchanged, **changed}).rowcount == 1

    # Users of a channel

    def users(self, channel: str) -> dict[str, tuple[str, datetime]]:
        """(user id, when it was found) of the e-mail addresses that are known there."""
        table = channel_users.c
        query = sa.select(table.email, table.user_id, table.found_at).where(table.channel == channel)
        with self._engine.connect() as connection:
            return {email: (user_id, found_at) for email, user_id, found_at in connection.execute(query)}

    def remember_user(self, channel: str, email: str, user_id: str | None, at: datetime) -> None:
        """Who the address is from now on; None forgets it."""
        table = channel_users.c
        with self.transaction() as connection:
            connection.execute(sa.delete(channel_users).where(table.channel == channel, table.email == email))
            if user_id:
                row = {"channel": channel, "email": email, "user_id": user_id, "found_at": at}
                connection.execute(sa.insert(channel_users).values(row))

    # Crossings

    def announced(self, connection: sa.Connection, env: str, but: str = "") -> set[tuple[str, str, datetime, int, str]]:
        """(account, meter, period start, quota, threshold) of the crossings that have a verdict, withdrawn ones not."""
        return set(self.verdicts(connection, env, but))

    def verdicts(
        self, connection: sa.Connection, env: str, but: str = ""
    ) -> dict[tuple[str, str, datetime, int, str], str]:
        """The verdict on each of those crossings, `but` a digest's."""
        table = announced_crossings.c
        query = sa.select(
            table.account_id, table.meter, table.period_start, table.quota, table.threshold, table.outcome
        ).where(table.env == env, table.withdrawn_by.is_(None), table.message_key != but)
        return {(row[0], row[1], row[2], row[3], row[4]): row[5] for row in connection.execute(query)}

    def record_crossings(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """The verdicts on crossings that have none; one that was withdrawn gives way."""
        if rows:
            connection.execute(
                sa.delete(announced_crossings).where(_is_crossing(), announced_crossings.c.withdrawn_by.is_not(None)),
                [_crossing_key(row) for row in rows],
            )
            connection.execute(sa.insert(announced_crossings), list(rows))

    def withdraw_crossings(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]], by: str) -> None:
        """The crossings stay, as withdrawn by the delivery `by`; if they happen again, they get a verdict again."""
        if rows:
            connection.execute(
                sa.update(announced_crossings).where(_is_crossing()).values(withdrawn_by=by),
                [_crossing_key(row) for row in rows],
            )


# Put together once: that takes longer than the answer.
_OF_KEY = sa.bindparam("of_key", type_=deliveries.c.key.type)
_DELIVERY = sa.select(deliveries).where(deliveries.c.key == _OF_KEY)
_PARTS = sa.select(deliveries).where(deliveries.c.parent == _OF_KEY)
_ATTEMPT = ("key", "state", "attempts", "resends")  # as they were: it is the attempt that it was


@cache
def _change_of(names: tuple[str, ...]) -> sa.Update:
    """Of these columns, from parameters with `to_` before the name, of an attempt by parameters with `of_`."""
    attempt = [deliveries.c[name] == sa.bindparam(f"of_{name}", type_=deliveries.c[name].type) for name in _ATTEMPT]
    values = {name: sa.bindparam(f"to_{name}", type_=deliveries.c[name].type) for name in names}
    return sa.update(deliveries).where(*attempt).values(**values)


def _is_crossing() -> sa.ColumnElement[bool]:
    keys = announced_crossings.primary_key
    return sa.and_(*(column == sa.bindparam(f"of_{column.name}", type_=column.type) for column in keys))


def _crossing_key(row: Mapping[str, Any]) -> dict[str, Any]:
    return {f"of_{column.name}": row[column.name] for column in announced_crossings.primary_key}


def delivery_of(row: Any) -> Delivery:
    """A row of `deliveries`."""
    values = dict(row._mapping)
    return Delivery(**{**values, "state": State(values["state"])})
