"""The landing sensor: one run for what landed, nothing opened, nothing asked for twice."""

import os
from pathlib import Path

import dagster as dg

from orchestration.defs.automation import landing_sensor
from orchestration.defs.resources import Project
from tests.builders import land, make_event


def tick(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"project": Project()})
    outcome = landing_sensor(context)
    assert isinstance(outcome, dg.SensorResult | dg.SkipReason)
    return outcome


def test_landing_sensor_asks_for_one_run_when_something_landed(data: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert isinstance(tick(instance, None), dg.SkipReason)
        land(data / "landing", "a.ndjson", make_event())
        land(data / "landing", "b.ndjson", make_event())
        first = tick(instance, None)
        assert isinstance(first, dg.SensorResult)
        assert len(first.run_requests or []) == 1
        assert isinstance(tick(instance, first.cursor), dg.SkipReason)


def test_landing_sensor_sees_a_file_that_is_moved_in_with_an_old_time(data: Path, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        land(data / "landing", "a.ndjson", make_event())
        first = tick(instance, None)
        assert isinstance(first, dg.SensorResult)
        old = land(tmp_path, "old.ndjson", make_event())
        os.utime(old, (1_000_000_000, 1_000_000_000))
        old.rename(data / "landing" / "old.ndjson")
        second = tick(instance, first.cursor)
        assert isinstance(second, dg.SensorResult)
        assert len(second.run_requests or []) == 1


def test_landing_sensor_leaves_what_is_still_written(data: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        land(data / "landing", ".a.ndjson.part", make_event())
        land(data / "landing", "b.ndjson.part", make_event())
        assert isinstance(tick(instance, None), dg.SkipReason)
