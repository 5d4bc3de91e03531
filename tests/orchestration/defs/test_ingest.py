"""Ingestion as Dagster runs it, and the check on raw_events: how old the newest call is."""

import shutil
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.defs.ingest import ingest, judge_age
from orchestration.defs.resources import Project
from orchestration.storage.lake_bucket import LakeBucketError
from tests.builders import NOW, land, make_event


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
    assert f"Before it was {socket.gethostname()}" in claimed.stdout
    assert "1 batches wait to be fetched" in " ".join(runner.invoke(app, ["doctor"]).stdout.split())
    land(data / "landing", "b.ndjson", make_event(uuid="1"), make_event(uuid="2"))
    assert ingested() == 1
    assert sorted(path.name for path in (lake / "batches").iterdir()) == ["000000", "000001", "000002"]
    assert "has every batch" in " ".join(runner.invoke(app, ["doctor"]).stdout.split())


def test_lake_that_ends_before_its_ledger_is_refused(data: Path) -> None:
    land(data / "landing", "a.ndjson", make_event(uuid="1"))
    assert ingested() == 1
    shutil.rmtree(data / "lake")
    with pytest.raises(ValueError, match=r"files of batch 1 for read, but the lake in .* ends at 0"):
        ingested()


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
    assert result.description == "no call has come yet"
