"""What is overdue: runs that hang, wait or are never started reach a person, and the monitor hears nothing of them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.channels import heartbeat as channel
from orchestration.defs import alerts, heartbeat, overdue
from orchestration.defs.resources import Project
from orchestration.ledger.ledger import State
from orchestration.settings import Settings
from tests.fakes.monitor import Monitor
from tests.fakes.slack import FakeSlack

STATUS = dg.DagsterRunStatus
TODAY = f"{datetime.now(UTC):%Y-%m-%d}"
"""Dagster's own times are real ones."""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def add(
    instance: dg.DagsterInstance, run_id: str, status: dg.DagsterRunStatus, job: str = "hourly_job", part: str = ""
) -> None:
    selection = frozenset([dg.AssetKey(part)]) if part else None
    instance.add_run(dg.DagsterRun(job, run_id=run_id, status=status, asset_selection=selection))


def began(instance: dg.DagsterInstance, run_id: str) -> str:
    """Dagster's own time of the run, as the sentences have it."""
    record = instance.get_run_record_by_id(run_id)
    assert record
    return f"{record.create_timestamp.astimezone(UTC):%d %b %H:%M} UTC"


def found(instance: dg.DagsterInstance, now: datetime) -> list[str]:
    return [each.sentence for each in overdue.find(Project().settings, Project().ledger(), instance, now)]


def test_hourly_runs_are_overdue_when_none_succeeds_for_two_periods(data: Path, instance: dg.DagsterInstance) -> None:
    now = datetime.now(UTC)
    later = now + timedelta(hours=2, minutes=11)
    assert found(instance, later) == [], "the schedule was never on"
    add(instance, "good0000", STATUS.SUCCESS)
    add(instance, "part0000", STATUS.SUCCESS, part="stripe_usage")
    assert found(instance, now + timedelta(hours=2)) == []
    start = f"No hourly run has succeeded since {began(instance, 'good0000')}: "
    none = "no run of hourly_job was started: check that its schedule is on and Dagster's daemon runs."
    assert found(instance, later) == [start + none]
    add(instance, "waits000", STATUS.NOT_STARTED)
    waits = f"run waits000 of hourly_job has waited since {began(instance, 'waits000')}: "
    assert found(instance, later) == [start + waits + "check that Dagster's daemon and code server run."]
    add(instance, "failed00", STATUS.FAILURE)
    failed = f"run failed00 of hourly_job failed at {began(instance, 'failed00')}: Dagster's UI says why."
    assert found(instance, later) == [start + failed]
    add(instance, "hangs000", STATUS.STARTED, job="refresh_job")
    hangs = f"refresh_job (run hangs000) has been running since {began(instance, 'hangs000')}: "
    assert found(instance, later) == [start + hangs + "end it in Dagster's UI if it hangs."]


