"""Rows of meter reports: what is written once, what moves, what is found."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestration.billing import changed_reports, due
from orchestration.billing.meter_ledger import LIVE, MeterLedger
from orchestration.billing.metering import DayPlan, HourRecord, MeterReport, Mode, ReportState
from orchestration.billing.revisions import Report, reports_at_stripe
from orchestration.ledger.engines import BusyError, is_sqlite
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import marks
from tests.support.waiting import wait_until

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEVEN = datetime(2026, 11, 20, 7, tzinfo=UTC)
TODAY, YESTERDAY = date(2026, 11, 20), date(2026, 11, 19)
S = ReportState


@pytest.fixture
def reports(ledger_url: str) -> Iterator[MeterLedger]:
    ledger = Ledger(ledger_url)
    yield MeterLedger(ledger, "local", "api-calls")
    ledger.close()


def report(customer: str = "cus_1", hour: datetime = SEVEN, revision: int = 1, **fields: Any) -> MeterReport:
    units = fields.pop("units", 10 * revision)
    name = f"{customer} {hour:%d-%H} {revision}"
    return MeterReport(
        **{
            "stripe_customer_id": customer,
            "hour_start": hour,
            "revision": revision,
            "units": units,
            "value": units,
            "identifier": name,
            "state": S.PREPARED,
            **fields,
        }
    )


def commit(reports: MeterLedger, *rows: MeterReport, **plan: Any) -> None:
    made = DayPlan(list(rows), **plan)
    with reports.ledger.transaction() as connection:
        reports.commit(connection, TODAY, "mark", made, NOW)


def states(reports: MeterLedger) -> dict[str, ReportState]:
    return {row.identifier: row.state for name in ("cus_1", "cus_2") for row in reports_of(reports, name)}


def reports_of(reports: MeterLedger, customer: str = "cus_1") -> list[Report]:
    return reports.of_customer(customer, SEVEN - 48 * HOUR, SEVEN + 48 * HOUR)


def identifiers(rows: list[Report]) -> list[str]:
    return [row.identifier for row in rows]


def test_committed_reports_come_back_with_their_revisions_in_order(reports: MeterLedger) -> None:
    commit(reports, report(revision=2, value=-3), report(), report(hour=SEVEN - HOUR))

    rows = reports_of(reports)
    assert identifiers(rows) == ["cus_1 20-06 1", "cus_1 20-07 1", "cus_1 20-07 2"]
    last = rows[-1]
    assert (last.units, last.value, last.state, last.created_at) == (20, -3, S.PREPARED, NOW)
    assert (last.attempts, last.answered_errors, last.checks, last.first_attempt_at) == (0, 0, 0, None)
    assert reports.of_customer("cus_1", SEVEN - HOUR, SEVEN) == rows[:1]
    assert reports.at_stripe(["cus_1 20-07 2"]) == {}
    [claimed] = reports.claim([last], NOW)
    assert reports.at_stripe(["cus_1 20-07 2", "none"]) == {"cus_1 20-07 2": claimed}


def test_reports_of_other_environments_and_meters_are_not_seen(reports: MeterLedger) -> None:
    commit(MeterLedger(reports.ledger, "production", "api-calls"), report())
    commit(MeterLedger(reports.ledger, "local", "storage"), report(identifier="x"))

    assert reports_of(reports) == due.prepared(reports, 9) == reports.problems() == reports.totals() == []
    assert reports.live_since() is None
    assert reports.open_days() == set()
    assert reports.planned_days() == {}
    assert reports.at_stripe(["x"]) == {}
    with reports.ledger.reading() as connection:
        assert reports.recorded(connection, TODAY, Mode.TOTAL) == {}


@pytest.mark.parametrize(
    ("second", "error"),
    [
        ({"revision": 2, "identifier": "cus_1 20-07 1"}, ValueError),
        ({"identifier": "x"}, sa.exc.IntegrityError),
    ],
)
def test_report_is_refused_when_it_was_recorded_before(
    reports: MeterLedger, second: dict[str, Any], error: type[Exception]
) -> None:
    commit(reports, report())

    with pytest.raises(error):
        commit(reports, report("cus_2"), report(**second))
    assert identifiers(reports_of(reports, "cus_2")) == []


def test_recorded_is_what_the_plan_needs_of_a_utc_day(reports: MeterLedger) -> None:
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    commit(
        reports,
        report(hour=midnight - HOUR),
        report(hour=midnight, state=S.CONFIRMED),
        report(hour=midnight, revision=2, value=10, state=S.REFUSED),
        report(hour=midnight + 24 * HOUR),
    )
    [row] = reports.of_customer("cus_1", midnight - HOUR, midnight)
    decided = NOW + HOUR
    [newest] = [each for each in reports_of(reports) if each.revision == 2]
    reports.save([Report(**{**vars(newest), "finished_at": decided})], "finished_at")

    with reports.ledger.reading() as connection:
        found = reports.recorded(connection, TODAY, Mode.TOTAL)
        assert reports.recorded(connection, YESTERDAY, Mode.DELTA) == {
            ("cus_1", row.hour_start): HourRecord(1, S.PREPARED, 10, 10, NOW, None)
        }
    assert found == {("cus_1", midnight): HourRecord(2, S.REFUSED, 20, 10, decided, 10)}


@pytest.mark.parametrize("state", S)
def test_plan_supersedes_what_is_not_at_stripe(reports: MeterLedger, state: ReportState) -> None:
    commit(reports, report(state=state), report("cus_2", state=state), report(hour=SEVEN - HOUR, state=state))
    commit(reports, superseded=[("cus_1", SEVEN)])

    gives_way = state in (S.WAITING, S.PREPARED, S.REFUSED, S.LOST, S.HELD)
    assert states(reports) == {
        "cus_1 20-06 1": state,
        "cus_1 20-07 1": S.SUPERSEDED if gives_way else state,
        "cus_2 20-07 1": state,
    }


def test_day_is_planned_once_its_plan_is_settled(reports: MeterLedger) -> None:
    commit(reports)
    assert reports.planned_days() == {TODAY: "mark"}
    commit(reports, is_settled=False)
    assert reports.planned_days() == {TODAY: "unsettled"}


@pytest.mark.parametrize("state", S)
def test_day_is_open_while_the_newest_of_an_hour_may_need_another_plan(
    reports: MeterLedger, state: ReportState
) -> None:
    commit(reports, report(state=state))
    is_open = state in (S.WAITING, S.PREPARED, S.SENDING, S.REFUSED, S.LOST, S.HELD)
    assert reports.open_days() == ({TODAY} if is_open else set())

    commit(reports, report(revision=2, state=S.CONFIRMED))
    assert reports.open_days() == set()


def test_live_since_is_the_first_hour_that_was_not_a_preview(reports: MeterLedger) -> None:
    commit(reports, report(hour=SEVEN - 3 * HOUR, state=S.PREVIEWED))
    assert reports.live_since() is None
    commit(reports, report(), report(hour=SEVEN - HOUR, state=S.REFUSED))
    assert reports.live_since() == SEVEN - HOUR


def test_day_is_read_by_the_index_of_its_hours(reports: MeterLedger) -> None:
    commit(reports, report())
    asked: list[tuple[str, Any]] = []
    engine = reports.ledger._engine  # what is asked of it is what the test is about
    if not is_sqlite(engine):
        pytest.skip("a server plans by its statistics, and has none of a table that small")

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.extend([(statement, parameters)] if statement.startswith("SELECT") else [])

    with reports.ledger.reading() as connection:
        assert len(reports.recorded(connection, TODAY, Mode.TOTAL)) == 1
    assert [len(chunk) for chunk in changed_reports.rows_of(reports, TODAY, ["units"])] == [1]
    assert reports.live_since() == SEVEN
    sa.event.remove(engine, "before_cursor_execute", note)
    with reports.ledger.reading() as connection:
        plans = [str(connection.exec_driver_sql(f"explain query plan {sql}", given).all()) for sql, given in asked]
    *of_day, first = plans
    assert all("state=? AND hour_start>? AND hour_start<?" in plan for plan in of_day)
    assert len(of_day) == 2
    assert first.count("COVERING INDEX meter_reports_by_state (meter_id=? AND state=?)") == len(LIVE)


def test_what_is_written_while_somebody_reads_waits_for_nobody(reports: MeterLedger, ledger_url: str) -> None:
    other = MeterLedger(Ledger(ledger_url), "local", "api-calls")
    reports.remember("seen", "before")
    with reports.ledger.reading() as connection:
        value = sa.select(marks.c.value).where(marks.c.name.endswith("|seen"))
        assert connection.scalar(value) == "before"
        with other.ledger.transaction() as writing:
            writing.execute(sa.update(marks).where(marks.c.name.endswith("|seen")).values(value="after"))
        assert connection.scalar(value) == ("before" if is_sqlite(reports.ledger._engine) else "after")
    assert reports.mark("seen") == "after"
    other.ledger.close()


def test_marks_are_remembered_for_each_meter(reports: MeterLedger) -> None:
    other = MeterLedger(reports.ledger, "local", "other")
    reports.remember("meter", "mtr_1")
    reports.remember("meter", "mtr_2")

    assert (reports.mark("meter"), reports.mark("none"), other.mark("meter")) == ("mtr_2", None, None)


def test_due_are_the_prepared_oldest_first_and_then_those_in_doubt(reports: MeterLedger) -> None:
    commit(reports, report(), report("cus_2", SEVEN - HOUR), report(hour=SEVEN - HOUR), report("cus_2", state=S.SENT))
    [doubtful] = reports.claim(due.prepared(reports, 1), NOW)
    assert doubtful.identifier == "cus_1 20-06 1"

    assert identifiers(due.prepared(reports, 1)) == ["cus_2 20-06 1"]
    assert identifiers(due.prepared(reports, 9)) == ["cus_2 20-06 1", "cus_1 20-07 1"]
    reports.claim(due.prepared(reports, 9), NOW + HOUR)
    assert due.prepared(reports, 9) == []
    assert identifiers(due.doubtful(reports)) == ["cus_1 20-06 1", "cus_2 20-06 1", "cus_1 20-07 1"]


def test_due_leaves_customers_out_or_takes_only_their_closing_hours(reports: MeterLedger) -> None:
    commit(reports, report(), report(hour=SEVEN - HOUR), report("cus_2"), report("cus_3", SEVEN - HOUR))
    assert identifiers(due.prepared(reports, 9, without={"cus_1", "cus_3"})) == ["cus_2 20-07 1"]
    assert identifiers(due.prepared(reports, 9, closing={"cus_1": SEVEN})) == ["cus_1 20-06 1"]
    assert not due.is_all_sent(reports)

    reports.claim(due.prepared(reports, 1), NOW)
    commit(reports, report("cus_2", revision=2, state=S.WAITING))
    closing = {"cus_1": SEVEN + HOUR, "cus_2": SEVEN + HOUR, "cus_3": SEVEN - HOUR}
    assert identifiers(due.unsent(reports, closing)) == ["cus_1 20-06 1", "cus_1 20-07 1", "cus_2 20-07 2"]
    assert due.unsent(reports, {}) == []


def test_due_and_old_share_all_by_the_hour_and_the_first_attempt(reports: MeterLedger) -> None:
    commit(reports, report(), report(hour=SEVEN - HOUR), report("cus_2"), report("cus_2", SEVEN - HOUR))
    mine = reports_of(reports, "cus_2")
    reports.claim(mine[:1], NOW)
    reports.claim(mine[1:], NOW + HOUR)
    commit(reports, *(report("cus_3", revision=n, state=state) for n, state in enumerate((S.SENT, S.HELD), 1)))

    since = SEVEN
    assert identifiers(due.prepared(reports, 9, since)) == ["cus_1 20-07 1"]
    assert identifiers(due.old(reports, since)) == ["cus_1 20-06 1"]
    commit(reports, superseded=[("cus_1", SEVEN), ("cus_1", SEVEN - HOUR)])
    since = NOW + HOUR
    assert identifiers(due.doubtful(reports, since)) == ["cus_2 20-07 1"]
    assert identifiers(due.old(reports, since)) == ["cus_2 20-06 1"]


def test_claim_notes_each_attempt_before_it_is_made(reports: MeterLedger) -> None:
    commit(reports, report(), report("cus_2"))
    claimed = reports.claim(reports_of(reports), NOW)
    [again] = reports.claim(claimed, NOW + HOUR)

    assert reports_of(reports) == [again]
    assert again.is_in_doubt
    assert (again.attempts, again.first_attempt_at, again.attempted_at) == (2, NOW, NOW + HOUR)
    assert states(reports)["cus_2 20-07 1"] is S.PREPARED


def test_save_writes_only_what_is_named(reports: MeterLedger) -> None:
    commit(reports, report(), report("cus_2"))
    [row] = reports_of(reports)
    changed = Report(**{**vars(row), "state": S.SENT, "finished_at": NOW, "error": "no", "checks": 3})
    reports.save([changed], "state", "finished_at")
    reports.save([], "state")

    [found] = reports_of(reports)
    assert (found.state, found.finished_at, found.error, found.checks) == (S.SENT, NOW, None, 0)
    assert states(reports)["cus_2 20-07 1"] is S.PREPARED


@pytest.mark.parametrize("state", S)
def test_problems_are_the_newest_revisions_that_are_not_billed_as_counted(
    reports: MeterLedger, state: ReportState
) -> None:
    commit(reports, report(state=state), report("cus_2", SEVEN - HOUR, state=S.HELD), report("cus_2", state=state))
    commit(reports, report("cus_2", revision=2))

    mine = ["cus_1 20-07 1"] if state in (S.REFUSED, S.MISMATCH, S.HELD, S.WAITING) else []
    assert identifiers(reports.problems()) == ["cus_2 20-06 1", *mine]
    assert identifiers(reports.problems(1)) == ["cus_2 20-06 1"]


def test_adopted_report_is_a_further_revision_and_its_day_is_planned_again(reports: MeterLedger) -> None:
    commit(reports, report(state=S.MISMATCH))
    [row] = reports_of(reports)
    adopted = reports.adopt("cus_1", SEVEN, 7, row.units, NOW)

    assert reports_of(reports) == [row, adopted]
    assert (adopted.revision, adopted.units, adopted.value, adopted.state) == (2, 7, 7 - row.units, S.CONFIRMED)
    assert reports.problems() == []
    assert reports.planned_days() == {TODAY: "unsettled"}


def test_unconfirmed_begin_with_the_customer_that_waits_longest(reports: MeterLedger) -> None:
    rows = [report(f"cus_{n}", hour) for n in (1, 2, 3) for hour in (SEVEN - 5 * HOUR, SEVEN)]
    commit(reports, *rows)

    def note(customer: str, **fields: Any) -> None:
        found = [Report(**{**vars(row), "state": S.SENT, **fields}) for row in reports_of(reports, customer)]
        reports.save(found, "state", "finished_at", "checked_at")

    note("cus_1", finished_at=NOW)
    note("cus_2", finished_at=NOW - HOUR, checked_at=NOW + HOUR)
    note("cus_3", finished_at=NOW + 3 * HOUR)
    window = (SEVEN - 5 * HOUR, SEVEN)

    assert reports.unconfirmed(NOW) == {"cus_2": window}
    assert list(reports.unconfirmed(NOW + 2 * HOUR).items()) == [("cus_1", window), ("cus_2", window)]
    note("cus_1", finished_at=NOW, state=S.MISMATCH)
    note("cus_2", finished_at=NOW, state=S.CONFIRMED)
    assert list(reports.unconfirmed(NOW + 4 * HOUR)) == ["cus_1", "cus_3"]


def test_totals_count_reports_customers_and_hours_by_state(reports: MeterLedger) -> None:
    commit(reports, report(), report(hour=SEVEN + HOUR), report("cus_2"), report("cus_3", state=S.SENT))

    assert [tuple(total.values()) for total in reports.totals()] == [
        ("prepared", 3, 2, SEVEN, SEVEN + HOUR),
        ("sent", 1, 1, SEVEN, SEVEN),
    ]


def test_reports_at_stripe_are_the_newest_revisions_that_it_may_have(reports: MeterLedger) -> None:
    commit(reports, *(report(revision=n, state=s) for n, s in enumerate((S.SENT, S.SENDING, S.REFUSED, S.HELD), 1)))

    assert {key: row.revision for key, row in reports_at_stripe(reports_of(reports)).items()} == {("cus_1", SEVEN): 2}


HOLDER = """
import sys
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import marks
from orchestration.billing import changed_reports, due
from orchestration.billing.meter_ledger import MeterLedger
with MeterLedger(Ledger(sys.argv[1]), "local", "api-calls").alone():
    print("alone", flush=True)
    sys.stdin.read()
"""


def test_only_one_process_is_alone_and_a_killed_one_is_not(reports: MeterLedger, ledger_url: str) -> None:
    command = [sys.executable, "-c", HOLDER, ledger_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "alone\n"
        with pytest.raises(BusyError, match="another run is working on stripe"), reports.alone():
            pass
        other.kill()

    def is_alone() -> bool:
        with suppress(BusyError), reports.alone():
            return True
        return False

    wait_until(is_alone)  # a server notices a moment later
