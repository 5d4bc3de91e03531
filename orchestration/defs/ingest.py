"""Landing folder to lake."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from logging import Logger
from pathlib import Path

import dagster as dg
import duckdb
from filelock import FileLock, Timeout

from orchestration.billing import lake_copy, usage_query
from orchestration.defs.resources import OWNERS, Project
from orchestration.lake import account_copies, compaction, landing_removal, passed_over
from orchestration.lake.account_copies import Taken
from orchestration.lake.account_files import ACCOUNTS_FILES, AccountsFile
from orchestration.lake.lake import Lake
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.manifests import Batch
from orchestration.lake.remembered import Asked
from orchestration.lake.sources import Skipped, SourceFile
from orchestration.ledger.landed import LandedFiles
from orchestration.settings import Settings
from orchestration.usage.formatting import counted

BUILD_SECONDS = 60
"""For which a compaction of the lake waits for a build that reads it."""


def _spec(name: str, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(name, group_name="ingest", owners=OWNERS, kinds={"python", "parquet"}, description=description)


SPECS = [
    _spec(
        "raw_events",
        "Every accepted event that a meter counts, once, as Parquet by UTC day under `lake/batches/`. One row per"
        " (source, id). The event_names of `meters.csv` say which events these are; API calls always are.\n\n"
        "Source: files in HEADROOM_LANDING and in the bucket HEADROOM_LANDING_URL, including the HTTP collector's"
        " segments. Headroom reads each file once, and what is appended later. Cadence: hourly, and when files"
        " land.\n\n"
        "If a run fails here, run it again: a batch is added completely or not at all.\n\n"
        "Every 24th batch removes calls older than HEADROOM_LAKE_KEEP_DAYS; `lake_held_back_by` names the usage"
        " period that keeps older ones. Landed files are deleted HEADROOM_LANDING_KEEP_DAYS after reading, if it is"
        " set.",
    ),
    _spec(
        "raw_other_events",
        "Every accepted event that is not counted, once: changed quotas and reached limits. They are stored apart from"
        " the counted ones, so that reading them is fast.",
    ),
    _spec(
        "rejected_lines",
        "Every rejected line, with file, line number and reason. `headroom rejected` explains them.\n\n"
        "Repair the producer, then land the corrected lines in a new file. If the rules changed, check the lines"
        " again with `headroom rejected --replay`.",
    ),
    _spec(
        "raw_accounts",
        "The accounts file (HEADROOM_ACCOUNTS) as it is now: names, owners, plans, MRR, Stripe customers. Unreadable"
        " rows and cells keep their last valid values; see the check file_is_taken.",
    ),
    _spec(
        "raw_subjects",
        "The subjects file (HEADROOM_SUBJECTS) as it is now. It says which account an id in the events belongs to,"
        " and when. Such an id is an API key, an OAuth client or a workspace.\n\n"
        "After a change, the next run counts all usage again. Unreadable rows keep their last valid values; see the"
        " check file_is_taken.",
    ),
    _spec(
        "raw_customers",
        "The customers file (HEADROOM_CUSTOMERS) as it is now. It says which Stripe customer pays for an account, by"
        " UTC hour. Other accounts use the customer of the accounts file. Unreadable rows keep their last valid"
        " values; see the check file_is_taken.",
    ),
]
CALLS_ARE_RECENT = dg.AssetCheckSpec(
    "calls_are_recent",
    asset="raw_events",
    description=(
        "Warns when the newest call is older than HEADROOM_STALE_AFTER_HOURS: without calls, nobody crosses a"
        " threshold. If no calls arrive, check the producer and the skipped files. If only old calls arrive, a backlog"
        " is being read. The check blocks nothing."
    ),
)


EVERYTHING_IS_READ = dg.AssetCheckSpec(
    "everything_is_read",
    asset="raw_events",
    description=(
        "Warns about anything in the landing folder or bucket that Headroom cannot read. Examples are a file of an"
        " unknown format, an unreadable folder and a link. Also warns about a file that disappeared before it was read"
        " to its end.\n\n"
        "Those events count nowhere. Follow the stated reason, or remove the file. The check blocks nothing."
    ),
)
FILES_ARE_TAKEN = [
    dg.AssetCheckSpec(
        "file_is_taken",
        asset=f"raw_{kind.name}",
        description=(
            "Warns while the file is held because it is unreadable or lost too many rows. Also warns about"
            " unreadable cells or rows. The last valid values stay in use, so that no account loses its customer by"
            " accident.\n\n"
            f"Repair the file, or accept it as it is with `headroom lake accept {kind.name}`. The check blocks"
            " nothing."
        ),
    )
    for kind in ACCOUNTS_FILES
]


@dg.multi_asset(specs=SPECS, check_specs=[CALLS_ARE_RECENT, EVERYTHING_IS_READ, *FILES_ARE_TAKEN], name="ingest")
def ingest(
    context: dg.AssetExecutionContext, project: Project
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    settings, lake, meters = project.settings, project.lake(), project.meters()
    now, ledger = settings.now(), project.ledger()
    batches: list[Batch] = []
    settings.landing.mkdir(parents=True, exist_ok=True)
    place = project.landing()
    with lake.writing():
        lake.must_have(ledger.last_batch())
        # A batch that was committed just before a kill is in the lake but not in the ledger yet.
        for batch in lake.batches(after=ledger.last_batch()):
            _record(project, batch)
        landed = LandedFiles(ledger)
        known = Asked(landed)
        begun = known.incomplete()
        while True:
            counts_copies = settings.landing_copies == "count"
            new_batch, skipped = lake.ingest(place, known, now, counts_copies=counts_copies, meters=meters)
            if new_batch is None:
                break
            _record(project, new_batch)
            batches.append(new_batch)
            figures = f"{counted(new_batch.accepted, 'event')} from {counted(new_batch.lines, 'line')}"
            context.log.info(f"batch {new_batch.number}: {figures}")
        found = lake.scanned[0] if lake.scanned else []
        skipped += passed_over.lost(known, begun, found)
        landed.settle(passed_over.gone(known, found, skipped), passed_over.back(known, found), now)
        taken = [
            (kind, _take(lake, kind, _file(lake, kind, *settings.accounts_file(kind.name)), now))
            for kind in ACCOUNTS_FILES
        ]
        latest = lake.latest_call(now)
        compacted = _compact(lake, batches, settings, context.log)
        removed = _remove_landed(lake, landed, found, settings, context.log)
    for entry in skipped:
        context.log.warning(f"not read: {entry.path} {entry.reason}")
    copies = [file for batch in batches for file in batch.files if file.copy_of]
    if copies:
        context.log.warning(passed_over.copies(copies))
    reasons: Counter[str] = Counter()
    for batch in batches:
        reasons.update(batch.rejected)
    yield dg.MaterializeResult(
        asset_key="raw_events",
        metadata={
            "events_accepted": sum(batch.accepted for batch in batches),
            "duplicates": sum(batch.duplicates for batch in batches),
            "lines": sum(batch.lines for batch in batches),
            "files": sum(len(batch.files) for batch in batches),
            "files_skipped": len(skipped),
            "files_copied": len(copies),
            "lines_copied": sum(file.read_lines for file in copies),
            **compacted,
            **removed,
            "skipped": dg.MetadataValue.json([asdict(entry) for entry in skipped[:100]]),
            "copies": dg.MetadataValue.json([{"path": file.path, "copy_of": file.copy_of} for file in copies[:100]]),
        },
    )
    yield dg.MaterializeResult(asset_key="raw_other_events")
    yield dg.MaterializeResult(
        asset_key="rejected_lines",
        metadata={"events_rejected": sum(reasons.values()), "reasons": dg.MetadataValue.json(dict(reasons))},
    )
    for kind, file in taken:
        if file.new_unknown:
            context.log.warning(f"the {kind.name} file has unknown columns: {', '.join(file.new_unknown)}")
        yield dg.MaterializeResult(asset_key=f"raw_{kind.name}", metadata=_figures(file))
        yield judge_file(kind, file)
    yield judge_age(latest, now, settings.stale_after_hours)
    yield judge_skipped(skipped)


@dg.asset(
    group_name="ingest",
    owners=OWNERS,
    kinds={"python", "parquet"},
    description=(
        "The ledger's reports to Stripe, as Parquet by UTC day under `lake/meter_reports/`, for"
        " billing_reconciliation_hourly. One row per revision of a customer's hour. A run writes only days that"
        " changed since the last copy. Stripe's subscription periods are in `lake/subscription_periods/`.\n\n"
        "If it fails, run it again. You may delete both folders; the ledger is the original."
    ),
)
def raw_meter_reports(project: Project) -> dg.MaterializeResult[None]:
    copied = lake_copy.copy_ledger(project.settings)
    return dg.MaterializeResult(
        metadata={
            "days_written": copied.days,
            "rows_written": copied.rows,
            "is_whole": copied.is_whole,
            "subscription_periods": copied.periods,
        }
    )


def judge_age(latest: tuple[datetime, datetime] | None, now: datetime, stale_after_hours: int) -> dg.AssetCheckResult:
    """The check calls_are_recent, of what `Lake.latest_call` found."""
    metadata: dict[str, str | int] = {"stale_after_hours": stale_after_hours}
    if latest:
        for what, at in zip(("call", "arrival"), latest, strict=True):
            metadata[f"latest_{what}"] = f"{at:%Y-%m-%d %H:%M} UTC"
            metadata[f"hours_since_{what}"] = (now - at) // timedelta(hours=1)
    return dg.AssetCheckResult(
        check_name=CALLS_ARE_RECENT.name,
        asset_key="raw_events",
        passed=latest is not None and now - latest[0] < timedelta(hours=stale_after_hours),
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
        description=None if latest else "no calls yet",
    )


def judge_skipped(skipped: Sequence[Skipped]) -> dg.AssetCheckResult:
    """The check everything_is_read, of what no run can read; what is only left for a later one is not meant."""
    lasting = [entry for entry in skipped if not entry.is_for_now]
    description = None
    if lasting:
        first = lasting[0]
        more = f" And {len(lasting) - 1:,} more: see the run's log." if len(lasting) > 1 else ""
        description = f"Not read: {first.path} {first.reason}.{more}"
    return dg.AssetCheckResult(
        check_name=EVERYTHING_IS_READ.name,
        asset_key="raw_events",
        passed=not lasting,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
        metadata={"not_read": len(lasting)},
    )


def judge_file(kind: AccountsFile, file: Taken) -> dg.AssetCheckResult:
    """The check file_is_taken, of what became of the file."""
    held, description = file.copy.held, None
    if held:
        words = account_copies.stays(kind, file.copy)
        description = f"Held since {held.since:%Y-%m-%d %H:%M} UTC. {held.reason} {words}"
    elif file.rejected:
        count = f"{file.rejected:,} cell{'s' * (file.rejected > 1)} or row{'s' * (file.rejected > 1)}"
        description = f"{count} cannot be read: `headroom rejected` lists the problems."
        if file.copy.kept_since:
            at = f"{file.copy.kept_since:%Y-%m-%d %H:%M} UTC"
            description += f" The last valid values count instead, the oldest from {at}."
    return dg.AssetCheckResult(
        check_name="file_is_taken",
        asset_key=f"raw_{kind.name}",
        passed=description is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
    )


def _figures(file: Taken) -> dict[str, int | str]:
    copy = file.copy
    figures: dict[str, int | str] = {"dagster/row_count": file.accepted, "rows_rejected": file.rejected}
    if copy.good.read_at:
        figures["read_at"] = f"{copy.good.read_at:%Y-%m-%d %H:%M} UTC"
    if copy.held:
        figures |= {"held_since": f"{copy.held.since:%Y-%m-%d %H:%M} UTC", "held_because": copy.held.reason}
    if copy.kept_since:
        figures["oldest_value_kept"] = f"{copy.kept_since:%Y-%m-%d %H:%M} UTC"
    if copy.unknown:
        figures["unknown_columns"] = ", ".join(copy.unknown)
    return figures


def _take(lake: Lake, kind: AccountsFile, path: Path | None, now: datetime) -> Taken:
    try:
        return lake.write_accounts(kind, path, rejected_at=now)
    except ValueError as error:  # the first one ever: nothing can stay in use in its place
        raise dg.Failure(f"{error}. Repair or remove the file, then run again.", allow_retries=False) from None


def _file(lake: Lake, kind: AccountsFile, named: Path | None, path: Path) -> Path | None:
    if path.exists():
        return path
    if named and not lake.accounts_copy(kind).good.rows:  # else what is in use stays
        raise dg.Failure(f"HEADROOM_{kind.name.upper()} names {named}, which does not exist")
    return None


def _compact(lake: Lake, batches: list[Batch], settings: Settings, log: Logger) -> dict[str, int | str]:
    """Merge the lake's small files with each so-many-th batch, for a batch adds one to a day, and remove calls that
    are older than what is kept; metadata.

    Not with each one: in a lake of 8,760 batches, which a year of hours has, only to look takes 0.6 s. A build that
    reads the lake is waited for; where it, or anything else, keeps it from being done, the next time will do.
    """
    said: dict[str, int | str] = {"lake_files_merged": 0}
    if not any(batch.number % compaction.FILES == 0 for batch in batches):
        return said
    try:
        if settings.lake_keep_days:
            day, held_by = usage_query.dispensable_before(settings.published, settings.now(), settings.lake_keep_days)
            if day:
                lake.keep_from(day)  # first, so that from now on none of these calls is let in again
            if held_by:
                log.info(f"HEADROOM_LAKE_KEEP_DAYS: the lake keeps older calls because of {held_by}")
                said["lake_held_back_by"] = held_by
        said["lake_kept_from"] = str(lake.kept_from())
        said["lake_files_merged"] = lake.compact(FileLock(settings.build_lock, timeout=BUILD_SECONDS))
    except (Timeout, OSError, duckdb.Error) as error:
        log.warning(f"the lake's small files were not merged and old calls not removed, so builds are slower: {error}")
    return said


def _remove_landed(
    lake: Lake, landed: LandedFiles, found: Sequence[SourceFile], settings: Settings, log: Logger
) -> dict[str, int]:
    """Remove landed files that were read HEADROOM_LANDING_KEEP_DAYS ago; metadata, without the variable none."""
    if not settings.landing_keep_days:
        return {}
    before = landing_removal.kept_since(settings.now(), settings.landing_keep_days)
    files = ((LandedFile(**row), batch) for row, batch in landed.read_before(int(before.timestamp()) * 10**9))
    removed = landing_removal.remove(settings.landing, lake, files, found, before)
    for sentence in removed.sentences:
        log.info(sentence)
    return {"landed_files_removed": removed.files, "landed_bytes_removed": removed.stored_bytes}


def _record(project: Project, batch: Batch) -> None:
    project.ledger().record_files(batch.number, [vars(file) for file in batch.files])
