"""The lake's copies of the files of accounts: what is in use, and what is held.

A copy is `NAME.parquet`, with `NAME_rejected.parquet` for what does not count of its file. What is known of the file
beside its rows (when it was read, which columns it had, what is held) is in the copy's own metadata: one rename
replaces both, so a kill at any moment leaves a copy that fits its note.

A file is held where it cannot be read, or where it lost so much that a person should say so first. The copy before
then stays in use. Who calls these holds the lake's lock. How a file is read is in `account_files.py`.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from orchestration.lake import parquet, sheet
from orchestration.lake.account_files import AccountsFile, Good, Reading, Values
from orchestration.lake.batch import REFUSED_ROW_COLUMNS
from orchestration.lake.losses import find_loss
from orchestration.usage.events import Rejection

NOTE = "headroom"
ABSENT = "absent"
"""In place of the fingerprint of a file that is not there."""


@dataclass(frozen=True)
class Held:
    """Why a file is not in use."""

    since: datetime
    reason: str
    fingerprint: str
    is_acceptable: bool
    """Whether a person can have it taken all the same: it is a table, only smaller."""


@dataclass(frozen=True)
class Copy:
    """What is in use."""

    good: Good = field(default_factory=Good)
    columns: Sequence[str] = ()
    """Those of its file that are known."""
    unknown: Sequence[str] = ()
    ends_a_line: bool = False
    held: Held | None = None
    accepted: str = ""
    """Fingerprint of what a person said may be taken."""

    @property
    def kept_since(self) -> datetime | None:
        """When the oldest value was read that is in use although the file says something else."""
        return min((at for columns in self.good.kept.values() for at in columns.values()), default=None)


@dataclass(frozen=True)
class Taken:
    """What became of a file."""

    copy: Copy
    rejected: int
    new_unknown: Sequence[str] = ()
    """Columns that nothing is known of, and that the copy before did not have either."""

    @property
    def accepted(self) -> int:
        return len(self.copy.good.rows)


def create(root: Path, kind: AccountsFile) -> None:
    """A copy without rows of a file that nobody has read yet."""
    _write(root, kind, Copy(), [])


def load(root: Path, kind: AccountsFile) -> Copy:
    """The copy in use; an empty one where there is none."""
    path = root / f"{kind.name}.parquet"
    if not path.exists():
        return Copy()
    table = pq.read_table(path)
    columns = [table[name].to_pylist() if name in table.schema.names else [None] * len(table) for name in kind.columns]
    rows = list(zip(*columns, strict=True))
    note = (table.schema.metadata or {}).get(NOTE.encode())
    if note is not None:
        return _from_note(rows, json.loads(note))
    # one of an earlier Headroom: it says nothing of its file
    had = [name for name, column in zip(kind.columns, columns, strict=True) if any(cell is not None for cell in column)]
    return Copy(Good(rows, datetime.fromtimestamp(path.stat().st_mtime, UTC) if rows else None), had)


def take(root: Path, kind: AccountsFile, source: Path | None, now: datetime) -> Taken:
    """Read the file, None being one that is not there, and put it in use, or hold it.

    :raises ValueError: it cannot be read, and the lake has never read one, so that nothing can stay in use.
    """
    before = load(root, kind)
    reading, after = judge(kind, before, source, now)
    if reading is None:
        refused = _refused(root, kind)
        assert after.held
        name, line = source.name if source else f"{kind.name}.csv", after.held.reason
        told = f"{line} {stays(kind, after)}"
        refused.append((name, 1, str(Rejection.HELD_FILE), "", after.held.since, None, None, told))
    else:
        name = source.name if source else ""
        refused = [
            (name, each.line_number, str(each.reason), each.line, now, each.column, each.value, each.problem)
            for each in reading.refused
        ]
    _write(root, kind, after, refused)
    new = [name for name in after.unknown if name not in before.unknown]
    return Taken(after, len(refused), new)


def judge(kind: AccountsFile, before: Copy, source: Path | None, now: datetime) -> tuple[Reading | None, Copy]:
    """What counts of the file and the copy that it becomes; no reading where the copy before stays. Writes nothing.

    :raises ValueError: as `take`.
    """
    fingerprint, is_accepted = ABSENT, False
    try:
        content = _bytes(source)
        found = sheet.Sheet((), (), (), ends_a_line=False)
        if content is not None:
            fingerprint = fingerprint_of(content)
            found = sheet.read(str(source), content, kind.columns, kind.needed)
        is_accepted = fingerprint == before.accepted
        reading = kind.read(found, before.good, is_accepted)
    except ValueError as error:
        if before.good.read_at is None:
            raise
        return None, _holding(before, now, f"{error}.", fingerprint, is_acceptable=False)
    if not is_accepted:
        if content is None and before.good.rows:
            return None, _holding(before, now, "The file has disappeared.", fingerprint)
        if loss := find_loss(kind, before, found, reading):
            return None, _holding(before, now, loss, fingerprint)
    good = Good(reading.rows, now, reading.kept)
    return reading, Copy(good, found.columns, found.unknown, found.ends_a_line)


def count_rows(kind: AccountsFile, source: Path) -> int:
    """How many rows a file has that can be read as a table; 0 where it is not there."""
    content = _bytes(source)
    return 0 if content is None else len(sheet.read(str(source), content, kind.columns, kind.needed).rows)


def accept(root: Path, kind: AccountsFile, fingerprint: str) -> None:
    """Have the next ingestion take a file of this content, whatever it lost."""
    _write(root, kind, replace(load(root, kind), accepted=fingerprint), _refused(root, kind))


def fingerprint_of(content: bytes) -> str:
    """What an acceptance is of."""
    return hashlib.sha256(content).hexdigest()


def stays(kind: AccountsFile, copy: Copy) -> str:
    """What is in use in place of a file that is held, and what to do. For people."""
    assert copy.held
    good = copy.good
    rows = f"{len(good.rows):,} row{'s' * (len(good.rows) != 1)}"
    at = f"{good.read_at:%Y-%m-%d %H:%M} UTC" if good.read_at else "before"
    do = "Repair the file"
    if copy.held.is_acceptable:
        do += f", or take it as it is: `headroom lake accept {kind.name}`"
    return f"Headroom goes on with the {rows} that it read {at}. {do}."


def _bytes(source: Path | None) -> bytes | None:
    try:
        return source.read_bytes() if source else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{source} cannot be read ({error.strerror})") from error


def _holding(before: Copy, now: datetime, reason: str, fingerprint: str, *, is_acceptable: bool = True) -> Copy:
    since = before.held.since if before.held else now
    return replace(before, held=Held(since, reason, fingerprint, is_acceptable), accepted="")


def _refused(root: Path, kind: AccountsFile) -> list[Values]:
    """The quarantine of the copy in use."""
    path = root / f"{kind.name}_rejected.parquet"
    if not path.exists():
        return []
    names = pq.read_schema(path).names
    rows = pq.read_table(path).to_pylist()
    return [
        tuple(row[name] if name in names else None for name in REFUSED_ROW_COLUMNS)
        for row in rows
        if row["reason"] != Rejection.HELD_FILE
    ]


def _write(root: Path, kind: AccountsFile, copy: Copy, refused: Sequence[Values]) -> None:
    """The quarantine first: nothing counts, or stays, whose reason cannot be looked up."""
    for name, columns, rows, note in (
        (f"{kind.name}_rejected.parquet", REFUSED_ROW_COLUMNS, refused, None),
        (f"{kind.name}.parquet", kind.columns, copy.good.rows, {NOTE: json.dumps(_note(copy))}),
    ):
        staged = root / f".{name}"
        parquet.write(staged, columns, [rows], note)
        _sync(staged)
        staged.replace(root / name)


def _sync(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _note(copy: Copy) -> dict[str, Any]:
    good, held = copy.good, copy.held
    return {
        "read_at": good.read_at.isoformat() if good.read_at else None,
        "kept": {key: {name: at.isoformat() for name, at in columns.items()} for key, columns in good.kept.items()},
        "columns": list(copy.columns),
        "unknown": list(copy.unknown),
        "ends_a_line": copy.ends_a_line,
        "held": {**vars(held), "since": held.since.isoformat()} if held else None,
        "accepted": copy.accepted,
    }


def _from_note(rows: Sequence[Values], note: Mapping[str, Any]) -> Copy:
    kept: Iterable[tuple[str, Mapping[str, str]]] = note["kept"].items()
    good = Good(
        rows,
        datetime.fromisoformat(note["read_at"]) if note["read_at"] else None,
        {key: {name: datetime.fromisoformat(at) for name, at in columns.items()} for key, columns in kept},
    )
    held = note["held"]
    if held:
        held = Held(**{**held, "since": datetime.fromisoformat(held["since"])})
    return Copy(good, note["columns"], note["unknown"], note["ends_a_line"], held, note["accepted"])
