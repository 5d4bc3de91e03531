"""Data folders of three older commits, opened by the code of today: nothing is lost, counted, sent or billed twice.

Each has lake, warehouse, ledger and Dagster home as the program of that commit left them; see make.py.
"""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from orchestration import settings
from orchestration.cli import run
from orchestration.lake.account_files import ACCOUNTS_FILES
from orchestration.lake.lake import Lake
from orchestration.lake.remembered import Asked
from orchestration.lake.sources import Folder
from orchestration.ledger.landed import LandedFiles
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.tables import REPORT_STATES
from orchestration.warehouse.duckdb import publish
from orchestration.warehouse.published_copy import query
from tests.dbt_project.builder import Builder
from tests.e2e.program import Program
from tests.fakes.slack import FakeSlack
from tests.support.pipeline import assert_built
from tests.upgrades import make

NOW = datetime.fromisoformat(make.NOW)
HOURS = [
    ("cus_acme", datetime(2024, 11, 19, 12, tzinfo=UTC), 7),
    ("cus_acme", datetime(2024, 11, 20, 6, tzinfo=UTC), 1),
    ("cus_beta", datetime(2024, 11, 2, 1, tzinfo=UTC), 1),
    ("cus_beta", datetime(2024, 11, 20, 6, tzinfo=UTC), 1),
]
"""What was sent to the old program, by hour: units of each customer."""
DIGEST = "local|digest|2024-11-20"


def test_what_was_left_behind_is_small() -> None:
    assert make.LEFT_BEHIND.stat().st_size < 200_000


@pytest.mark.parametrize("name", ["two_days", "a_day"])
def test_upgrade_keeps_counts_and_memory(name: str, data: Path) -> None:
    make.unpack(name, data)
    ledger, lake = Ledger(settings.load().ledger_url), Lake(data / "lake")
    with lake.writing():
        batch, skipped = lake.ingest(Folder(data / "landing"), Asked(LandedFiles(ledger)), NOW)
        assert batch  # files with other inodes, which are known by their content
        assert (batch.lines, skipped) == (0, [])
        for kind in ACCOUNTS_FILES:
            path = data / f"{kind.name}.csv"
            lake.write_accounts(kind, path if path.exists() else None, rejected_at=NOW)
    assert_built(Builder(data).results(NOW))
    published = data / "published.duckdb"
    publish(data / "warehouse.duckdb", published)

    assert counted(published) == HOURS
    delivery = ledger.delivery(DIGEST)
    assert delivery
    assert delivery.state is State.SENT
    crossed = query(published, "select account_id, meter, quota, threshold from threshold_crossings where is_in_digest")
    announced = "select account_id, meter, quota, threshold from announced_crossings"
    program = Program(data.parent)
    assert {tuple(row.values()) for row in crossed} <= set(program.ledger(announced)) != set()
    reports = program.ledger(
        "select stripe_customer_id, hour_start, units, state from meter_reports"
        " join report_customers on customer_id = report_customers.id order by 1, 2"
    )
    sent = REPORT_STATES.index("sent")
    assert reports == [(customer, hour.timestamp() // 3600, units, sent) for customer, hour, units in HOURS]
    ledger.close()


@pytest.mark.parametrize("name", ["two_days", "a_day"])
def test_dagster_home_shows_its_runs_and_takes_more(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make.unpack(name, data)
    monkeypatch.setenv("DAGSTER_HOME", str(data / "dagster"))

    @dg.asset
    def added() -> None: ...

    with run._instance(settings.load()) as instance:
        [before] = instance.get_run_records()
        assert before.dagster_run.status is dg.DagsterRunStatus.SUCCESS
        published = instance.get_latest_materialization_event(dg.AssetKey("published_copy"))
        assert published
        assert published.run_id == before.dagster_run.run_id
        assert dg.materialize([added], instance=instance).success
        assert [each.status for each in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS] * 2


def test_first_headroom_is_upgraded_by_a_run(tmp_path: Path) -> None:
    """The real program, which also opens the Dagster home. The first one sent a digest, and nothing to Stripe."""
    with FakeSlack() as slack:
        program = Program(tmp_path)
        program.with_slack(slack)
        make.unpack("first", program.data)
        said = program.run("run", HEADROOM_LANDING=str(program.data / "landing")).stdout

        assert "Ingested 0 events from 0 new lines" in said
        assert "Digest of 2024-11-20: already delivered: sent" in said
        assert slack.messages == []
        assert counted(program.data / "published.duckdb") == HOURS
        [lines] = query(program.data / "published.duckdb", "select count(*) as lines from events_rejected")
        assert lines == {"lines": 1}


def test_first_layout_of_the_lake_is_there_or_todays_when_killed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the exchange of the trees nothing of the old one is touched, and the next attempt begins from it."""
    make.unpack("first", data)
    before = sorted(path for path in (data / "lake" / "batches").rglob("*") if path.is_file())
    with monkeypatch.context() as patch:
        patch.setattr("orchestration.lake.compaction.exchange", _killed)
        with pytest.raises(SystemExit), Lake(data / "lake").writing():
            pass
    assert sorted(path for path in (data / "lake" / "batches").rglob("*") if path.is_file()) == before

    lake = Lake(data / "lake")
    with lake.writing():
        assert [batch.number for batch in lake.batches()] == [1]
        assert lake.count(0, 1) == 12
    with duckdb.connect() as connection:
        columns = connection.execute(f"describe from '{data}/lake/batches/*/calls/*/*.parquet'").fetchall()
    assert "sample_weight" in {column[0] for column in columns}


def _killed(*_: object) -> None:
    raise SystemExit


def counted(published: Path) -> list[tuple[object, ...]]:
    rows = query(
        published,
        "select stripe_customer_id, hour_start, billable_units::bigint from billable_usage_hourly order by all",
    )
    return [tuple(row.values()) for row in rows]
