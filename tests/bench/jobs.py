"""Whole jobs from the shell: the first run of a newcomer, and the hourly run of a warm project."""

from pathlib import Path

from tests.bench.measure import BIN, ROUNDS, Row, row, timed, write_events

HOUR_EVENTS = 100_000


def bench(folder: Path) -> list[Row]:
    return [*bench_first_run(folder), *bench_hourly_job(folder)]


def bench_first_run(folder: Path) -> list[Row]:
    """From a ready environment to the digest on the screen, nothing prepared."""
    data = folder / "first"
    seconds = timed([BIN / "headroom", "demo"], data)
    baseline = timed(dbt_build(folder / "first-target"), data)
    return [row("first `headroom demo`, 150,000 events", [seconds], [baseline], "`dbt build` of the same models alone")]


def bench_hourly_job(folder: Path) -> list[Row]:
    """A warm project gets an hour of new events: start of process to recorded deliveries."""
    data = folder / "hourly"
    timed([BIN / "headroom", "generate", "--events", "500000"], data)
    timed([BIN / "headroom", "run"], data)
    ours, dbt, dagster = [], [], []
    for number in range(ROUNDS):
        write_events(data / "landing" / f"hour-{number}.ndjson", HOUR_EVENTS, seed=number)
        ours.append(timed([BIN / "headroom", "run"], data))
        dbt.append(timed(dbt_build(folder / "hourly-target"), data))
        write_events(data / "landing" / f"again-{number}.ndjson", HOUR_EVENTS, seed=1000 + number)
        dagster.append(
            timed([BIN / "dagster", "job", "execute", "-m", "orchestration.definitions", "-j", "hourly_job"], data)
        )
    what = f"`headroom run`, warm, {HOUR_EVENTS:,} new events"
    return [
        row(what, ours, dbt, "`dbt build` of the same models alone, nothing ingested"),
        row(what, ours, dagster, "the hourly job by `dagster job execute`"),
    ]


def dbt_build(target: Path) -> list[str | Path]:
    places: list[str | Path] = [
        "--project-dir",
        "dbt_project",
        "--profiles-dir",
        "dbt_project",
        "--target-path",
        target,
    ]
    return [BIN / "dbt", "build", *places, "--exclude-resource-type", "unit_test", "--log-path", target]
