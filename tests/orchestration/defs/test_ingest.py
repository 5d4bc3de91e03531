"""Ingestion as Dagster runs it: how old the newest call is, few files of many, and the lake's bucket."""

import os
import shutil
import socket
from datetime import timedelta
from logging import getLogger
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from filelock import FileLock
from typer.testing import CliRunner

from orchestration import settings
from orchestration.cli.main import app
from orchestration.defs import ingest as ingest_module
from orchestration.defs.ingest import ingest, judge_age
from orchestration.defs.resources import Project
from orchestration.lake import compaction
from orchestration.lake.bucket import LakeBucketError
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.tables import landed_files
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, land, make_event, make_quota
from tests.support.duckdb_file import opened


def ingested() -> int:
    """Materialize; how many events were accepted."""
    result = dg.materialize([ingest], resources={"project": Project()})
    [event] = result.asset_materializations_for_node("ingest")[:1]
    accepted = event.metadata["events_accepted"].value
    assert isinstance(accepted, int)
    return accepted


def test_machine_that_lost_its_lake_goes_on_where_the_bucket_ends(
    s3: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_LAKE_URL", "s3://usage/lake")
    runner, lake = CliRunner(), data / "lake"
    assert "wait to be" not in runner.invoke(app, ["doctor"]).stdout
    land(data / "landing", "a.ndjson", make_event(uuid="1"), make_event(uuid=None))
    assert ingested() == 2
    shutil.rmtree(lake)
    assert "`headroom lake claim`" in " ".join(runner.invoke(app, ["doctor"]).stdout.split())
    with pytest.raises(LakeBucketError, match="headroom lake claim"):
        ingested()

    claimed = runner.invoke(app, ["lake", "claim"])
    assert claimed.exit_code == 0
    assert "was the writer before; `headroom run` stops there" in claimed.stdout
    assert socket.gethostname() in claimed.stdout
    assert "1 batch to download" in " ".join(runner.invoke(app, ["doctor"]).stdout.split())
    land(data / "landing", "b.ndjson", make_event(uuid="1"), make_event(uuid="2"))
    assert ingested() == 1
    assert sorted(path.name for path in (lake / "batches").iterdir()) == ["000000", "000001", "000002"]
    assert "bucket and folder have all batches" in " ".join(runner.invoke(app, ["doctor"]).stdout.split())


def test_landed_files_go_and_are_forgotten_where_days_are_set(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(day: int, keep: int | None = 2) -> dict[str, Any]:
        monkeypatch.setenv("HEADROOM_NOW", (NOW + timedelta(days=day)).isoformat())
        monkeypatch.setenv("HEADROOM_LANDING_KEEP_DAYS", str(keep or ""))
        result = dg.materialize([ingest], resources={"project": Project()})
        [event] = result.asset_materializations_for_node("ingest")[:1]
        return {name: each.value for name, each in event.metadata.items() if "removed" in name}

    def remembered() -> list[str]:
        ledger = Ledger(Project().settings.ledger_url)
        with ledger.reading() as connection:
            return list(connection.execute(sa.select(landed_files.c.path)).scalars())

    path = land(data / "landing", "a.ndjson", make_event(uuid="1"))
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    assert on(0) == {"landed_files_removed": 0, "landed_bytes_removed": 0}
    size = path.stat().st_size
    assert on(3, keep=None) == {}
    assert on(4) == {"landed_files_removed": 1, "landed_bytes_removed": size}
    assert not path.exists()
    on(5)
    assert remembered() == ["a.ndjson"]
    land(data / "landing", "b.ndjson", make_event(uuid="2"))
    on(36)  # 30 days after it was missed, with the first run that reads something after it
    assert remembered() == ["b.ndjson"]
    assert World(data).calls() == ["1", "2"]


def test_first_file_of_accounts_in_latin_1_fails_the_run_with_a_sentence(data: Path) -> None:
    (data / "accounts.csv").write_bytes("account_id,name\nzürich,Zürich\n".encode("latin-1"))
    with pytest.raises(dg.Failure) as failed:
        ingested()
    assert (failed.value.description or "").endswith(
        "accounts.csv is not UTF-8 text: line 2 has 'zürich,Zürich' if it is Latin-1; export it as UTF-8."
        " Repair or remove the file, then run again."
    )


def test_everything_is_read_until_a_file_is_refused(data: Path) -> None:
    def check() -> dg.AssetCheckEvaluation:
        result = dg.materialize([ingest], resources={"project": Project()})
        [found] = [each for each in result.get_asset_check_evaluations() if each.check_name == "everything_is_read"]
        return found

    land(data / "landing", "a.ndjson", make_event(uuid="1"))
    assert check().passed
    land(data / "landing", "notes.txt", "hello")
    (data / "landing" / "gone.ndjson").symlink_to("nowhere")
    for _ in range(2):  # what was refused is remembered, and still said
        found = check()
        assert (found.passed, found.metadata["not_read"].value) == (False, 2)
    assert "Not read: gone.ndjson cannot be read: No such file or directory. And 1 more" in (found.description or "")


def test_lake_that_ends_before_its_ledger_is_refused(data: Path) -> None:
    land(data / "landing", "a.ndjson", make_event(uuid="1"))
    assert ingested() == 1
    shutil.rmtree(data / "lake")
    with pytest.raises(ValueError, match=r"has read the files of batch 1, but the lake in .* ends at 0"):
        ingested()


def test_file_of_accounts_that_is_named_and_not_there_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_CUSTOMERS", str(data / "none.csv"))
    with pytest.raises(dg.Failure, match=rf"HEADROOM_CUSTOMERS names {data}/none\.csv, which does not exist"):
        ingested()


def checked(data: Path, **files: str) -> tuple[dict[str, Any], dict[str, str | None]]:
    """Write files of accounts and materialize; (metadata of raw_accounts, what the check of each file says)."""
    for name, content in files.items():
        (data / f"{name}.csv").write_text(content)
    result = dg.materialize([ingest], resources={"project": Project()})
    found = {event.asset_key: event.metadata for event in result.asset_materializations_for_node("ingest") if event}
    checks = {check.asset_key: check for check in result.get_asset_check_evaluations()}
    assert all(check.severity is dg.AssetCheckSeverity.WARN for check in checks.values())
    said = {name: checks[dg.AssetKey(f"raw_{name}")].description for name in ("accounts", "subjects", "customers")}
    metadata = {name: value.value for name, value in found[dg.AssetKey("raw_accounts")].items()}
    return metadata, said


ACCOUNTS = "account_id,mrr,stripe_customer_id\na,5,cus_a\nb,6,cus_b\nc,7,cus_c\nd,8,cus_d\n"
CUSTOMERS = "account_id,stripe_customer_id,valid_from,valid_until\na,cus_new,,\n"


def test_bad_files_of_accounts_stop_nothing_and_each_says_what_is_in_use(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    metadata, said = checked(data, accounts=ACCOUNTS, customers=CUSTOMERS)
    assert metadata == {"dagster/row_count": 4, "rows_rejected": 0, "read_at": "2026-11-20 08:00 UTC"}
    assert said == {"accounts": None, "subjects": None, "customers": None}

    monkeypatch.setenv("HEADROOM_NOW", (NOW + timedelta(hours=1)).isoformat())
    bad = CUSTOMERS.replace("cus_new,", "cus_new,soon")
    land(data / "landing", "a.ndjson", make_event())
    metadata, said = checked(data, accounts=ACCOUNTS[:40], customers=bad, subjects="subject,account_id\n")
    assert metadata["held_since"] == "2026-11-20 09:00 UTC"
    assert metadata["dagster/row_count"] == 4
    assert said == {
        "accounts": "Held since 2026-11-20 09:00 UTC. 3 of 4 accounts that it had are missing: b, c, d. Headroom goes"
        " on with the 4 rows that it read 2026-11-20 08:00 UTC. Repair the file, or take it as it is: `headroom lake"
        " accept accounts`.",
        "subjects": f"Held since 2026-11-20 09:00 UTC. {data}/subjects.csv: the first line must name the columns, among"
        " them subject, account_id, valid_from, valid_until; it names ['subject', 'account_id'], so valid_from,"
        " valid_until is missing. Headroom goes on with the 0 rows that it read 2026-11-20 08:00 UTC. Repair the"
        " file.",
        "customers": "1 cell or row cannot be read: `headroom rejected` lists the problems. The last valid values count"
        " instead, the oldest from 2026-11-20 08:00 UTC.",
    }
    shown = " ".join(CliRunner().invoke(app, ["doctor"]).stdout.split())
    assert "FAILS accounts file: held since 2026-11-20 09:00 UTC. 3 of 4 accounts" in shown
    assert (
        "missing customers file: 1 of its customers use their last valid values, the oldest from 2026-11-20 08:00"
        in shown
    )

    (data / "accounts.csv").unlink()
    assert "The file has disappeared." in str(checked(data)[1]["accounts"])


def test_held_file_is_taken_after_a_person_accepted_it(data: Path) -> None:
    checked(data, accounts=ACCOUNTS)
    runner, accept = CliRunner(), ["lake", "accept", "accounts"]
    assert "is not held. The next run takes it" in runner.invoke(app, accept).stderr
    metadata, _ = checked(data, accounts=ACCOUNTS[:40])
    assert metadata["dagster/row_count"] == 4

    refused = runner.invoke(app, accept, input="n\n")
    assert refused.exit_code == 1
    assert "3 of 4 accounts that it had are missing: b, c, d." in refused.stdout
    assert "In use: 4 rows. In the file: 1." in refused.stdout
    assert checked(data)[0]["dagster/row_count"] == 4
    assert runner.invoke(app, accept, input="y\n").exit_code == 0
    metadata, said = checked(data)
    assert (metadata["dagster/row_count"], said["accounts"]) == (1, None)

    checked(data, accounts="name\nAnn\n")
    unreadable = runner.invoke(app, [*accept, "--yes"])
    assert unreadable.exit_code == 1
    assert "No run can take this file as it is: repair" in unreadable.stderr


def test_column_that_means_nothing_is_named(data: Path) -> None:
    metadata, said = checked(data, accounts="Account_ID, Nmae\na,Ann\n")
    assert (metadata["unknown_columns"], said["accounts"]) == ("Nmae", None)


def test_claim_without_a_bucket_says_so(data: Path) -> None:
    result = CliRunner().invoke(app, ["lake", "claim"])
    assert result.exit_code == 1
    assert "HEADROOM_LAKE_URL is not set" in result.stderr


@pytest.mark.parametrize(("seconds", "is_recent"), [(0, True), (26 * 3600 - 1, True), (26 * 3600, False)])
def test_calls_are_recent_until_the_newest_is_as_old_as_the_setting(seconds: int, is_recent: bool) -> None:
    result = judge_age((NOW - timedelta(seconds=seconds), NOW), NOW, stale_after_hours=26)
    assert result.passed is is_recent
    assert result.severity is dg.AssetCheckSeverity.WARN


def test_check_says_when_the_newest_call_was_and_when_one_came_last() -> None:
    result = judge_age((NOW - timedelta(hours=40, minutes=59), NOW - timedelta(hours=2)), NOW, stale_after_hours=26)
    assert {name: value.value for name, value in result.metadata.items()} == {
        "latest_call": "2026-11-18 15:01 UTC",
        "hours_since_call": 40,
        "latest_arrival": "2026-11-20 06:00 UTC",
        "hours_since_arrival": 2,
        "stale_after_hours": 26,
    }


def test_check_warns_when_no_call_has_ever_come() -> None:
    result = judge_age(None, NOW, stale_after_hours=26)
    assert not result.passed
    assert result.description == "no calls yet"


def merged(data: Path, number: int) -> int:
    """Ingest one more file; how many files of the lake it made one of."""
    land(data / "landing", f"{number}.ndjson", make_event(uuid=f"event {number}"))
    result = dg.materialize(
        [ingest],
        resources={"project": Project()},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    return int(result.asset_materializations_for_node("ingest")[0].metadata["lake_files_merged"].value)  # type: ignore[arg-type]


def test_ingest_makes_few_files_of_many_when_no_build_reads_them(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FILES", 1)
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    assert merged(data, 1) == 0
    with FileLock(settings.load().warehouse.with_suffix(".lock")), monkeypatch.context() as patch:  # as a build does
        patch.setattr(ingest_module, "BUILD_SECONDS", 0)
        assert merged(data, 2) == 0

    def refuse(*_: object) -> None:
        raise OSError(22, "these folders cannot be exchanged here")

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "exchange", refuse)
        assert merged(data, 3) == 0
    assert merged(data, 4) == 4


def test_calls_that_are_old_enough_go_but_none_of_a_running_period(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FILES", 2)
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    monkeypatch.setenv("HEADROOM_LAKE_KEEP_DAYS", "400")
    world = World(data)
    world.land(*(make_event(uuid=day, at=f"{day}T12:00:00Z") for day in ("2025-10-14", "2025-10-15", "2025-10-16")))
    batches = world.ingest()
    config = settings.load()

    def compacted() -> dict[str, int | str]:
        with world.lake.writing():
            return ingest_module._compact(world.lake, batches * 2, config, getLogger())

    batches[0].number = 2
    assert compacted() == {"lake_files_merged": 0, "lake_kept_from": "1970-01-01"}, "nothing was published"
    with opened(config.published) as connection:
        connection.execute(
            "create table data_quality as select ?::timestamp as as_of, ?::timestamp as data_through", [NOW, NOW]
        )
        connection.execute(
            """create table account_periods as select 'ever' as account_id, timestamp '2025-10-15' as period_start,
            timestamp '9999-12-31' as period_end, 'lifetime' as source"""
        )
    held = "account ever, whose usage period began on 2025-10-15"
    assert compacted() == {"lake_files_merged": 0, "lake_kept_from": "2025-10-15", "lake_held_back_by": held}
    assert world.calls() == ["2025-10-15", "2025-10-16"]
    with opened(config.published) as connection:
        connection.execute("update account_periods set period_start = '2026-11-01'")
    assert compacted() == {"lake_files_merged": 0, "lake_kept_from": "2025-10-16"}
    assert world.calls() == ["2025-10-16"]


def test_files_of_a_day_stay_few_however_often_it_is_ingested(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FILES", 2)
    world, days = World(data), [f"2026-11-{day:02}" for day in range(1, 10)]
    for number in range(1, 10):
        calls = [make_event(at=f"{day}T12:00:00Z", uuid=f"{day} {number}") for day in days]
        world.land(*calls, make_quota(uuid=f"quota {number}"), "no event", name=f"{number}.ndjson")
        batches = world.ingest()
        with world.lake.writing():
            ingest_module._compact(world.lake, batches, settings.load(), getLogger())
        for kind in (*(f"calls/event_date={day}/*.parquet" for day in days), "others*.parquet", "rejected*.parquet"):
            assert len(list(world.lake.root.glob(f"batches/*/{kind}"))) <= 2 * 2 + 1, (number, kind)
    assert len(world.calls()) == 9 * 9


def test_events_of_each_meter_of_the_file_are_taken(data: Path) -> None:
    land(data / "landing", "a.ndjson", make_event(event="llm_request"), make_event(event="page_view"))
    assert ingested() == 1


def test_nothing_is_read_while_the_meters_have_a_mistake(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data.parent / "project"
    shutil.copytree(settings.PROJECT_ROOT / "dbt_project" / "seeds", folder / "seeds")
    seed = folder / "seeds" / "meters.csv"
    good = seed.read_text()
    seed.write_text(good.replace("sum,total_tokens", "sum,"))
    monkeypatch.setattr(settings.Settings, "dbt_project", property(lambda _: folder))
    land(data / "landing", "a.ndjson", make_event(event="llm_request"))
    with pytest.raises(dg.Failure, match="tokens: value is empty") as failed:
        ingested()
    assert "nothing was read or counted" in str(failed.value.description)
    doctor = CliRunner().invoke(app, ["doctor"])
    assert doctor.exit_code == 1
    assert "FAILS meters: seeds/meters.csv: tokens: value is empty. Name the property that sum reads." in " ".join(
        doctor.stdout.split()
    )

    seed.write_text(good)
    assert ingested() == 1
    assert "ok meters: 4 rows in meters.csv" in " ".join(CliRunner().invoke(app, ["doctor"]).stdout.split())
