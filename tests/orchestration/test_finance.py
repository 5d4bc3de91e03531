"""What finance sees: the ledger's copy in the lake, why an hour was billed as it was, statements."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from orchestration import billing, finance
from orchestration.finance import Copied
from tests.fake_stripe import FakeStripe
from tests.orchestration.test_billing import HOUR, SEVEN, World

DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", "hour")
        for customer in ("cus_a", "cus_b"):
            stripe.add_customer(customer)
        yield World(tmp_path, stripe)


def copied(world: World) -> list[tuple[str, int, int, str]]:
    with duckdb.connect() as connection:
        return connection.execute(
            f"""select stripe_customer_id, revision, units, state from '{world.config.lake}/meter_reports/*/*.parquet'
                order by stripe_customer_id, hour_start, revision"""
        ).fetchall()


def test_copy_has_what_the_ledger_has_and_writes_only_days_that_changed(world: World) -> None:
    assert finance.copy_ledger(world.config) == Copied(days=0, rows=0, is_whole=True)
    assert copied(world) == []

    world.usage = {("a", "cus_a", SEVEN): 5, ("a", "cus_a", SEVEN - DAY): 3, ("b", "cus_b", SEVEN): 1}
    world.run()
    assert finance.copy_ledger(world.config) == Copied(days=2, rows=3, is_whole=False)
    assert finance.copy_ledger(world.config) == Copied(days=0, rows=0, is_whole=False)

    world.usage["a", "cus_a", SEVEN] = 6
    world.run()
    assert finance.copy_ledger(world.config) == Copied(days=1, rows=3, is_whole=False)
    assert copied(world) == [
        ("cus_a", 1, 3, "sent"),
        ("cus_a", 1, 5, "sent"),
        ("cus_a", 2, 6, "sent"),
        ("cus_b", 1, 1, "sent"),
    ]

    world.now += HOUR
    billing.look_back(world.config, lambda: world.now)
    finance.copy_ledger(world.config)
    assert {state for *_, state in copied(world)} == {"confirmed"}


def test_copy_is_made_anew_when_it_is_gone_or_of_another_ledger(world: World) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5, ("a", "cus_a", SEVEN - DAY): 3}
    world.run()
    finance.copy_ledger(world.config)
    backup = world.folder / "backup.sqlite"
    with world.ledger.ledger.transaction() as connection:
        connection.exec_driver_sql("commit")
        connection.exec_driver_sql(f"vacuum into '{backup}'")
        connection.exec_driver_sql("begin")

    shutil.rmtree(world.config.lake / "meter_reports")
    assert finance.copy_ledger(world.config).is_whole
    assert len(copied(world)) == 2

    world.usage["a", "cus_a", SEVEN] = 6
    world.usage["a", "cus_a", SEVEN - 2 * DAY] = 1
    world.run()
    finance.copy_ledger(world.config)
    assert len(copied(world)) == 4
    for path in world.folder.glob("ledger.sqlite*"):
        path.unlink()
    backup.rename(world.folder / "ledger.sqlite")
    assert finance.copy_ledger(world.config) == Copied(days=2, rows=2, is_whole=True)
    assert [units for _, _, units, _ in copied(world)] == [3, 5]


def test_copy_killed_before_the_ledger_knows_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5}
    world.run()
    with monkeypatch.context() as patch:
        patch.setattr("orchestration.delivery.meter_ledger.MeterLedger.note_copied", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            finance.copy_ledger(world.config)
    assert finance.copy_ledger(world.config).rows == 1
    assert len(copied(world)) == 1


def test_change_during_a_copy_is_left_for_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5}
    finance.copy_ledger(world.config)
    world.run()
    rows_of = billing.MeterLedger.rows_of

    def meanwhile(ledger: billing.MeterLedger, *arguments: object) -> object:
        yield from rows_of(ledger, *arguments)  # type: ignore[arg-type]
        world.usage["a", "cus_a", SEVEN] = 6
        world.run()

    with monkeypatch.context() as patch:
        patch.setattr(billing.MeterLedger, "rows_of", meanwhile)
        finance.copy_ledger(world.config)
    assert len(copied(world)) == 1
    finance.copy_ledger(world.config)
    assert len(copied(world)) == 2
