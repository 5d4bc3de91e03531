"""Statements that go past SQLAlchemy."""

from pathlib import Path

import sqlalchemy as sa

from orchestration.ledger import engines
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import page_views

HOUR = "2026-11-20 08:00:00.000000"


def test_many_rows_are_inserted_without_asking_for_their_keys(tmp_path: Path) -> None:
    """Python 3.13 binds no second row of a statement that returns keys."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    statement = sa.insert(page_views).values(
        visitor=sa.bindparam("who"),
        account_id=sa.literal_column("''"),
        page=sa.literal_column("'top'"),
        hour_start=sa.bindparam("hour", type_=sa.Text()),
        first_at=sa.literal_column(f"'{HOUR}'"),
    )
    said: list[str] = []
    with ledger.transaction() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *given: said.append(given[2]))
        engines.execute_many(connection, statement, ("who", "hour"), [("key:a", HOUR), ("key:b", HOUR)])
        found = connection.scalars(sa.select(page_views.c.visitor)).all()
    ledger.close()

    assert found == ["key:a", "key:b"]
    assert said[0].startswith("INSERT")
    assert "RETURNING" not in said[0]
