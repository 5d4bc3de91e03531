"""The access record of the pages: who saw which account's figures, on which page, in which hour."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import page_views

KEPT_DAYS = 400


@dataclass(frozen=True)
class View:
    """An hour in which a visitor saw an account's page, once or more."""

    visitor: str
    """key:<id of the key> or login:<user of the login proxy>."""
    account_id: str
    """Empty: a page of many accounts."""
    page: str
    first_at: datetime
    """The first time in that hour."""


def record(ledger: Ledger, visitor: str, account_id: str, page: str, now: datetime) -> None:
    """Committed before the page is answered. A second time in the hour changes nothing."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    values = {"visitor": visitor, "account_id": account_id, "page": page, "hour_start": hour, "first_at": now}
    table = page_views.c
    same = [table[name] == values[name] for name in ("visitor", "account_id", "page", "hour_start")]
    with ledger.transaction() as connection:
        if connection.execute(sa.select(table.first_at).where(*same)).first() is None:
            connection.execute(sa.insert(page_views).values(**values))


def newest(ledger: Ledger, limit: int, visitor: str | None = None, account_id: str | None = None) -> Sequence[View]:
    """The newest first."""
    table = page_views.c
    query = sa.select(table.visitor, table.account_id, table.page, table.first_at)
    for column, wanted in ((table.visitor, visitor), (table.account_id, account_id)):
        if wanted is not None:
            query = query.where(column == wanted)
    with ledger.reading() as connection:
        newest_first = table.hour_start.desc(), table.first_at.desc()  # by hours, for which there is an index
        found = connection.execute(query.order_by(*newest_first).limit(limit))
        return [View(*row) for row in found]


def forget(ledger: Ledger, now: datetime, days: int) -> int:
    """Remove views older than so many days; how many."""
    with ledger.transaction() as connection:
        old = page_views.c.hour_start < now - timedelta(days=days)
        return connection.execute(sa.delete(page_views).where(old)).rowcount


def last_seen(ledger: Ledger) -> dict[str, datetime]:
    """When each visitor came last: the first time in that hour."""
    table = page_views.c
    # of a million views the hours are in the primary key's index, 16 times as fast as the rows
    last = sa.select(table.visitor, sa.func.max(table.hour_start).label("hour")).group_by(table.visitor).subquery()
    in_that_hour = sa.and_(table.visitor == last.c.visitor, table.hour_start == last.c.hour)
    query = sa.select(table.visitor, sa.func.max(table.first_at).label("last_at")).join(last, in_that_hour)
    with ledger.reading() as connection:
        return {row.visitor: row.last_at for row in connection.execute(query.group_by(table.visitor))}
