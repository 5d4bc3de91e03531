"""The lake: every accepted usage event once, as Parquet by event date, and every refused line with its reason.

A batch is one folder, `batches/000001/`, with `events/event_date=…/*.parquet`, `rejected.parquet` and
`manifest.json` (which bytes of which landing files it holds). It is written elsewhere, synced, and moved in: a
batch is there as a whole or not at all, so a kill at any moment leaves nothing half counted. Batches are
immutable; the warehouse can be rebuilt from them alone, and landing files may be deleted once read.

The rules are in `usage/events.py`, the SQL that applies them to whole batches in `storage/parsing.py`.
"""

import csv
import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import duckdb
import pyarrow as pa
from filelock import FileLock

from orchestration.storage import landing
from orchestration.storage.landing import LandedFile, Skipped
from orchestration.storage.parsing import PARSE_LINES
from orchestration.usage.events import Rejection

BATCH_BYTES = 256 * 2**20
"""Landing bytes in one batch: 1M typical events. Bounds memory for any backlog."""
MEMORY_LIMIT = "700MB"
THREADS = 2
"""Each needs memory of its own to parse: with 4, twenty lines of 5 MB went beyond the limit."""

EVENT_COLUMNS = {
    "source": "varchar",
    "event_id": "varchar",
    "event_name": "varchar",
    "account_id": "varchar",
    "event_at": "timestamptz",
    "ingested_at": "timestamptz",
    "quota": "bigint",
    "endpoint": "varchar",
    "status": "integer",
    "properties": "varchar",
    "landed_file": "varchar",
    "line_number": "bigint",
}
REJECTED_COLUMNS = {
    "landed_file": "varchar",
    "line_number": "bigint",
    "reason": "varchar",
    "line": "varchar",
    "rejected_at": "timestamptz",
}
ACCOUNT_COLUMNS = {
    "account_id": "varchar",
    "name": "varchar",
    "owner": "varchar",
    "plan": "varchar",
    "mrr": "decimal(18,2)",
    "stripe_customer_id": "varchar",
}


@dataclass
class Batch:
    """One committed batch: its manifest."""

    number: int
    ingested_at: str
    files: list[LandedFile] = field(default_factory=list)
    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> "Batch":
        content = json.loads(text)
        return cls(**{**content, "files": [LandedFile(**file) for file in content["files"]]})


