"""Failed runs: the first of a job's failures, once; each morning what is still failing; nothing breaks the sensor."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from orchestration.channels.slack.blocks import message_text
from orchestration.defs import alerts
from orchestration.defs.alerts import alert_failed_run, last_success, run_failure_alert_sensor, tell_what_fails
from orchestration.defs.automation import build_sensors
from orchestration.defs.resources import Project
from orchestration.ledger.ledger import State
from orchestration.messages.failures import Failure
from tests.fakes.slack import FakeSlack

REASON = "<!channel> *b* " + "x" * 5000
is_broken = True


@dg.op
def fetch() -> None:
    if is_broken:
        raise dg.Failure(REASON)


@dg.job
def some_job() -> None:
    fetch()


@dg.asset(owners=["team:cs"])
def weekly_figures() -> None:
    raise dg.Failure("no figures")


@pytest.fixture
def slack(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        server.channels["C0CS"] = {}
        for name, value in {
            "SLACK_BOT_TOKEN": server.token,
            "SLACK_API_URL": server.url,
            "HEADROOM_SLACK_CHANNEL": server.channel,
            "HEADROOM_SLACK_CHANNEL_CS": "C0CS",
            "HEADROOM_NOW": "2026-11-20T08:30:00Z",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def run(instance: dg.DagsterInstance, fails: bool = True) -> None:
    """A run of some_job; its failure goes through the sensor, twice."""
    global is_broken
    is_broken = fails
    result = some_job.execute_in_process(instance=instance, raise_on_error=False)
    assert result.success is not fails
    for _ in range(2 * fails):
        context = dg.build_run_status_sensor_context(
            "alert", result.get_run_failure_event(), instance, result.dagster_run, resources={"project": Project()}
        ).for_run_failure()
        run_failure_alert_sensor(context)


def test_failure_is_alerted_once_until_the_job_succeeds_again(slack: FakeSlack, instance: dg.DagsterInstance) -> None:
    told = []
    for fails in (True, True, False, False, True, True, True):
        run(instance, fails)
        told.append(len(slack.messages))

    assert told == [1, 1, 1, 1, 2, 2, 2]
    assert set(slack.counts().values()) == {1}


def test_failure_is_alerted_when_the_file_of_routes_has_a_mistake(
    slack: FakeSlack, instance: dg.DagsterInstance
) -> None:
    (Project().settings.data / "routes.toml").write_text(
        '[[route]]\nname = "x"\ntakes = "failures"\nchannel = "slack"\n'
    )

    run(instance)

    assert len(slack.messages) == 1


def test_alert_reads_as_it_is_within_slacks_limits(slack: FakeSlack, instance: dg.DagsterInstance) -> None:
    run(instance)

    [message] = slack.messages
    assert message["text"].startswith("Headroom: some_job failed (run ")
    assert "fetch: &lt;!channel&gt; *b* xxx" in message["text"]
    assert len(message["text"]) < 400
    assert message_text(message).splitlines()[2].startswith("• fetch: <!channel> *b* xxx")
    assert str(message["blocks"]).count("*b*") == 1
    assert message["channel"] == slack.channel


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # of a test's context
def test_alert_goes_to_the_team_that_owns_what_failed(slack: FakeSlack, instance: dg.DagsterInstance) -> None:
    definitions = dg.Definitions(assets=[weekly_figures], jobs=[dg.define_asset_job("figures_job")])
    result = definitions.resolve_job_def("figures_job").execute_in_process(instance=instance, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        "alert",
        result.get_run_failure_event(),
        instance,
        result.dagster_run,
        resources={"project": Project()},
        repository_def=definitions.get_repository_def(),
    ).for_run_failure()
    run_failure_alert_sensor(context)

    [message] = slack.messages
    assert (message["channel"], message["text"][-10:]) == ("C0CS", "no figures")


def test_last_success_is_the_newest_before_the_run(slack: FakeSlack, instance: dg.DagsterInstance) -> None:
    runs = []
    for fails in (True, False, True, False):
        run(instance, fails)
        runs.append(instance.get_runs(limit=1)[0])

    assert [last_success(instance, each) for each in runs] == [None, None, runs[1].run_id, runs[1].run_id]


def test_alert_that_cannot_be_made_does_not_break_the_sensor(
    data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb")  # without a channel
    assert alert_failed_run(Project(), Failure("some_job", "r1", None, {"": "x"})) is State.FAILED
    monkeypatch.setattr(alerts, "freeze", lambda *_: 1 / 0)
    run(instance)


def test_alert_that_slack_refused_is_sent_once_when_it_is_repaired(
    slack: FakeSlack, instance: dg.DagsterInstance
) -> None:
    slack.is_member = False
    run(instance)
    slack.is_member = True
    for _ in range(2):
        tick(instance)

    assert [count for key, count in slack.counts().items() if "run_failure" in key] == [1]


def tick(instance: dg.DagsterInstance) -> None:
    [sensor] = [each for each in build_sensors(Project()) if each.name == "notices_sensor"]
    assert isinstance(sensor(dg.build_sensor_context(instance=instance)), dg.SkipReason)


def test_morning_line_is_sent_once_a_day_from_half_past_eight(
    slack: FakeSlack, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    for at in ("20T08:30", "20T23:59", "21T08:29", "21T08:30", "24T12:00"):
        monkeypatch.setenv("HEADROOM_NOW", f"2026-11-{at}:00Z")
        tick(instance)
        sent.append(len(slack.messages))

    assert sent == [1, 1, 1, 2, 3]
    assert slack.counts() == {f"local|failing|2026-11-{day}|slack": 1 for day in (20, 21, 24)}
    assert {message["text"] for message in slack.messages} == {"No job is failing."}


def test_morning_says_which_jobs_failed_last(slack: FakeSlack, instance: dg.DagsterInstance) -> None:
    for fails in (True, False, True):
        run(instance, fails)
    slack.clear()
    ledger = Project().ledger()
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|digest|2026-11-20", "slack", {}, datetime(2026, 11, 20, tzinfo=UTC))
    assert tell_what_fails(Project(), instance, ["some_job", "other_job"]) is State.SENT
    assert tell_what_fails(Project(), instance, ["some_job", "other_job"]) is None

    [message] = slack.messages
    [newest] = instance.get_run_records(limit=1)
    assert newest.end_time
    at = f"{datetime.fromtimestamp(newest.end_time, UTC):%d %b %H:%M}"
    text = f"Still failing: some_job (last {at}). 1 message not sent yet: run `headroom deliveries`."
    assert message["text"] == text
