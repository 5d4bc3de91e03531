"""`headroom ui`: what the terminal shows of runs that people start in the browser, and that it ends as a whole."""

import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.e2e.program import Program, duplicate_an_event
from tests.e2e.test_run import land_small
from tests.support.waiting import PATIENCE_SECONDS, RUN_SECONDS, free_port, wait_until

LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } } }"""
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
RUNS = "{ runsOrError { ... on Runs { results { id jobName status } } } }"
EVENTS = "query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events { __typename } } } }"
FAILURES = """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
    ... on ExecutionStepFailureEvent { error { message } } ... on RunFailureEvent { error { message } } } } } }"""
ENDS = {status: status for status in ("SUCCESS", "FAILURE")}
INGESTED = (
    "raw_events",
    "raw_other_events",
    "rejected_lines",
    "raw_accounts",
    "raw_subjects",
    "raw_customers",
    "raw_meter_reports",
)


class Ui:
    """A started `headroom ui`, asked as the browser asks it."""

    def __init__(self, program: Program) -> None:
        self.process = program.start("ui", HEADROOM_PORT=str(free_port()))
        assert self.process.stdout is not None
        self.told: list[str] = []
        """The lines on stderr, as they come."""
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        while not (line := self.process.stdout.readline()).startswith("Ready: "):
            assert line, self.told
        self.url = line.removeprefix("Ready: ").strip()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            self.told.extend(stderr)

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return next(iter(json.load(answer)["data"].values()))

    def materialize(self, *assets: str) -> tuple[str, str]:
        """The id and the end of a run of these assets alone."""
        selector = {"repositoryLocationName": "headroom", "repositoryName": "__repository__", "jobName": "__ASSET_JOB"}
        selection = {"assetSelection": [{"path": [asset]} for asset in assets]}
        launched = self.ask(LAUNCH, params={"selector": {**selector, **selection}, "mode": "default"})
        run = launched["run"]["runId"]
        return run, wait_until(lambda: ENDS.get(self.ask(STATUS, run=run)["status"]), RUN_SECONDS)

    def why(self, run: str) -> list[str]:
        """The causes of the failures of a run, as its page shows them."""
        events = self.ask(FAILURES, run=run)["events"]
        return [each["error"]["message"] for each in events if each.get("error")]

    def stop(self, number: signal.Signals) -> str:
        """What was printed since it was ready, but for `told`; it has ended with status 0, unless it was killed."""
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE_SECONDS) == (-number if number is signal.SIGKILL else 0)
        self._listener.join()
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            return stdout.read()


def processes_of(program: Program) -> list[str]:
    """Dagster's processes name their storage on their command lines."""
    listed = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(program.data) in line]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    program = Program(tmp_path)
    land_small(program)
    return program


def test_terminal_is_quiet_until_a_run_fails_and_then_names_the_cause(program: Program) -> None:
    ui = Ui(program)
    try:
        # The sensor starts the first one, as something has landed; a person the second, of a few assets.
        first = [("refresh_job", "SUCCESS")]
        wait_until(lambda: [(r["jobName"], r["status"]) for r in ui.ask(RUNS)["results"]] == first, RUN_SECONDS)
        good = ui.ask(RUNS)["results"][0]["id"]
        events = ui.ask(EVENTS, run=good)["events"]
        duplicate_an_event(program.data / "lake" / "batches")
        bad, status = ui.materialize(*INGESTED, "stg_meter_values")
        assert status == "FAILURE"
        wait_until(lambda: len(ui.told) >= 5, RUN_SECONDS, seen=lambda: (ui.told, ui.ask(RUNS), ui.why(bad)))
        assert processes_of(program)
        second = program.ask("ui", status=1)
        assert f"already serves {program.data} on {ui.url}. Open it, or stop it" in " ".join(second.stderr.split())
    finally:
        stdout = ui.stop(signal.SIGINT)

    assert stdout == ""
    first, *reason = (line.rstrip() for line in ui.told)
    assert first == f"headroom: __ASSET_JOB failed at models  {ui.url}/runs/{bad}"
    assert reason.pop() == "headroom: stopped the UI, the schedules and the sensors"
    assert reason[0] == "  1 check failed; nothing was published or sent:"
    assert reason[1].startswith("  - calls_are_distinct: Got ")
    assert reason[2].endswith("beta-2024-11-20T06:45:00Z")  # the row that the test found
    assert len(reason) == 4
    assert len(events) > 50
    [log] = (program.data / "dagster" / "storage" / good / "compute_logs").glob("*.err")
    assert "STEP_SUCCESS" in log.read_text()
    wait_until(lambda: not processes_of(program))  # those of its own children are ended, and their ends not waited for


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_code_location_that_does_not_load_is_shown(program: Program, number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("SKIPPED: started under nohup, where a closed window is to be ignored")
    (program.data / "dbt").write_text("no folder")
    ui = Ui(program)
    try:
        cause = str(program.data / "dbt")  # the page is ready whether the code location has failed yet or not
        wait_until(lambda: any(cause in line for line in list(ui.told)), RUN_SECONDS)
    finally:
        ui.stop(number)

    stderr = "".join(ui.told)
    assert " - ERROR - " in stderr
    assert "Stack Trace:" in stderr
    assert cause in stderr
    wait_until(lambda: not processes_of(program))


def test_failing_start_is_reported_with_its_status(program: Program) -> None:
    (program.data / "dagster").mkdir(parents=True)
    (program.data / "dagster" / "dagster.yaml").write_text("nonsense: true\n")
    result = program.run("ui", status=1)

    assert "DagsterInvalidConfigError" in result.stderr
    assert "nonsense" in result.stderr
