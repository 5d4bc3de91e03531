"""The digest under everything that people press and that goes wrong; what counts is what arrived in the channel."""

import gc
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from typer.testing import CliRunner

from orchestration.channels.slack.blocks import digest_payloads, message_text
from orchestration.cli.main import app
from orchestration.defs import digest
from orchestration.defs.automation import build_schedules
from orchestration.defs.resources import Project
from orchestration.ledger.ledger import State
from orchestration.messages.digest import preview_digest
from orchestration.usage.periods import calendar_month
from tests.fakes.slack import LOST_AFTER, LOST_BEFORE, FakeSlack, Fault, rate_limited, refused
from tests.orchestration.defs.installation import Installation, announced, built_marts, metadata, outcome

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::dagster.BetaWarning")  # Dagster's own

WEDNESDAY = "2024-11-20T08:00:00+00:00"


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with built_marts(
        tmp_path_factory.mktemp("marts") / "data", {name: name for name in ("acme", "beta", "gamma")}
    ) as it:
        yield it


@pytest.fixture
def installation(data: Path, marts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with FakeSlack() as slack:
        installation = Installation(data, marts, slack, monkeypatch)
        installation.at(WEDNESDAY)
        yield installation
        installation.instance.dispose()


# What people press


def digest_job() -> dg.JobDefinition:
    """For Dagster to find again when it executes a run once more."""
    return dg.Definitions(
        assets=[digest.build_usage_digest("UTC")],
        jobs=[dg.define_asset_job("digest_job")],
        resources={"project": Project()},
        executor=dg.in_process_executor,
    ).resolve_job_def("digest_job")


def execute(instance: dg.DagsterInstance, parent_run_id: str | None = None) -> dg.JobExecutionResult:
    """Run the job, or all of a run once more, as the UI does."""
    options = dg.ReexecutionOptions(parent_run_id=parent_run_id) if parent_run_id else None
    tags = {"dagster/partition": "2024-11-20"}
    job = dg.reconstructable(digest_job)
    with dg.execute_job(job, instance, tags=tags, reexecution_options=options) as result:
        return result


def test_old_day_says_that_it_was_delivered_and_where_whatever_is_pressed(installation: Installation) -> None:
    installation.publish("acme")
    first = installation.materialize()
    [message] = installation.slack.messages
    link = f"https://example.slack.com/archives/C0DIGEST/p{message['ts'].replace('.', '')}"
    assert metadata(first)["permalink"] == dg.MetadataValue.url(link)
    requests = len(installation.slack.requests)

    for now in (WEDNESDAY, "2024-11-20T23:00:00+00:00", "2024-11-25T07:59:00+00:00"):
        installation.at(now)
        installation.publish("acme", "beta")
        for days in (("2024-11-20",), ("2024-11-18", "2024-11-20"), ("2024-11-19",), ("2024-11-18", "2024-11-19")):
            result = installation.materialize(*days)
            if "2024-11-20" in days:
                assert outcome(result) == f"already delivered: sent 2024-11-20 08:00 UTC ({link})"
                assert metadata(result)["permalink"] == dg.MetadataValue.url(link)
            else:
                assert outcome(result).startswith("nothing sent: is past")
    assert "nothing sent: is not due yet" in outcome(installation.materialize("2024-11-25"))
    assert len(installation.slack.requests) == requests


def test_run_that_is_executed_again_sends_what_failed_once(installation: Installation) -> None:
    installation.publish("acme")
    installation.slack.is_member = False
    with dg.DagsterInstance.local_temp(str(installation.data)) as instance:
        run = execute(instance)
        again = execute(instance, run.run_id)
        installation.slack.is_member = True
        repaired = execute(instance, again.run_id)
        thrice = execute(instance, run.run_id)
    assert [result.success for result in (run, again, repaired, thrice)] == [False, False, True, True]

    assert announced(installation) == {"2024-11-20": ["acme"]}
    assert set(installation.slack.counts().values()) == {1}


def test_digest_is_of_the_copy_that_was_checked_when_another_is_published(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Yesterday's marts, published by another run between the check and the digest, are not the morning's."""
    standing = digest.standing

    def publish_and_stand(*asked: Any) -> Any:
        installation.at(datetime(2024, 11, 19, 20, tzinfo=UTC))
        installation.publish("beta")
        installation.at(WEDNESDAY)
        return standing(*asked)

    monkeypatch.setattr(digest, "standing", publish_and_stand)
    installation.publish("acme")
    installation.materialize()
    assert announced(installation) == {"2024-11-20": ["acme"]}


def test_delivery_does_not_depend_on_its_link(installation: Installation) -> None:
    installation.publish("acme")
    installation.slack.then(LOST_BEFORE, method="chat.getPermalink")
    first = installation.materialize()
    assert outcome(first) == f"sent 2024-11-20 08:00 UTC (C0DIGEST/{installation.slack.messages[0]['ts']})"
    assert "permalink" not in metadata(first)

    again = installation.materialize()

    assert "https://example.slack.com" in outcome(again)
    assert installation.slack.methods().count("chat.getPermalink") == 2
    assert set(installation.slack.counts().values()) == {1}


# Slack does not answer, or refuses


@pytest.mark.parametrize("fault", [None, LOST_BEFORE, LOST_AFTER], ids=["down", "lost before", "lost after"])
@pytest.mark.parametrize("is_pressed", [True, False], ids=["a person", "the schedules alone"])
def test_digest_is_posted_once_after_an_outage_with_the_figures_of_eight(
    installation: Installation, fault: Fault | None, is_pressed: bool
) -> None:
    installation.at("2024-11-20T07:55:00+00:00")
    runs = []
    while installation.now < datetime.fromisoformat("2024-11-20T10:00:00+00:00"):
        minute = installation.now.strftime("%H:%M")
        installation.slack.is_down = ("08:00" if fault else "07:55") < minute < "09:10"
        if minute == "08:00":
            installation.publish("acme")
            installation.slack.then(*[fault] * bool(fault))
        if minute == "08:05":
            installation.publish("acme", "beta", used=5)
        runs += installation.tick()
        if is_pressed and minute in ("08:45", "09:15"):
            runs.append(installation.materialize())
        installation.at(installation.now + timedelta(minutes=5))

    assert [run.success for run in runs[:4]] == [False] * 4
    assert runs[-1].success
    assert announced(installation) == {"2024-11-20": ["acme"]}
    assert set(installation.slack.counts().values()) == {1}
    [message] = installation.slack.messages
    details, *_ = installation.slack.threads[message["ts"]]
    assert "No forecast yet: watch (1)  acme 80 %\n" in message_text(message)
    assert "4 / 5 calls (80.0 %)" in message_text(details)
    assert {delivery.state for delivery in installation.deliveries()} == {State.SENT}
    installation.at("2024-11-21T08:00:00+00:00")
    installation.publish("acme", "beta")
    installation.tick()
    assert announced(installation) == {"2024-11-20": ["acme"], "2024-11-21": ["beta"]}


REMEDIES = {
    "not_in_channel": "invite the bot",
    "invalid_auth": "copy the bot token",
    "missing_scope": "install it again",
    "account_inactive": "install the app again",
    "token_revoked": "install the app again",
    "is_archived": "unarchive the channel",
    "channel_not_found": "set HEADROOM_SLACK_CHANNEL",
    "restricted_action": "ask its admin",
    "msg_too_long": "headroom deliveries",
}


@pytest.mark.parametrize("code", [*REMEDIES, "ratelimited"])
def test_refused_digest_fails_visibly_and_is_sent_once_after_the_repair(installation: Installation, code: str) -> None:
    installation.publish("acme")
    fault = rate_limited(3600) if code == "ratelimited" else refused(code)
    installation.slack.then(fault, fault)

    for _ in range(2):
        result = installation.materialize()
        assert not result.success
        assert f"Slack refused with '{code}'" in outcome(result)
        assert REMEDIES.get(code, "Run again in a minute") in outcome(result)
        assert not installation.slack.messages
        assert State.SENT not in {delivery.state for delivery in installation.deliveries()}

    assert outcome(installation.materialize()).startswith("sent ")
    assert outcome(installation.materialize()).startswith("already delivered")
    assert announced(installation) == {"2024-11-20": ["acme"]}
    assert set(installation.slack.counts().values()) == {1}


# Days, nights, clocks


@pytest.mark.parametrize(
    ("zone", "friday"),
    [
        ("UTC", "2024-11-22"),
        ("Europe/Berlin", "2024-10-25"),  # the clocks go back on Sunday
        ("Europe/Berlin", "2024-03-29"),  # and forward; Monday is the first of a month
        ("America/New_York", "2024-11-01"),
        ("America/New_York", "2024-03-08"),
        ("Pacific/Auckland", "2024-04-05"),
        ("Pacific/Auckland", "2024-09-27"),
    ],
)
def test_weekend_without_a_daemon_is_in_one_digest_on_monday(
    installation: Installation, zone: str, friday: str
) -> None:
    eight = datetime.fromisoformat(f"{friday}T08:00").replace(tzinfo=ZoneInfo(zone))
    installation.at(eight, zone)
    installation.publish("acme")
    installation.tick()
    installation.at(eight + timedelta(days=3, hours=1))
    saturday = (eight + timedelta(days=1, hours=5)).astimezone(UTC)
    start, end = calendar_month(saturday.date())
    installation.publish("acme", "beta", "gamma", crossed_at=saturday, period_start=start, period_end=end)

    days = [(eight + timedelta(days=number)).date().isoformat() for number in range(4)]
    # Dagster catches up with the last tick alone; people may press the others
    caught_up = [outcome(installation.materialize(day)) for day in days[1:]]

    assert [sentence.partition(":")[0] for sentence in caught_up[:2]] == ["nothing sent"] * 2
    assert announced(installation) == {days[0]: ["acme"], days[3]: ["beta", "gamma"]}
    assert installation.tick() == []


CHANGES = {
    "Europe/Berlin": ("2024-03-30", "2024-10-26"),
    "America/New_York": ("2024-03-09", "2024-11-02"),
    "Asia/Kolkata": ("2024-03-30", "2024-10-26"),
    "Pacific/Auckland": ("2024-04-06", "2024-09-28"),
}


@pytest.mark.parametrize("zone", CHANGES)
def test_every_business_day_has_one_digest_when_the_clocks_change(installation: Installation, zone: str) -> None:
    expected = []
    for saturday in CHANGES[zone]:
        midnight = datetime.fromisoformat(saturday).replace(tzinfo=ZoneInfo(zone))
        installation.at(midnight, zone)
        for at in ticks(midnight, midnight + timedelta(days=3)):
            installation.at(at)
            installation.publish()
            installation.tick()
        expected += [(midnight + timedelta(days=number)).date().isoformat() for number in range(3)]

    assert list(announced(installation)) == expected


def ticks(start: datetime, end: datetime) -> list[datetime]:
    """When Dagster evaluates the daily schedule."""
    daily, *_ = build_schedules(Project())
    moments = dg.TimeWindowPartitionsDefinition(
        start=start.replace(tzinfo=None),
        fmt="%Y-%m-%dT%H:%M:%S%z",
        cron_schedule=str(daily.cron_schedule),
        timezone=str(daily.execution_timezone),
        end_offset=1,
    ).get_partition_keys(current_time=end)
    return [moment for moment in map(datetime.fromisoformat, moments) if start <= moment < end]


# What was before


def test_first_digest_records_the_past_and_does_not_announce_it(installation: Installation) -> None:
    installation.publish("acme", "beta", crossed_at=datetime(2024, 11, 12, tzinfo=UTC))
    installation.materialize()
    installation.at("2024-11-21T08:00:00+00:00")
    installation.publish("acme", "beta", "gamma")
    installation.materialize()

    assert announced(installation) == {"2024-11-20": [], "2024-11-21": ["gamma"]}
    assert outcomes_by_account(installation) == {"acme": "backfill", "beta": "backfill", "gamma": "announced"}


def test_last_months_files_that_land_late_are_recorded_and_not_announced(installation: Installation) -> None:
    installation.publish("acme")
    installation.materialize()
    installation.at("2024-11-21T08:00:00+00:00")
    crossed_at = datetime(2024, 10, 17, tzinfo=UTC)
    start, end = calendar_month(crossed_at.date())
    installation.publish("acme", "beta", crossed_at=crossed_at, period_start=start, period_end=end)
    installation.materialize()

    assert announced(installation) == {"2024-11-20": ["acme"], "2024-11-21": []}


def test_correction_is_reported_once_and_a_second_crossing_is_news_again(installation: Installation) -> None:
    for day, news, used in ((20, ["acme", "beta"], 4), (21, ["beta"], 3), (22, ["beta"], 3), (23, ["acme", "beta"], 4)):
        installation.at(f"2024-11-{day}T08:00:00+00:00")
        installation.publish(*news)
        installation.correct("acme", used)
        installation.materialize()

    assert list(announced(installation).values()) == [["acme", "beta"], [], [], ["acme"]]
    line = "Usage was corrected, below what was announced: acme (60 %)"
    assert [line in str(message["blocks"]) for message in installation.slack.messages] == [False, True, False, False]
    assert set(installation.slack.counts().values()) == {1}


# Rules that change


def test_new_threshold_is_recorded_and_does_not_flood_the_digest(installation: Installation) -> None:
    installation.publish("acme")
    installation.change("update thresholds set threshold_pct = 90 where threshold_pct = 80")
    installation.change("update threshold_crossings set threshold = '90%'")
    installation.materialize()

    installation.at("2024-11-21T08:00:00+00:00")
    installation.publish("beta", "gamma")  # both at 80 %, which is a threshold from now on
    monday = "timestamp '2024-11-18 09:00:00'"
    installation.change(f"update threshold_crossings set crossed_at = {monday} where account_id = 'beta'")
    for _ in range(2):
        installation.materialize()
    installation.at("2024-11-22T08:00:00+00:00")
    installation.publish("beta", "gamma")
    installation.materialize()

    assert list(announced(installation).values()) == [["acme"], ["gamma"], []]
    assert outcomes_by_account(installation) == {"acme": "announced", "beta": "rule_changed", "gamma": "announced"}
    said = "Rules changed: 80 % (new), 90 % (gone). 1 account that had crossed before is not announced."
    assert [said in str(message["blocks"]) for message in installation.slack.messages] == [False, True, False]


def test_redrawn_digest_keeps_what_a_changed_rule_silenced(installation: Installation) -> None:
    installation.publish()
    installation.change("delete from thresholds where threshold_pct = 80")
    installation.materialize()
    installation.at("2024-11-21T08:00:00+00:00")
    installation.publish("beta", crossed_at=datetime(2024, 11, 18, tzinfo=UTC))
    installation.materialize()

    settings = Project().settings
    shown = preview_digest(settings, date(2024, 11, 21), "slack", digest_payloads, None, print, redraw=True)

    assert shown.payload["digest"]["items"] == []


def test_plan_shows_what_the_files_would_change_and_changes_nothing(installation: Installation, marts: Path) -> None:
    installation.publish("acme")
    installation.change("update thresholds set threshold_pct = 90 where threshold_pct = 80")
    installation.change("update threshold_crossings set threshold = '90%'")
    installation.materialize()
    shutil.copy(marts.with_name("warehouse.duckdb"), installation.data)
    (installation.data / "lake").symlink_to(marts.with_name("lake"))
    gc.collect()  # closes what the run has open of the ledger, which makes its log one with the file
    files = {path.name: path.stat().st_size for path in installation.data.iterdir()}

    shown = CliRunner().invoke(app, ["rules", "plan"])

    assert shown.exit_code == 0, shown.output
    for line in (
        "thresholds.csv: 80 % (new)",
        "thresholds.csv: 90 % (gone)",
        "Announced by the next digest because of it (0)",
        "Recorded without an announcement, because they crossed before the last digest (3)",
        "acme: crossed 80 % on Wed 20 Nov 05:00 UTC",
        "Nothing was published, recorded or sent.",
    ):
        assert line in shown.output
    after = {path.name: path.stat().st_size for path in installation.data.iterdir()}
    assert files.items() <= after.items()
    assert set(after) - set(files) <= {"dbt", "warehouse.lock"}


def outcomes_by_account(installation: Installation) -> dict[str, str]:
    with installation.ledger().transaction() as connection:
        rows = connection.exec_driver_sql("select account_id, outcome from announced_crossings").all()
    return dict(tuple(row) for row in rows)
