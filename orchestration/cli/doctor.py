"""`headroom doctor`: whether everything that a run needs is there and well, and what to do where it is not.

Each check is of the part that knows how; here they are put together. Nothing is sent, and nothing is changed but what
every command does: folders are made, and an older ledger is brought to this version.
"""

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb

from orchestration.billing import catalog, needs, usage_query
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.meters import each_meter
from orchestration.channels.stripe import connect_products
from orchestration.cli import (
    doctor_configuration,
    doctor_deliveries,
    doctor_growth,
    doctor_limits,
    doctor_pages,
    doctor_runs,
    failures,
    route_findings,
    run,
)
from orchestration.collector import leftovers
from orchestration.lake import account_copies, passed_over
from orchestration.lake.account_files import ACCOUNTS_FILES
from orchestration.lake.bucket import LakeBucket, LakeBucketError
from orchestration.lake.lake import Lake
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.lookup import Lookup
from orchestration.lake.remembered import Asked
from orchestration.lake.sources import Skipped, Sources
from orchestration.ledger import check
from orchestration.ledger.engines import UnusableLedgerError
from orchestration.ledger.landed import LandedFiles
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.outbox import RefusedError
from orchestration.messages import environment
from orchestration.messages.environment import Cause
from orchestration.settings import Settings
from orchestration.usage.findings import Finding
from orchestration.usage.formatting import counted
from orchestration.warehouse import published_copy, queries, seeds
from orchestration.warehouse.engines import engine_of

BATCH_BYTES = 2**30
"""What a batch may need of the disk for a moment: 160 MB of lines, what is spilled while they are judged, Parquet."""
HEARTBEAT = timedelta(minutes=5)
"""The daemon writes one each half minute."""
LISTED = 10


def examine(config: Settings) -> Iterator[Finding]:
    """One finding after the other, what the others need first."""
    yield from doctor_configuration.examine(config)
    yield _folder(config)
    yield _free_space(config)
    ledger = check.examine(config.ledger_url)
    away = [Cause("UnusableLedgerError", ledger.problem)]
    if config.postgres_ledger and (said := environment.sentence(away, config)):
        ledger = replace(ledger, problem=said)
    yield ledger
    yield from _landing(config, is_ledger_usable=not ledger.problem)
    yield from leftovers.examine(config.landing)
    yield from _meters(config)
    yield _newest_call(config)
    yield from _accounts_files(config)
    yield from engine_of(config).examine(Lake(config.lake))
    if config.lake_url:
        yield _lake_bucket(config, config.lake_url)
    yield from _published(config)
    yield _daemon(config)
    yield from doctor_runs.examine(config)
    yield from doctor_growth.examine(config, is_ledger_usable=not ledger.problem)
    yield from doctor_deliveries.examine(config, is_ledger_usable=not ledger.problem)
    yield from doctor_pages.examine(config, is_ledger_usable=not ledger.problem)
    yield from _slack(config)
    yield from route_findings.examine(config)
    yield from _stripe(config)
    yield from _postgres(config)


def _folder(config: Settings) -> Finding:
    subject = "data folder"
    try:
        config.data.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=config.data):
            return Finding(f"{subject} can be written")
    except (FileExistsError, NotADirectoryError) as error:
        return Finding(subject, failures.sentence_of(error) or str(error))
    except OSError as error:
        return Finding(
            subject, f"cannot be written ({error.strerror}): let this user write to {config.data}, or set HEADROOM_DATA"
        )


