"""Processes that decide the same at the same moment."""

import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

import pytest
import sqlalchemy as sa

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import DayPlan, MeterReport, Mode, ReportState
from orchestration.ledger.engines import BusyError, UnusableLedgerError
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.tables import announced_crossings, deliveries, meter_reports
from tests.support import programs
from tests.support.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
ROUNDS, RACERS = 20, 3


def crossing(key: str) -> dict[str, Any]:
    of = {"env": "local", "account_id": "acme", "meter": "api-calls", "period_start": NOW, "quota": 1}
    at = {"crossed_at": NOW, "detected_at": NOW}
    return {**of, **at, "threshold": "80%", "outcome": "announced", "message_key": key}


def decide(ledger: Ledger, key: str) -> None:
    """As a digest is decided: what no other has announced is its news."""
    with ledger.transaction() as connection:
        if ledger.delivery(key, connection):
            return
        news = [] if ledger.announced(connection, "local") else [crossing(key)]
        ledger.prepare(connection, key, "slack", {"news": len(news)}, NOW)
        ledger.record_crossings(connection, news)


def decide_the_same(ledger: Ledger, number: int, racer: int) -> None:
    decide(ledger, f"local|digest|{number}")


def decide_another(ledger: Ledger, number: int, racer: int) -> None:
    decide(ledger, f"local|digest|{number}.{racer}")


def claim(ledger: Ledger, number: int, racer: int) -> None:
    key = f"local|digest|{number}"
    decide(ledger, key)
    delivery = ledger.delivery(key)
    assert delivery
    if delivery.state is State.PREPARED and ledger.claim(delivery, NOW, str(racer)):
        decide(ledger, f"{key} claimed by {racer}")


def plan(ledger: Ledger, number: int, racer: int) -> None:
    """As a day is planned, without the lock that keeps others away: one more revision on what is there."""
    reports, customer = MeterLedger(ledger, "local", "api-calls"), ("cus_1", NOW)
    with ledger.transaction() as connection:
        known = reports.recorded(connection, NOW.date(), Mode.TOTAL).get(customer)
        revision = known.revision + 1 if known else 1
        report = MeterReport(*customer, revision, 1, 1, f"revision {revision}", ReportState.PREPARED)
        reports.commit(connection, NOW.date(), "mark", DayPlan([report]), NOW)


def ledger_after_race(how: Callable[[Ledger, int, int], None], url: str) -> Ledger:
    process = programs.run(race, how.__name__, url)
    assert (process.stderr, process.returncode) == ("", 0)
    return Ledger(url)


def test_digest_is_decided_once_when_processes_race(ledger_url: str) -> None:
    ledger = ledger_after_race(decide_the_same, ledger_url)

    assert sorted(delivery.key for delivery in ledger.deliveries()) == sorted(
        f"local|digest|{number}" for number in range(ROUNDS)
    )
    ledger.close()


def test_crossing_is_news_of_one_digest_when_processes_race(ledger_url: str) -> None:
    ledger = ledger_after_race(decide_another, ledger_url)

    assert Counter(delivery.payload["news"] for delivery in ledger.deliveries()) == {0: ROUNDS * RACERS - 1, 1: 1}
    with ledger.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(announced_crossings)) == 1
    ledger.close()


def test_claim_is_given_to_one_process_when_processes_race(ledger_url: str) -> None:
    ledger = ledger_after_race(claim, ledger_url)

    claims = Counter(delivery.key.partition(" claimed")[0] for delivery in ledger.deliveries() if "by" in delivery.key)
    assert claims == {f"local|digest|{number}": 1 for number in range(ROUNDS)}
    with ledger.reading() as connection:
        attempts = sa.select(sa.func.max(deliveries.c.attempts))
        assert connection.scalar(attempts) == 1
    ledger.close()


def test_plan_is_made_on_the_newest_revision_when_processes_race(ledger_url: str) -> None:
    ledger = ledger_after_race(plan, ledger_url)

    with ledger.reading() as connection:
        revisions = connection.scalars(sa.select(meter_reports.c.revision).order_by(meter_reports.c.revision)).all()
    assert revisions == list(range(1, ROUNDS * RACERS + 1))
    ledger.close()


@pytest.mark.parametrize("ledger_url", ["postgres"], indirect=True)
def test_process_writes_nothing_when_the_server_took_its_lock_away(ledger_url: str) -> None:
    first, second = Ledger(ledger_url), Ledger(ledger_url)
    with pytest.raises(UnusableLedgerError, match="connection to the ledger was lost"), first.alone("stripe"):
        decide(first, "before")
        with pytest.raises(BusyError), second.alone("stripe"):
            pass
        with second.transaction() as connection:
            connection.execute(
                sa.text(
                    "select pg_terminate_backend(pid, 60000) from pg_locks where locktype = 'advisory'"
                    " and pid <> pg_backend_pid()"
                )
            )
        with second.alone("stripe"):
            decide(second, "other")
        with pytest.raises(sa.exc.OperationalError):
            decide(first, "after")
        decide(first, "again")

    assert {delivery.key for delivery in second.deliveries()} == {"before", "other"}


def run_each(how: Callable[[Ledger, int, int], None], url: str, racer: int, barrier: Any) -> None:
    ledger = Ledger(url)
    try:
        for number in range(ROUNDS):
            barrier.wait()
            how(ledger, number, racer)
    except BaseException:
        barrier.abort()
        raise
    finally:
        ledger.close()


def race(name: str, url: str) -> None:
    do = {each.__name__: each for each in (decide_the_same, decide_another, claim, plan)}[name]
    Ledger(url).close()
    context = get_context("fork")
    start = context.Barrier(RACERS, timeout=PATIENCE_SECONDS)
    processes = [context.Process(target=run_each, args=(do, url, n, start)) for n in range(RACERS)]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    sys.exit(any(each.exitcode for each in processes))
