"""The check on raw_events: how old the newest call is, and what a person is told."""

from datetime import timedelta

import dagster as dg
import pytest

from orchestration.defs.ingest import judge_age
from tests.builders import NOW


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