def _free_space(config: Settings) -> Finding:
    there = next(folder for folder in (config.data, *config.data.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    needed = BATCH_BYTES + (config.warehouse.stat().st_size if config.warehouse.is_file() else 0)
    subject = f"free space: {_gigabytes(free)}"
    if free >= needed:
        return Finding(subject)
    return Finding(
        subject,
        f"the next run may need {_gigabytes(needed)} for a batch and a copy of the warehouse. Free some space, or move"
        f" {config.data} to a larger disk and set HEADROOM_DATA",
    )


def _landing(config: Settings, is_ledger_usable: bool) -> Iterator[Finding]:
    try:
        config.landing.mkdir(parents=True, exist_ok=True)
        found, skipped = Sources(config.landing, config.landing_url).scan()
    except (OSError, ValueError) as error:
        yield Finding("landing", f"cannot be read ({error}): set HEADROOM_LANDING or HEADROOM_LANDING_URL")
        return
    copies: list[LandedFile] = []
    if is_ledger_usable and check.exists(config.ledger_url):
        ledger = Ledger(config.ledger_url)
        known = Asked(LandedFiles(ledger))
        lookup = Lookup(found, known, lambda *_: True)
        refused = ((path, file) for path, file in lookup.refused.items() if lookup.there.get(path) == file.found)
        skipped += [Skipped(path, file.damage or "") for path, file in refused]
        skipped += passed_over.lost(known, known.incomplete(), found)
        copies = known.copies() if config.landing_copies == "once" else []
        ledger.close()
        found = lookup.news
    if copies:
        yield Finding(f"landing: {passed_over.copies(copies)}")
    for entry in skipped[:LISTED]:
        yield Finding(f"landing: {entry.path}", entry.reason)
    if len(skipped) > LISTED:
        yield Finding("landing", f"Headroom does not read {len(skipped) - LISTED:,} more")
    waiting = sum(1 for file in found if file.stored_bytes)
    if waiting or not skipped:
        yield Finding(f"landing: {counted(waiting, 'file')} to read" if waiting else "landing: all files are read")


def _meters(config: Settings) -> Iterator[Finding]:
    try:
        yield Finding(f"meters: {counted(len(seeds.read_meters(config.dbt_project)), 'row')} in meters.csv")
    except seeds.MetersError as error:
        yield from (Finding("meters", problem) for problem in error.problems)


def _newest_call(config: Settings) -> Finding:
    subject, now = "lake", config.now()
    if not (config.lake / "batches").exists():
        return Finding(f"{subject}: none yet; the first run creates it")
    try:
        latest = Lake(config.lake).latest_call(now)
    except duckdb.Error as error:
        return Finding(
            subject,
            f"cannot be read ({_first_line(error)}). If it fails again, restore the named file from a backup",
        )
    if latest is None:
        return Finding(subject, f"no calls yet: land files in {config.landing}, then `headroom run`")
    problem = ""
    if now - latest[0] >= timedelta(hours=config.stale_after_hours):
        problem = (
            f"older than HEADROOM_STALE_AFTER_HOURS={config.stale_after_hours}, so no digest. If nothing arrives,"
            " check the producer; if files wait in landing, check the runs"
        )
    return Finding(
        f"{subject}: the newest call is {_age(now, latest[0])} old, the last one arrived {_age(now, latest[1])} ago",
        problem,
    )


def _accounts_files(config: Settings) -> Iterator[Finding]:
    lake = Lake(config.lake)
    for kind in ACCOUNTS_FILES:
        copy = lake.accounts_copy(kind)
        if not copy.good.read_at:
            continue
        subject = f"{kind.name} file"
        if copy.held:
            since = f"held since {copy.held.since:%Y-%m-%d %H:%M} UTC"
            yield Finding(subject, f"{since}. {copy.held.reason} {account_copies.stays(kind, copy)}")
        elif copy.kept_since:
            words = f"{len(copy.good.kept):,} of its {kind.name} use their last valid values, the oldest from"
            yield Finding(
                subject,
                f"{words} {copy.kept_since:%Y-%m-%d %H:%M} UTC. `headroom rejected` lists the cells to repair",
                is_needed=False,
            )
        elif copy.good.rows:
            rows = counted(len(copy.good.rows), "row")
            yield Finding(f"{subject}: {rows}, read {_age(config.now(), copy.good.read_at)} ago")


def _lake_bucket(config: Settings, url: str) -> Finding:
    subject = "lake's bucket"
    try:
        state = LakeBucket(url, config.lake).state()
    except LakeBucketError as error:
        return Finding(subject, str(error))
    if not state.is_writer:
        return Finding(
            subject,
            f"{state.writer} is the writer of {url}, so runs here read nothing. If that machine is gone, run"
            " `headroom lake claim`",
        )
    waiting = [
        f"{count:,} {'batch' if count == 1 else 'batches'} to {what}"
        for count, what in ((state.missing_here, "download"), (state.missing_there, "upload"))
        if count
    ]
    return Finding(f"{subject}: {'; '.join(waiting) or 'bucket and folder have all batches'}")


def _published(config: Settings) -> Iterator[Finding]:
    subject, now, log = "published copy", config.now(), published_copy.log_of(config.published)
    stray = f"another program opened it for writing and left the log {log}"
    remedy = f"Run `rm {shlex.quote(str(log))}`; only its own changes are lost. Open the copy with `duckdb -readonly`"
    try:
        quality = queries.data_quality(config.published)
    except published_copy.NothingPublishedError as error:
        yield Finding(subject, str(error))
        return
    except (duckdb.Error, ValueError) as error:
        if log.exists():
            yield Finding(subject, f"cannot be read: {stray}. {remedy}")
        else:
            words = f"{config.published} cannot be read ({_first_line(error)})"
            yield Finding(subject, f"{words}. Make a new copy: `headroom run --only models`")
        return
    if log.exists():
        yield Finding(subject, f"may have figures of no run: {stray}, and readers see its changes. {remedy}")
    problem = ""
    if now - quality["as_of"] >= timedelta(hours=config.stale_after_hours):
        problem = "no run has published since: `headroom run` says why, and `headroom ui` lists failed runs"
    yield Finding(f"{subject}: counted {_age(now, quality['as_of'])} ago", problem)
    yield from doctor_limits.examine(config)
    lines, lost = quality["rejected_lines"], quality.get("lost_events") or 0
    about = f", about {lost:,} events" if lost > lines else ""
    about += "; see `headroom rejected`" if lines else ""
    yield Finding(f"quarantine: {counted(lines, 'line')}{about}")
    if quality.get("events_ahead"):  # a copy of an earlier version has none
        yield from _clocks(config)
    if config.lake_keep_days:
        _, held_by = usage_query.dispensable_before(config.published, now, config.lake_keep_days)
        yield Finding(
            f"lake: keeps calls since {queries.kept_from(config.published)}",
            held_by and f"longer than HEADROOM_LAKE_KEEP_DAYS, because of {held_by}",
            is_needed=False,
        )


def _clocks(config: Settings) -> Iterator[Finding]:
    rows = published_copy.query(config.published, "from events_ahead order by furthest_at desc, producer")
    for row in rows[:LISTED]:
        words = f"{counted(row['event_count'], 'event')} in the future, the furthest at"
        remedy = "They count once that time has passed. Correct the producer's clock or time zone"
        problem = f"{words} {row['furthest_at']:%Y-%m-%d %H:%M} UTC. {remedy}"
        yield Finding(f"clock of {row['producer']}", problem, is_needed=False)
    if len(rows) > LISTED:
        more = counted(len(rows) - LISTED, "more producer")
        yield Finding("clocks", f"{more} with events in the future: see events_ahead", is_needed=False)


def _daemon(config: Settings) -> Finding:
    subject = "Dagster's daemon"
    if not (config.dagster_home / "dagster.yaml").exists():
        return Finding(f"{subject}: Dagster has no storage yet; the first run creates it")
    try:
        at = run.last_heartbeat()
    except Exception as error:  # noqa: BLE001 - storage of any kind may fail in any way, and the other checks go on
        said = failures.sentence_of(error) or f"{_first_line(error)}: see {config.dagster_home}"
        return Finding(subject, f"Dagster's storage cannot be read: {said}")
    if at and abs(datetime.now(UTC) - at) < HEARTBEAT:
        return Finding(f"{subject} runs")
    since = f"since {at:%Y-%m-%d %H:%M} UTC" if at else "yet"
    words = f"has not run {since}, so no schedule starts. Start it with `headroom ui` or `dagster-daemon run`"
    return Finding(subject, words, is_needed=config.is_production)


def _slack(config: Settings) -> Iterator[Finding]:
    from orchestration.channels.slack import channel as slack

    try:
        channel = slack.configured(config)
    except ValueError as error:
        yield Finding("Slack", str(error))
        return
    if channel is None:
        yield _preview("Slack", "SLACK_BOT_TOKEN", config)
    else:
        yield from _of("Slack", channel.check())


def _stripe(config: Settings) -> Iterator[Finding]:
    if config.stripe_api_key is None:
        yield _preview("Stripe", "STRIPE_API_KEY", config)
        return
    try:
        yield from _of("Stripe", catalog.check(each_meter(config), connect_products))
    except (ValueError, RefusedError, published_copy.NothingPublishedError, duckdb.Error, UnusableLedgerError) as error:
        yield Finding("Stripe", str(error))
    if check.exists(config.ledger_url):
        try:
            short = needs.of_a_day(config, meter_ledger(config), config.now())
        except UnusableLedgerError:
            return  # as the ledger's own finding says
        yield Finding("Stripe: requests a day", short, is_needed=False)


def _postgres(config: Settings) -> Iterator[Finding]:
    from orchestration.channels.postgres import tables as postgres

    try:
        if tables := postgres.configured(config):
            yield from _of("Postgres", tables.check(config.published))
    except (ValueError, published_copy.NothingPublishedError, duckdb.Error) as error:
        yield Finding("Postgres", str(error))


def _preview(subject: str, variable: str, config: Settings) -> Finding:
    if config.is_production:
        return Finding(subject, f"production sends nothing: set {variable}", is_needed=False)
    return Finding(f"{subject}: preview only, {variable} is not set")


def _of(channel: str, findings: list[Finding]) -> Iterator[Finding]:
    for finding in findings:
        yield Finding(f"{channel}: {finding.subject}", finding.problem, finding.is_needed)


def _age(now: datetime, at: datetime) -> str:
    hours = max(now - at, timedelta()) // timedelta(hours=1)
    return f"{hours} h" if hours < 72 else f"{hours // 24} days"


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
