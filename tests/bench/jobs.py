"""Whole jobs: the first run of a newcomer, the hourly run of a warm project from the shell, and that from the UI."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.bench.measure import (
    BIN,
    ROOT,
    ROUNDS,
    Row,
    Run,
    clean_environment,
    row,
    rows_of_runs,
    run,
    side_by_side,
    timed,
    write_events,
)
from tests.support.waiting import free_port

HOUR_EVENTS = 100_000
LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } } }"""
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
HOURLY_JOB = {"repositoryLocationName": "headroom", "repositoryName": "__repository__", "jobName": "hourly_job"}


def bench(folder: Path) -> list[Row]:
    return [*bench_first_run(folder), *bench_hourly_job(folder)]


def bench_first_run(folder: Path) -> list[Row]:
    """From a ready environment to the digest on the screen, nothing prepared."""
    data = folder / "first"
    seconds = timed([BIN / "headroom", "demo"], data)
    baseline = timed(dbt_build(folder / "first-target"), data)
    return [row("first `headroom demo`, 150,000 events", [seconds], [baseline], "`dbt build` of the same models alone")]


def bench_hourly_job(folder: Path) -> list[Row]:
    """A warm project gets an hour of new events, or none: start of process to recorded deliveries."""
    data = folder / "hourly"
    timed([BIN / "headroom", "generate", "--events", "500000"], data)
    timed([BIN / "headroom", "run"], data)
    ours, dbt, dagster = list[float](), list[float](), list[float]()
    nothing, imports, from_ui = list[Run](), list[Run](), list[float]()
    for number in range(ROUNDS):
        write_events(data / "landing" / f"hour-{number}.ndjson", HOUR_EVENTS, seed=number)
        ours.append(timed([BIN / "headroom", "run"], data))
        dbt.append(timed(dbt_build(folder / "hourly-target"), data))
        nothing.append(run([BIN / "headroom", "run"], data))
        imports.append(side_by_side(imported(folder / "hourly-target"), data))
        write_events(data / "landing" / f"again-{number}.ndjson", HOUR_EVENTS, seed=1000 + number)
        dagster.append(
            timed([BIN / "dagster", "job", "execute", "-m", "orchestration.definitions", "-j", "hourly_job"], data)
        )
    with served(data) as url:
        materialized(url)  # the first one finds nothing imported
        from_ui = [materialized(url) for _ in range(ROUNDS)]
    what = f"`headroom run`, warm, {HOUR_EVENTS:,} new events"
    idle = [done.seconds for done in nothing]
    return [
        row(what, ours, dbt, "`dbt build` of the same models alone, nothing ingested"),
        row(what, ours, dagster, "the hourly job by `dagster job execute`"),
        row(what, ours, idle, "the same with nothing new"),
        *rows_of_runs(
            "`headroom run`, warm, nothing new", nothing, imports, "import and parse of Dagster and dbt alone"
        ),
        row("hourly job from the UI, nothing new: launch to end", from_ui, idle, "`headroom run` on the same data"),
    ]


def imported(target: Path) -> list[list[str | Path]]:
    """What any run of Dagster and dbt pays before it works: both imported, dbt's project parsed, in two processes."""
    parse = [BIN / "dbt", "--quiet", "parse", *places(target)]
    return [[sys.executable, "-c", "import dagster, dagster_dbt"], parse]


@contextmanager
def served(data: Path) -> Iterator[str]:
    """The URL of `headroom ui` on that data."""
    environment = clean_environment(data) | {"HEADROOM_PORT": str(free_port())}
    with subprocess.Popen(
        [BIN / "headroom", "ui"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        while not (line := process.stdout.readline()).startswith("Ready: "):
            assert line, "`headroom ui` has ended"
        yield line.removeprefix("Ready: ").strip()
        process.terminate()
        process.stdout.read()


def materialized(url: str) -> float:
    """Seconds from the launch of the hourly job to its end.

    :raises SystemExit: it failed.
    """
    started = time.perf_counter()
    launched = _ask(url, LAUNCH, params={"selector": HOURLY_JOB, "mode": "default"})
    while (status := _ask(url, STATUS, run=launched["run"]["runId"])["status"]) != "SUCCESS":
        if status in ("FAILURE", "CANCELED"):
            raise SystemExit(f"the hourly job from the UI: {status}")
        time.sleep(0.05)
    return time.perf_counter() - started


def _ask(url: str, query: str, **variables: object) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    with urlopen(Request(f"{url}/graphql", body, {"content-type": "application/json"}), timeout=60) as answer:
        return next(iter(json.load(answer)["data"].values()))


def dbt_build(target: Path) -> list[str | Path]:
    return [BIN / "dbt", "build", *places(target), "--exclude-resource-type", "unit_test"]


def places(target: Path) -> list[str | Path]:
    folders = ["--project-dir", "dbt_project", "--profiles-dir", "dbt_project"]
    return [*folders, "--target-path", target, "--log-path", target]
