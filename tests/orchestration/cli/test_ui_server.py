"""What of Dagster's output reaches the terminal. The lines are Dagster 1.13's own, shortened."""

import time
from pathlib import Path

import pytest

from orchestration import settings
from orchestration.cli import failures
from orchestration.cli.ui_server import serve, worth_reading

URL = "http://127.0.0.1:3000"
RUN_ID = "0395a65c-0ff4-4db6-bc23-4b7ba4657050"
TIME = "2026-11-21 12:03:14 +0000"


def of_run(level: str, message: str) -> str:
    return f"{TIME} - dagster - {level} - daily_job - {RUN_ID} - {message}"


def shown(*lines: str) -> list[str]:
    return [text for text, _ in worth_reading([f"{line}\n" for line in lines], URL)]


def test_good_run_says_nothing() -> None:
    assert not shown(
        of_run("DEBUG", '23334 - RUN_START - Started execution of run for "daily_job".'),
        of_run("DEBUG", '23334 - models - STEP_START - Started execution of step "models".'),
        of_run("INFO", "usage_digest - digest of 2026-11-20: previewed"),
        "Usage digest 2026-11-20",
        "",
        " Acme   critical   12 / 10",
        of_run("DEBUG", '23334 - RUN_SUCCESS - Finished execution of run for "daily_job".'),
    )


def test_failed_step_says_once_where_and_why() -> None:
    reason = (
        "",
        "dagster._core.definitions.events.Failure: 1 check failed; nothing was published or sent:",
        "- calls_are_distinct: Got 1 result, configured to fail if != 0",
        "",
        "Stack Trace:",
        '  File "transform.py", line 75, in models',
        "    raise dg.Failure(",
        "",
    )
    assert shown(
        of_run("ERROR", '23334 - models - STEP_FAILURE - Execution of step "models" failed.'),
        *reason,
        of_run("ERROR", "stripe_usage - Dependencies for step stripe_usage failed: ['models']. Not executing."),
        of_run("ERROR", "23334 - RUN_FAILURE - Execution of run for \"daily_job\" failed. Steps failed: ['models']."),
        *reason,
    ) == [
        f"headroom: daily_job failed at models  {URL}/runs/{RUN_ID}",
        "  1 check failed; nothing was published or sent:",
        "  - calls_are_distinct: Got 1 result, configured to fail if != 0",
    ]


def test_unexpected_error_is_shown_by_its_cause() -> None:
    assert shown(
        of_run("ERROR", '23334 - ingest - STEP_FAILURE - Execution of step "ingest" failed.'),
        "",
        'dagster._core.errors.DagsterExecutionStepExecutionError: Error occurred while executing op "ingest"::',
        "",
        "Stack Trace:",
        '  File "execute_plan.py", line 243, in dagster_event_sequence_for_step',
        "",
        "The above exception was caused by the following exception:",
        "OSError: [Errno 28] No space left on device",
        "",
        "Stack Trace:",
        '  File "lake.py", line 99, in write',
    ) == [
        f"headroom: daily_job failed at ingest  {URL}/runs/{RUN_ID}",
        "  OSError: [Errno 28] No space left on device",
    ]


def test_failure_of_the_machine_is_explained() -> None:
    lines = (
        of_run("ERROR", '23334 - ingest - STEP_FAILURE - Execution of step "ingest" failed.'),
        "OSError: [Errno 28] No space left on device",
    )
    said = list(worth_reading(lines, URL, {"OSError: [Errno 28] No space left on device": "full"}.get))
    assert [text for text, _ in said][1:] == ["  full"]


def test_run_that_fails_before_its_first_step_says_why() -> None:
    assert shown(
        of_run("ERROR", '23334 - RUN_FAILURE - Execution of run for "daily_job" failed. An exception was thrown.'),
        "",
        "ValueError: SLACK_BOT_TOKEN is set but HEADROOM_SLACK_CHANNEL is not",
    ) == [
        f'headroom: daily_job: Execution of run for "daily_job" failed. An exception was thrown.  {URL}/runs/{RUN_ID}',
        "  ValueError: SLACK_BOT_TOKEN is set but HEADROOM_SLACK_CHANNEL is not",
    ]


def test_warning_of_a_run_is_shown() -> None:
    assert shown(of_run("WARNING", "ingest - not read: a.ndjson is not a regular file")) == [
        f"headroom: daily_job: not read: a.ndjson is not a regular file  {URL}/runs/{RUN_ID}"
    ]


@pytest.mark.parametrize("level", ["WARNING", "ERROR", "CRITICAL"])
def test_trouble_of_dagster_itself_is_shown_whole(level: str) -> None:
    lines = (
        f"{TIME} - dagster.code_server - {level} - DagsterInvalidDefinitionError: two assets have one key",
        "",
        "Stack Trace:",
        '  File "definitions.py", line 20, in headroom',
    )
    assert shown(of_run("DEBUG", "23334 - RUN_START - Started."), *lines) == list(lines)


def test_colours_of_dagster_are_removed() -> None:
    line = f"\x1b[32m{TIME}\x1b[0m - dagster - \x1b[34mINFO\x1b[0m - Launching Dagster services..."
    assert not shown(line, line.replace("INFO", "DEBUG"))
    assert shown(line.replace("INFO", "ERROR")) == [f"{TIME} - dagster - ERROR - Launching Dagster services..."]


def test_settings_of_dagster_dev_by_hand_are_no_warning_here() -> None:
    assert not shown(
        f"{TIME} - dagster - WARNING - Found a dagster instance configuration value (dagster.yaml) in the current"
        " folder, but your DAGSTER_HOME environment variable is set to /clone/data/dagster. The dagster.yaml file will"
        " not be used to configure Dagster unless it is placed in the same folder as DAGSTER_HOME."
    )


def test_crash_is_shown_whole_whenever_it_comes() -> None:
    crash = ("Traceback (most recent call last):", '  File "x.py", line 1, in <module>', "ImportError: no dagster")
    assert shown("Error: No such option: --nonsense") == ["Error: No such option: --nonsense"]
    assert shown(of_run("DEBUG", "23334 - RUN_START - Started."), *crash) == list(crash)


def test_dagster_whose_postgres_is_away_is_not_started(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(data / "dagster"))
    monkeypatch.setenv("HEADROOM_DAGSTER_POSTGRES_URL", "postgresql://u:s3cr3t@127.0.0.1:1/dagster")
    monkeypatch.setattr(time, "sleep", lambda _: None)  # Dagster waits ten seconds for it, in steps
    assert failures.in_sentences(lambda: serve(settings.load())) == 1
    said = capfd.readouterr().err
    assert "does not answer" in said
    assert "HEADROOM_DAGSTER_POSTGRES_URL" in said
    assert "s3cr3t" not in said
    assert "Traceback" not in said