class Lake:
    """The folder of batches. Reading needs no lock; ingesting takes one, which dies with its process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._batches = root / "batches"
        self._staging = root / ".staging"
        """What is not committed yet. Not among the batches: DuckDB's globs match hidden folders too."""
        self._scan: tuple[list[tuple[str, os.stat_result]], list[Skipped]] | None = None

    def create(self) -> None:
        """Make an empty lake that can be queried: its files then always match the globs of the dbt sources."""
        empty = self._batches / "000000"
        if empty.exists():
            return
        self.write_accounts(None, rejected_at=None)
        with self._committed(empty) as folder, duckdb.connect() as connection:
            (folder / "events" / "event_date=1970-01-01").mkdir(parents=True)
            for columns, name in (
                (EVENT_COLUMNS, "events/event_date=1970-01-01/empty.parquet"),
                (REJECTED_COLUMNS, "rejected.parquet"),
            ):
                _copy(connection, f"select {_nulls(columns)} where false", folder / name)
            (folder / "manifest.json").write_text(json.dumps(asdict(Batch(0, ""))))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Waits for other writers; a killed writer's lock is free at once."""
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock"):
            if self._staging.exists():
                shutil.rmtree(self._staging)
            self.create()
            self._scan = None
            yield

    def batches(self, after: int = 0) -> list[Batch]:
        """The committed batches with a number above `after`, oldest first."""
        names = sorted((path.name for path in self._batches.glob("[0-9]*") if int(path.name) > after), key=int)
        return [Batch.from_json((self._batches / name / "manifest.json").read_text()) for name in names]

    def ingest(
        self, folder: Path, known: Mapping[str, LandedFile], now: datetime, batch_bytes: int = BATCH_BYTES
    ) -> tuple[Batch | None, list[Skipped]]:
        """Commit the next batch of what landed in `folder` since `known`; None where nothing new is there.

        Call inside `writing()`, and again until it returns None: only then is the list of what was skipped whole.
        The folder is looked at in the first call, so that a file that never stops growing does not hold the others.
        """
        if self._scan is None:
            self._scan = landing.scan(folder)
        found, skipped = self._scan
        reader = _LineReader(folder, landing.plan(folder, found, known), batch_bytes)
        with self._connect() as connection:
            connection.register("lines", reader.arrow())
            connection.execute(PARSE_LINES, {"ingested_at": now})
            connection.unregister("lines")
            if not reader.files:
                return None, skipped + reader.skipped
            number = max(int(path.name) for path in self._batches.glob("[0-9]*")) + 1
            batch = Batch(number, now.isoformat(), list(reader.files.values()))
            with self._committed(self._batches / f"{number:06d}") as staging:
                self._write_events(connection, staging, batch)
                (staging / "manifest.json").write_text(json.dumps(asdict(batch)))
        return batch, skipped + reader.skipped

    def _connect(self) -> duckdb.DuckDBPyConnection:
        spilled = self._staging / "spilled"
        connection = duckdb.connect(
            config={"memory_limit": MEMORY_LIMIT, "threads": THREADS, "temp_directory": str(spilled)}
        )
        connection.execute("set TimeZone = 'UTC'")  # read as TIMESTAMP, an offset would be dropped silently
        return connection

    def _write_events(self, connection: duckdb.DuckDBPyConnection, staging: Path, batch: Batch) -> None:
        files = Path(glob.escape(str(self._batches))) / "*/events/*/*.parquet"
        stored = f"read_parquet('{_quoted(files)}', hive_partitioning = false)"
        # An event is known by (source, event_id), whenever it came and whatever else it says: the first one stays.
        connection.execute(f"""
            create temp table duplicate as
            select seq from parsed where reason is null and (source, event_id) in (
                select (source, event_id) from {stored}
                where (source, event_id) in (select (source, event_id) from parsed where reason is null)
            )
            union
            select unnest(list(seq order by seq)[2:]) from parsed where reason is null
            group by source, event_id having count(*) > 1
        """)
        accepted = "parsed where reason is null and seq not in (from duplicate)"
        (staging / "events").mkdir()
        connection.execute(f"""
            copy (select {", ".join(EVENT_COLUMNS)}, cast(event_at as date) as event_date from {accepted})
            to '{_quoted(staging)}/events' (format parquet, compression zstd, partition_by (event_date))
        """)
        _copy(
            connection,
            # not ordered: sorting keeps all lines in memory, and a batch may be 256 MiB of one refused kind
            """select landed_file, line_number, reason, raw as line, ingested_at as rejected_at
               from parsed where reason is not null""",
            staging / "rejected.parquet",
        )
        counts = connection.execute(
            "select reason, count(*) from parsed group by reason order by reason nulls first"
        ).fetchall()
        batch.rejected = {reason: count for reason, count in counts if reason}
        batch.lines = sum(count for _, count in counts)
        [[batch.duplicates]] = connection.execute("select count(*) from duplicate").fetchall()
        batch.accepted = batch.lines - batch.duplicates - sum(batch.rejected.values())

    def write_accounts(self, source: Path | None, rejected_at: datetime | None) -> tuple[int, int]:
        """Replace the lake's copy of the accounts file; (accepted, rejected) rows.

        :raises ValueError: the file has no header with `account_id`, or is no UTF-8 text.
        """
        rows, rejected = _read_accounts(source) if source else ([], [])
        with duckdb.connect() as connection:
            for name, columns, content in (
                ("accounts.parquet", ACCOUNT_COLUMNS, rows),
                ("accounts_rejected.parquet", REJECTED_COLUMNS, [(*row, rejected_at) for row in rejected]),
            ):
                table = pa.table({column: [row[i] for row in content] for i, column in enumerate(columns)})
                connection.register("content", table)
                typed = ", ".join(f"cast({column} as {kind}) as {column}" for column, kind in columns.items())
                _copy(connection, f"select {typed} from content", self.root / f".{name}")
                _sync(self.root / f".{name}")
                (self.root / f".{name}").replace(self.root / name)
        return len(rows), len(rejected)

    @contextmanager
    def _committed(self, folder: Path) -> Iterator[Path]:
        """A folder that is moved to its place when the block ends well, everything in it synced before."""
        staged = self._staging / folder.name
        staged.mkdir(parents=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield staged
        for path in [*staged.rglob("*"), staged]:
            _sync(path)
        staged.rename(folder)
        _sync(folder.parent)


class _LineReader:
    """Lines of the planned files as an Arrow stream, at most `limit` bytes of them; remembers how far it came."""

    SCHEMA = pa.schema(
        [
            ("seq", pa.int64()),
            ("landed_file", pa.string()),
            ("origin", pa.string()),
            ("line_number", pa.int64()),
            ("raw", pa.string()),
            ("is_utf8", pa.bool_()),
        ]
    )

    def __init__(self, folder: Path, plan: Iterator[LandedFile | Skipped], limit: int) -> None:
        self.folder, self.plan, self.limit = folder, plan, limit
        self.files: dict[str, LandedFile] = {}
        self.skipped: list[Skipped] = []

    def arrow(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.SCHEMA, self._pieces())

    def _pieces(self) -> Iterator[pa.RecordBatch]:
        seq, left = 0, self.limit
        for file in self.plan:
            if isinstance(file, Skipped):
                self.skipped.append(file)
                continue
            if file.is_complete:
                self.files[file.path] = file
                continue
            first_line = file.read_lines + 1
            try:
                for state, lines in landing.read_lines(self.folder, file, left):
                    yield self._piece(file, seq, first_line, lines)
                    self.files[file.path] = state
                    seq, first_line = seq + len(lines), first_line + len(lines)
                    left -= sum(map(len, lines)) + len(lines)
            except OSError as error:
                self.skipped.append(Skipped(file.path, f"cannot be read: {error.strerror}"))
            if left <= 0:
                break

    def _piece(self, file: LandedFile, seq: int, first_line: int, lines: list[bytes]) -> pa.RecordBatch:
        if first_line == 1 and lines:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        # Stripped here, a hundred times cheaper than by DuckDB. Blank lines go here too: behind a filter DuckDB
        # gathers small pieces to vectors of 2,048 rows, more than its memory holds where lines have a megabyte.
        numbers, lines = _not_blank(first_line, [line.strip() for line in lines])
        count = len(lines)
        try:
            raw = pa.array(lines, pa.binary()).cast(pa.string())
            is_utf8 = pa.repeat(True, count)
        except pa.ArrowInvalid:
            raw = pa.array([line.decode("utf-8", "backslashreplace") for line in lines], pa.string())
            is_utf8 = pa.array([_is_utf8(line) for line in lines], pa.bool_())
        return pa.record_batch(
            [
                pa.array(range(seq, seq + count), pa.int64()),
                pa.repeat(file.path, count),
                pa.repeat(file.origin, count),
                pa.array(numbers, pa.int64()),
                raw,
                is_utf8,
            ],
            schema=self.SCHEMA,
        )


def _not_blank(first_line: int, lines: list[bytes]) -> tuple[Sequence[int], list[bytes]]:
    numbers = range(first_line, first_line + len(lines))
    if all(lines):
        return numbers, lines
    return [number for number, line in zip(numbers, lines, strict=True) if line], [line for line in lines if line]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_accounts(
    path: Path,
) -> tuple[list[tuple[object, ...]], list[tuple[str, int, str, str]]]:
    rows: dict[str, tuple[object, ...]] = {}
    rejected: list[tuple[str, int, str, str]] = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        # strict: without it a quote that is never closed swallows the accounts behind it
        reader = csv.DictReader(stream, strict=True)
        try:
            if "account_id" not in (reader.fieldnames or []):
                raise ValueError(
                    f"{path}: the first line must name the columns, among them account_id"
                    f" (and {', '.join(list(ACCOUNT_COLUMNS)[1:])} where known); it names {reader.fieldnames or 'none'}"
                )
            for row in reader:
                account = row["account_id"] or ""
                try:
                    mrr = Decimal(row["mrr"]).quantize(Decimal("0.01")) if row.get("mrr") else None
                    has_more_fields_than_names = None in row
                    if not account or account in rows or has_more_fields_than_names or (mrr and abs(mrr) >= 10**15):
                        raise InvalidOperation
                except InvalidOperation:
                    line = json.dumps({key or "": value for key, value in row.items()})
                    rejected.append((path.name, reader.line_num, Rejection.INVALID_ROW, line))
                    continue
                text = [row.get(column) or None for column in ("name", "owner", "plan")]
                rows[account] = (account, *text, mrr, row.get("stripe_customer_id") or None)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text; export it as UTF-8") from error
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.reader.line_num}: {error}; look at its quotes") from error
    return list(rows.values()), rejected


def _copy(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    connection.execute(f"copy ({query}) to '{_quoted(target)}' (format parquet, compression zstd)")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _nulls(columns: Mapping[str, str]) -> str:
    return ", ".join(f"cast(null as {kind}) as {name}" for name, kind in columns.items())