def test_overdue_runs_are_told_once_and_again_every_morning(
    data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(instance, "waits000", STATUS.NOT_STARTED)
    later = datetime.now(UTC) + timedelta(hours=3)
    with FakeSlack() as slack:
        monkeypatch.setenv("SLACK_BOT_TOKEN", slack.token)
        monkeypatch.setenv("SLACK_API_URL", slack.url)
        monkeypatch.setenv("HEADROOM_SLACK_CHANNEL", slack.channel)
        for _ in range(2):
            alerts.tell_what_is_overdue(Project(), instance, later)
        monkeypatch.setenv("HEADROOM_NOW", later.isoformat())
        assert alerts.tell_what_fails(Project(), instance, ["hourly_job"]) is State.SENT
        said = [message["text"] for message in slack.messages]
    assert len(said) == 2
    assert all(text.startswith("No hourly run has ever succeeded; the first began ") for text in said)


@pytest.fixture
def digests(data: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that sent yesterday's digest."""
    ledger = Project().ledger()
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|digest|2026-11-19", "slack", {}, datetime(2026, 11, 19, 8, tzinfo=UTC))
    return Project()


def test_digest_is_overdue_an_hour_after_8am(digests: Project, instance: dg.DagsterInstance) -> None:
    eight, nine = (datetime(2026, 11, 20, hour, tzinfo=UTC) for hour in (8, 9))
    late = "The digest of 2026-11-20 is not there, an hour after 8am: no run of daily_job was started: check that"
    assert found(instance, eight) == []
    assert found(instance, nine) == [f"{late} its schedule is on and Dagster's daemon runs."]

    ledger = digests.ledger()
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|digest|2026-11-20", "slack", {}, eight)
    [sentence] = found(instance, nine)
    assert sentence.startswith("The digest of 2026-11-20 is decided, but not sent, an hour after 8am: ")
    delivery = ledger.delivery("local|digest|2026-11-20")
    assert delivery
    ledger.finish(delivery, State.SENT, nine, "C1/17", error=None)
    assert found(instance, nine) == []


def test_digest_that_waits_for_fresh_data_is_announced_by_itself(
    digests: Project, instance: dg.DagsterInstance
) -> None:
    nine = datetime(2026, 11, 20, 9, tzinfo=UTC)
    ledger = digests.ledger()
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|stale_data|2026-11-20", "slack", {}, nine)
    assert found(instance, nine) == []


@pytest.fixture
def monitor(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    with Monitor() as monitor:
        monkeypatch.setenv("HEADROOM_HEARTBEAT_URL", monitor.url)
        yield monitor


def beat(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[str, str | None]:
    """What the sensor says, and its cursor."""
    sensor = heartbeat.build_heartbeat_sensor(Project())
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    outcome = sensor(dg.build_sensor_context(instance=instance, cursor=cursor))
    if isinstance(outcome, dg.SensorResult):
        assert outcome.skip_reason
        return str(outcome.skip_reason.skip_message), outcome.cursor
    assert isinstance(outcome, dg.SkipReason)
    return str(outcome.skip_message), cursor


def test_monitor_hears_once_of_each_whole_run_that_succeeded(instance: dg.DagsterInstance, monitor: Monitor) -> None:
    assert beat(instance)[0] == "no run has succeeded since the last heartbeat"
    add(instance, "one", STATUS.SUCCESS)
    monitor.status = 503
    assert beat(instance) == ("the monitor at 127.0.0.1 answered 503: see HEADROOM_HEARTBEAT_URL", None)
    monitor.status = 200
    assert beat(instance)[1] == "one"
    add(instance, "failed", STATUS.FAILURE)
    add(instance, "part", STATUS.SUCCESS, part="stripe_usage")
    assert beat(instance, "one")[0] == "no run has succeeded since the last heartbeat"
    add(instance, "digest", STATUS.SUCCESS, job="daily_job")
    assert beat(instance, "one")[1] == "digest"
    assert monitor.asked == ["/ping/s3cr3t"] * 3


def test_monitor_hears_nothing_while_the_digest_is_overdue(
    digests: Project, instance: dg.DagsterInstance, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(instance, "one", STATUS.SUCCESS)
    monkeypatch.setattr(overdue, "digest_due_at", lambda *_: datetime.now(UTC) - timedelta(minutes=61))
    assert beat(instance)[0].startswith("The digest of ")
    monkeypatch.setattr(heartbeat, "clock", lambda: datetime.now(UTC) + timedelta(hours=3))
    assert beat(instance)[0].endswith(": too old")
    assert monitor.asked == []


def test_monitor_that_is_away_is_named_without_its_secret() -> None:
    problem = channel.send("http://127.0.0.1:9/ping/s3cr3t")
    assert problem.startswith("the monitor at 127.0.0.1 gave no answer (")
    assert "s3cr3t" not in problem


@pytest.mark.parametrize(
    "url", ["ftp://monitor/x", "file:///etc/passwd", "https://monitor/a b", "https://me:pw@monitor"]
)
def test_address_of_the_monitor_is_of_the_web(url: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_HEARTBEAT_URL", url)
    with pytest.raises(ValueError, match="use the address that your monitor gives you"):
        Settings()
