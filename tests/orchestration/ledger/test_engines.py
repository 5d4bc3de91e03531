"""Statements that go past SQLAlchemy."""

from pathlib import Path

import sqlalchemy as sa

from orchestration.ledger import engines
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import report_customers


def test_many_rows_are_inserted_without_asking_for_their_keys(tmp_path: Path) -> None:
    """Python 3.13 binds no second row of a statement that returns keys."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    next_id = sa.literal_column("(select ifnull(max(id), 0) + 1 from report_customers)")
    statement = sa.insert(report_customers).values(id=next_id, stripe_customer_id=sa.bindparam("customer"))
    said: list[str] = []
    with ledger.transaction() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *given: said.append(given[2]))
        engines.execute_many(connection, statement, ("customer",), [("cus_a",), ("cus_b",)])
        found = connection.scalars(sa.select(report_customers.c.stripe_customer_id)).all()
    ledger.close()

    assert found == ["cus_a", "cus_b"]
    assert said[0].startswith("INSERT")
    assert "RETURNING" not in said[0]
