"""Questions to the remembered landing files, each of which reads only the rows that it is about.

What the rows mean is the lake's business: here they are looked up, and forgotten some time after their files are gone.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import landed_files

FORGOTTEN_AFTER = timedelta(days=30)
"""A file that was missing for so long is a new one if it comes back. Longer than any disk stays unmounted, or backup
takes to be restored; a folder from which 10,000 files a day go has 300,000 remembered, of which an idle run reads none.
"""
AT_ONCE = 500
"""Values asked for in one query."""
PAGE = 5_000
_COLUMNS = [column for column in landed_files.c if column.name not in ("batch", "gone_at")]
_STAMP = (landed_files.c.path, landed_files.c.stored_bytes, landed_files.c.mtime_ns, landed_files.c.inode)


class LandedFiles:
    """What the ledger remembers of landing files, asked piece by piece."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def stamps(self) -> list[tuple[str, int, int, int, bool]]:
        """(path, stored bytes, mtime, inode, whether it is complete) of each that was there at the last look."""
        query = sa.select(*_STAMP, landed_files.c.is_complete).where(landed_files.c.gone_at.is_(None))
        with self._ledger.reading() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def find(self, column: str, values: Iterable[object]) -> list[dict[str, Any]]:
        """Those that have one of the values in that column."""
        return list(self._found(column, values))

    def damaged(self) -> list[dict[str, Any]]:
        return self._where(landed_files.c.damage.is_not(None))

    def incomplete(self) -> list[dict[str, Any]]:
        """Those that were not read to their end."""
        return self._where(~landed_files.c.is_complete)

    def refused(self) -> list[dict[str, Any]]:
        """Those that are there, and whose bytes are of no known format."""
        return self._where(landed_files.c.format.between("refused", "refused~"), landed_files.c.gone_at.is_(None))

    def copies(self) -> list[dict[str, Any]]:
        """Those that are there and of which nothing was read, because another one has the same content."""
        return self._where(landed_files.c.copy_of.is_not(None), landed_files.c.gone_at.is_(None))

    def read_before(self, mtime_ns: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Those in a folder that are there, were read to their end, count, and were last written before that; with
        their batch.
        """
        query = (
            sa.select(*_COLUMNS, landed_files.c.batch)
            .where(landed_files.c.mtime_ns < mtime_ns, landed_files.c.gone_at.is_(None), landed_files.c.is_complete)
            .where(landed_files.c.damage.is_(None), landed_files.c.copy_of.is_(None))
            .where(~landed_files.c.path.contains("://"))
            .order_by(landed_files.c.path)
            .limit(PAGE)
        )
        last = ""
        while True:  # page by page: after years of landing there are millions
            with self._ledger.reading() as connection:
                rows = [dict(row._mapping) for row in connection.execute(query.where(landed_files.c.path > last))]
            yield from ((row, row.pop("batch")) for row in rows)
            if len(rows) < PAGE:
                return
            last = rows[-1]["path"]

    def read_in_folder(self) -> tuple[int, int]:
        """How many files of a folder are there and were read to their end, and their stored bytes."""
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(landed_files.c.stored_bytes), 0)).where(
            landed_files.c.gone_at.is_(None), landed_files.c.is_complete, ~landed_files.c.path.contains("://")
        )
        with self._ledger.reading() as connection:
            [(files, size)] = connection.execute(query)
        return int(files), int(size)

    def settle(self, gone: Collection[str], back: Collection[str], now: datetime) -> None:
        """Remember which paths are gone since now, and which are there again; forget what is gone for long."""
        last_batch = sa.select(sa.func.max(landed_files.c.batch)).scalar_subquery()
        outdated = sa.and_(landed_files.c.gone_at < now - FORGOTTEN_AFTER, landed_files.c.batch < last_batch)
        with self._ledger.reading() as connection:
            is_idle = not gone and not back
            if is_idle and not connection.scalar(sa.select(sa.exists().where(outdated))):
                return
        with self._ledger.transaction() as connection:
            for paths, at in ((gone, now), (back, None)):
                for some in _parts(paths):
                    is_one = landed_files.c.path.in_(some)
                    connection.execute(sa.update(landed_files).where(is_one).values(gone_at=at))
            connection.execute(sa.delete(landed_files).where(outdated))

    def _found(self, column: str, values: Iterable[object]) -> Iterator[dict[str, Any]]:
        with self._ledger.reading() as connection:
            for some in _parts(values):
                query = sa.select(*_COLUMNS).where(landed_files.c[column].in_(some))
                yield from (dict(row._mapping) for row in connection.execute(query))

    def _where(self, *conditions: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        with self._ledger.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(sa.select(*_COLUMNS).where(*conditions))]


def _parts(values: Iterable[object]) -> Iterator[list[object]]:
    every = list(values)
    return (every[start : start + AT_ONCE] for start in range(0, len(every), AT_ONCE))
