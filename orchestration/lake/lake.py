"""The lake: every accepted usage event once, calls as Parquet by event date, and every refused line with its reason.

A batch is one folder, `batches/000001/`, with `calls/event_date=…/*.parquet`, `others.parquet` (quotas and limits),
`rejected.parquet` and `manifest.json` (which bytes of which landing files it holds); a file without rows is not
there. It is written elsewhere, synced, and moved in: a batch is there as a whole or not at all, so a kill at any
moment leaves nothing half counted. Files are immutable; when there are many small ones, one takes the place of several
(`compaction.py`). The warehouse can be rebuilt from them alone, and landing files may be deleted once read. Where the
lake has a bucket (`bucket.py`), a batch is put there before the ledger takes its files for read: of a lost disk
nothing is missing that is not read again.

Calls of days before the one in `kept_from.parquet` are gone, or go with the next compaction. None is let in again: by
then nobody can tell whether it was counted.

How a batch is made is in `batch.py`, the rules are in `usage/events.py`, and `account_copies.py` has the files of
accounts.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from filelock import FileLock

from orchestration.lake import (
    account_copies,
    alerts,
    batch_lines,
    compaction,
    deduplication,
    first_layout,
    in_memory,
    landing,
    manifests,
    meter_reports,
    parquet,
    prepaid_credit,
    quarantine,
    subscription_periods,
)
from orchestration.lake import batch as making
from orchestration.lake.account_copies import Copy, Taken
from orchestration.lake.account_files import ACCOUNTS_FILES, AccountsFile
from orchestration.lake.batch import CALL_COLUMNS, OTHER_COLUMNS, REJECTED_COLUMNS, Again, literal
from orchestration.lake.bucket import LakeBucket
from orchestration.lake.manifests import Batch
from orchestration.lake.parsed_lines import ParsedLines, system_memory
from orchestration.lake.remembered import Known
from orchestration.lake.sources import Skipped, Source, SourceFile
from orchestration.usage.events import FUTURE_TOLERANCE_SECONDS, Rejection
from orchestration.usage.meters import Meter

BATCH_BYTES = 160 * 2**20
"""Landing bytes in one batch: 600,000 typical events. Bounds memory for any backlog: with 256 MiB a process has 709 MB
instead of 595, and ten million events take a tenth less time."""
MEMORY_LIMIT = "700MB"
THREADS = 2
"""Each needs memory of its own to parse: with 4, twenty lines of 5 MB went beyond the limit."""
KEPT_AS_THEY_ARE = (Rejection.INVALID_UTF8, Rejection.NOT_TEXT, Rejection.DAMAGED_FILE)
"""Refused lines whose bytes are not in quarantine: judging them again would judge something else."""
KEPT_FROM = "kept_from.parquet"
SINCE_EVER = date(1970, 1, 1)
"""What a lake that keeps everything keeps calls from."""


class Lake:
    """The folder of batches. Reading needs no lock; ingesting takes one, which dies with its process."""

    def __init__(self, root: Path, bucket_url: str | None = None) -> None:
        self.root = root
        self.bucket = LakeBucket(bucket_url, root) if bucket_url else None
        self._batches = root / "batches"
        self._staging = root / ".staging"
        """What is not committed yet. Not among the batches: DuckDB's globs match hidden folders too."""
        self.scanned: tuple[list[SourceFile], list[Skipped]] | None = None

    def create(self) -> None:
        """Make an empty lake that can be queried: its files then always match the globs of the dbt sources.

        One of the first Headroom is brought to the layout of today.
        """
        empty = self._batches / "000000"
        if first_layout.is_of_first_layout(self._batches):
            with self._connect() as connection:
                first_layout.convert(connection, self._batches, self._staging / "batches")
            compaction.exchange(self._staging / "batches", self._batches)
            shutil.rmtree(self._staging)
        meter_reports.create(self.root)
        subscription_periods.create(self.root)
        prepaid_credit.create(self.root)
        alerts.create(self.root)
        if not (self.root / KEPT_FROM).exists():
            self._write_kept_from(SINCE_EVER)
        if empty.exists():
            quarantine.complete_columns(empty / "rejected.parquet")
            return
        for kind in ACCOUNTS_FILES:
            if not (self.root / f"{kind.name}.parquet").exists():
                account_copies.create(self.root, kind)
        with self._committed(empty) as folder:
            (folder / "calls" / "event_date=1970-01-01").mkdir(parents=True)
            for columns, name in (
                (CALL_COLUMNS, "calls/event_date=1970-01-01/empty.parquet"),
                (OTHER_COLUMNS, "others.parquet"),
                (REJECTED_COLUMNS, "rejected.parquet"),
            ):
                parquet.write(folder / name, columns)
            (folder / "manifest.json").write_text(Batch(0, "").as_json())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The lock, and lake and bucket brought to the same batches: for whoever adds one, or copies them all.

        :raises LakeBucketError: they cannot be.
        """
        with self.locked():
            if self.bucket:
                self.bucket.bring_together(self._committed)
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Waits for other writers on this machine; a killed writer's lock is free at once."""
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock"):
            if self._staging.exists():
                shutil.rmtree(self._staging)
            self.create()
            self.scanned = None
            yield

    def batches(self, after: int = 0) -> list[Batch]:
        """The committed batches with a number above `after`, oldest first."""
        return manifests.after(self._batches, after)

    def batch(self, number: int) -> Batch | None:
        """The committed batch of that number, where it is there."""
        return manifests.of(self._batches, number)

    def held_in_part(self, origins: Set[str]) -> set[str]:
        """Those of the contents of which quarantine has a line with fewer bytes than it landed with."""
        with self._connect() as connection:
            return quarantine.held_in_part(connection, self._batches, origins, KEPT_AS_THEY_ARE)

    def fingerprint(self, number: int) -> str:
        """A text that is another one in a lake whose batch of that number is another one; empty where there is none."""
        manifest = self._batches / f"{number:06d}" / "manifest.json"
        return hashlib.md5(manifest.read_bytes(), usedforsecurity=False).hexdigest() if manifest.exists() else ""

    def must_have(self, number: int) -> None:
        """What the ledger takes for read is in the lake.

        :raises ValueError: the lake ends before this batch.
        """
        last = self._next()[0] - 1
        if last < number:
            raise ValueError(
                f"The ledger has read the files of batch {number}, but the lake in {self.root} ends at {last}."
                " Usage would be missing. Restore the lake of this ledger, from its bucket (HEADROOM_LAKE_URL) or"
                " from a backup: see docs/billing/ledger.md."
            )

    def ingest(
        self,
        place: Source,
        known: Known,
        now: datetime,
        batch_bytes: int = BATCH_BYTES,
        counts_copies: bool = False,
        meters: Sequence[Meter] = (),
    ) -> tuple[Batch | None, list[Skipped]]:
        """Commit the next batch of what landed in `place` since `known`; None where nothing new is there.

        Call inside `writing()`, and again until it returns None: only then is the list of what was skipped whole.
        Of events, calls, quotas and reached limits are taken, and those that one of the meters counts.

        The place is looked at in the first call, so that a file that never stops growing does not hold the others.
        """
        if self.scanned is None:
            self.scanned = place.scan()
        found, skipped = self.scanned
        self._staging.mkdir(exist_ok=True)
        plan = landing.plan(place, found, known, counts_copies)
        staged = batch_lines.stage(place, plan, self._staging / "lines.ndjson", batch_bytes)
        if not staged.files:
            return None, skipped + staged.skipped
        number, generation = self._next()
        with system_memory(), self._connect() as connection:
            parsed = making.judge(connection, staged, now, self.kept_from(), meters)
            deduplication.find_repeated(connection, self._batches)
            making.refuse(connection, staged, now)
            files = list(staged.files.values())
            again = quarantine.read_again(staged.begun, files, known)
            batch = Batch(number, now.isoformat(), files, generation=generation)
            self._commit(connection, batch, now, parsed, again)
        return batch, skipped + staged.skipped

    def replay(self, now: datetime, meters: Sequence[Meter] = ()) -> Batch | None:
        """Judge the quarantine again, under the rules of today; None where it is empty. Call inside `writing()`.

        Lines that are good now count as if they had been good when they came, those that are not stay in quarantine.
        """
        number, generation = self._next()
        rejected = f"from {quarantine.standing(sorted(self._batches.glob('[0-9]*/rejected*.parquet')), generation)}"
        kept = ", ".join(f"'{reason}'" for reason in KEPT_AS_THEY_ARE)
        with self._connect() as connection:
            again = f"{rejected} where reason not in ({kept})"
            [[count]] = connection.execute(f"select count(*) from ({again})").fetchall()
            if not count:
                return None
            making.judge_again(connection, again, now, self.kept_from(), meters)
            deduplication.find_repeated(connection, self._batches)
            making.refuse(connection, None, now)
            connection.execute(
                f"insert into refused_besides select {making.REFUSED} {rejected} where reason in ({kept})"
            ).fetchall()
            batch = Batch(number, now.isoformat(), generation=generation + 1)
            self._commit(connection, batch, now)
        return batch

    def kept_from(self) -> date:
        """The first UTC day that the lake keeps calls of."""
        day: date = pq.read_table(self.root / KEPT_FROM)["kept_from"][0].as_py()
        return day

    def keep_from(self, day: date) -> None:
        """Keep calls of that UTC day and later ones, never of more than so far: `compact` removes the others. Call
        inside `writing()`.
        """
        if day > self.kept_from():
            self._write_kept_from(day)

    def compact(self, no_build: AbstractContextManager[object]) -> int:
        """Make one of the small files of each day that has too many, and remove calls of days that are not kept; how
        many files became one. Call inside `writing()`.

        `no_build` is entered for the moment in which no build may read the lake. What it raises ends the compaction.

        :raises OSError, duckdb.Error: that was not possible; nothing was changed.
        """
        kept_from = self.kept_from()
        groups = compaction.crowded(self._batches, kept_from)
        if groups or compaction.outdated(self._batches, kept_from):
            tree = self._staging / "batches"
            self._staging.mkdir(exist_ok=True)
            with self._connect() as connection:
                compaction.merge(connection, groups, self._batches, kept_from, tree, no_build)
            shutil.rmtree(tree)
        return sum(map(len, groups))

    def count(self, after: int, until: int) -> int:
        """How many events of the batches in `(after, until]` there are."""
        files = [
            str(path)
            for folder in self._batches.glob("[0-9]*")
            if int(folder.name) > after  # rows may have been moved to that of a later batch
            for path in (*folder.glob("calls/*/*.parquet"), *folder.glob("others*.parquet"))
        ]
        with self._connect() as connection:
            [[count]] = connection.execute(
                "select count(*) from read_parquet(?, union_by_name = true, hive_partitioning = false)"
                " where batch > ? and batch <= ?",
                [files, after, until],
            ).fetchall()
        return int(count)

    def latest_call(self, now: datetime) -> tuple[datetime, datetime] | None:
        """When the latest call that counts at `now` happened, and when the one that came last came; None without any.

        Looks into the last two days with calls, and into the last batch: all of the day before counts.
        """
        until = now + timedelta(seconds=FUTURE_TOLERANCE_SECONDS)
        today = f"event_date={until.astimezone(UTC).date()}"
        folders = [folder for folder in self._batches.glob("[0-9]*/calls/event_date=*") if folder.name <= today]
        days = sorted({folder.name for folder in folders})[-2:]
        last_batch = max((int(folder.parts[-3]) for folder in folders), default=0)
        files = [
            literal(str(file))
            for folder in folders
            if folder.name in days or int(folder.parts[-3]) == last_batch
            for file in folder.iterdir()
        ]
        with self._connect() as connection:
            [found] = connection.execute(
                f"select max(event_at), max(ingested_at) from read_parquet([{', '.join(files)}]) where event_at <= ?",
                [until],
            ).fetchall()
        return found if found[0] else None

    def _next(self) -> tuple[int, int]:
        """The number of the next batch, and the generation of the quarantine."""
        last = max(self._batches.glob("[0-9]*"), key=lambda path: int(path.name))
        return int(last.name) + 1, Batch.from_json((last / "manifest.json").read_text()).generation

    def _commit(
        self,
        connection: duckdb.DuckDBPyConnection,
        batch: Batch,
        now: datetime,
        parsed: ParsedLines | None = None,
        again: Again = (),
    ) -> None:
        with self._committed(self._batches / f"{batch.number:06d}") as folder:
            counts = making.count(connection)
            making.write(connection, parsed, folder, batch.number, batch.generation, now, not batch.files, again)
            batch.accepted, batch.duplicates, batch.rejected = counts.accepted, counts.duplicates, counts.rejected
            batch.lines = batch.accepted + batch.duplicates + sum(batch.rejected.values())
            (folder / "manifest.json").write_text(batch.as_json())
        if self.bucket:
            self.bucket.add(batch.number)  # before the ledger takes its files for read: this disk may be lost

    def _write_kept_from(self, day: date) -> None:
        staged = self.root / f".{KEPT_FROM}"
        parquet.write(staged, {"kept_from": "date"}, [[(day,)]])
        parquet.sync(staged)
        staged.replace(self.root / KEPT_FROM)

    def _connect(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return in_memory.engine(self._staging / "spilled", MEMORY_LIMIT, THREADS)

    def accounts_copy(self, kind: AccountsFile) -> Copy:
        """The copy of a file of accounts that is in use, and what is held of the file."""
        return account_copies.load(self.root, kind)

    def write_accounts(self, kind: AccountsFile, source: Path | None, rejected_at: datetime) -> Taken:
        """Take a file of accounts, None being one that is not there, or hold it. Call inside `locked()`.

        :raises ValueError: it cannot be read, and the lake has never read one, so that nothing can stay in use.
        """
        return account_copies.take(self.root, kind, source, rejected_at)

    @contextmanager
    def _committed(self, folder: Path) -> Iterator[Path]:
        """A folder that is moved to its place when the block ends well, everything in it synced before."""
        staged = self._staging / folder.name
        staged.mkdir(parents=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield staged
        for path in [*staged.rglob("*"), staged]:
            parquet.sync(path)
        staged.rename(folder)
        parquet.sync(folder.parent)
