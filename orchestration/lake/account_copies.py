"""The lake's copies of the files of accounts: what is in use, and what is held.

A copy is `NAME.parquet`, with `NAME_rejected.parquet` for what does not count of its file. What is known of the file
beside its rows (when it was read, which columns it had, what is held) is in the copy's own metadata: one rename
replaces both, so a kill at any moment leaves a copy that fits its note.

A file that is as it was at the last reading is not read again: only when it was read is noted, in the quarantine, which
is small. Its content decides, by a hash: size and time are the same when somebody writes twice within a clock's tick.

A file is held where it cannot be read, or where it lost so much that a person should say so first. The copy before
then stays in use. Who calls these holds the lake's lock. How a file is read is in `account_files.py`.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from orchestration.lake import account_files, cells, losses, sheet, typed_rows
from orchestration.lake.account_files import AccountsFile, Good, Reading
from orchestration.lake.batch import REFUSED_ROW_COLUMNS
from orchestration.lake.typed_rows import TypedRows
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

    good: Good
    columns: Sequence[str] = ()
    """Those of its file that are known."""
    unknown: Sequence[str] = ()
    ends_a_line: bool = False
    held: Held | None = None
    accepted: str = ""
    """Fingerprint of what a person said may be taken."""
    judged: str = ""
    """Which content was read last, and by which rules; empty where it could not be read."""
    is_settled: bool = False
    """Whether to read that again would change nothing but times."""

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
    _write(root, kind, Copy(Good(TypedRows(kind.columns))), TypedRows(REFUSED_ROW_COLUMNS))


def load(root: Path, kind: AccountsFile) -> Copy:
    """The copy in use; an empty one where there is none."""
    path = root / f"{kind.name}.parquet"
    if not path.exists():
        return Copy(Good(TypedRows(kind.columns)))
    rows = TypedRows(kind.columns, path)
    if note := _note_in(path):
        copy, seen = _from_note(rows, note), _note_in(_quarantine(root, kind))
        if seen.get("judged") != copy.judged:
            return replace(copy, judged="", is_settled=False)  # the quarantine is that of a reading that was killed
        return replace(copy, good=replace(copy.good, read_at=_moment(seen["read_at"])))
    # one of an earlier Headroom: it says nothing of its file
    had = [name for place, name in enumerate(kind.columns) if rows.column(place).null_count < len(rows)]
    return Copy(Good(rows, datetime.fromtimestamp(path.stat().st_mtime, UTC) if rows else None), had)


def take(root: Path, kind: AccountsFile, source: Path | None, now: datetime) -> Taken:
    """Read the file, None being one that is not there, and put it in use, or hold it.

    :raises ValueError: it cannot be read, and the lake has never read one, so that nothing can stay in use.
    """
    before = load(root, kind)
    if before.is_settled and before.judged == _now_judged(source):
        return _seen_again(root, kind, before, now)
    reading, after = judge(kind, before, source, now)
    if reading is None:
        refused = _refused(root, kind)
        assert after.held
        name, line = source.name if source else f"{kind.name}.csv", after.held.reason
        told = f"{line} {stays(kind, after)}"
        refused.append((name, 1, str(Rejection.HELD_FILE), "", after.held.since, None, None, told))
    else:
        name = source.name if source else ""
        refused = TypedRows(REFUSED_ROW_COLUMNS)
        for each in reading.refused:
            where = (name, each.line_number, str(each.reason), each.line)
            refused.append((*where, now, each.column, each.value, each.problem))
        if after.judged == before.judged and not after.is_settled:
            after = replace(after, is_settled=_is_same(before, after, _refused(root, kind), refused))
    _write(root, kind, after, refused)
    new = [name for name in after.unknown if name not in before.unknown]
    return Taken(after, len(refused), new)


def judge(kind: AccountsFile, before: Copy, source: Path | None, now: datetime) -> tuple[Reading | None, Copy]:
    """What counts of the file and the copy that it becomes; no reading where the copy before stays. Writes nothing.

    :raises ValueError: as `take`.
    """
    fingerprint, judged, is_accepted = ABSENT, "", False
    try:
        content = _bytes(source)
        found = sheet.Sheet((), (), (), ends_a_line=False)
        if content is not None:
            fingerprint = fingerprint_of(content)
        judged = _judged(source, fingerprint)
        if content is not None:
            found = sheet.read(str(source), content, kind.columns, kind.needed)
        is_accepted = fingerprint == before.accepted
        reading = kind.read(found, before.good, is_accepted)
    except ValueError as error:
        if before.good.read_at is None:
            raise
        return None, _holding(before, now, judged, f"{error}.", fingerprint, is_acceptable=False)
    if not is_accepted:
        if content is None and before.good.rows:
            return None, _holding(before, now, judged, "The file has disappeared.", fingerprint)
        if loss := losses.find_loss(kind, before, found, reading):
            return None, _holding(before, now, judged, loss, fingerprint)
    good = Good(reading.rows, now, reading.kept)
    return reading, Copy(
        good, found.columns, found.unknown, found.ends_a_line, judged=judged, is_settled=not reading.refused
    )


def count_rows(kind: AccountsFile, source: Path) -> int:
    """How many rows a file has that can be read as a table; 0 where it is not there."""
    content = _bytes(source)
    return 0 if content is None else sum(1 for _ in sheet.read(str(source), content, kind.columns, kind.needed).rows)


def accept(root: Path, kind: AccountsFile, fingerprint: str) -> None:
    """Have the next ingestion take a file of this content, whatever it lost."""
    _write(root, kind, replace(load(root, kind), accepted=fingerprint, is_settled=False), _refused(root, kind))


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


def _seen_again(root: Path, kind: AccountsFile, copy: Copy, now: datetime) -> Taken:
    """What the file that `copy` is settled of would give if it were read again."""
    path = _quarantine(root, kind)
    if not copy.held:
        at = list(REFUSED_ROW_COLUMNS).index("rejected_at")
        refused = TypedRows(REFUSED_ROW_COLUMNS)
        refused.extend((*row[:at], now, *row[at + 1 :]) for row in _refused(root, kind))
        copy = replace(copy, good=replace(copy.good, read_at=now))
        _replace(path, refused, _seen(copy))
    return Taken(copy, pq.read_metadata(path).num_rows)


def _is_same(before: Copy, after: Copy, *refused: TypedRows) -> bool:
    """Whether a second reading came to the same, its time apart: a third one would, too. The first one, of what cannot
    be read, may say that nothing good was known, and the second one what is kept since.
    """
    first, second = (rows.table().drop_columns(["rejected_at"]) for rows in refused)
    is_kept = (before.held, before.good.kept) == (None, after.good.kept)
    return bool(is_kept and first.equals(second) and before.good.rows.table().equals(after.good.rows.table()))


def _judged(source: Path | None, fingerprint: str) -> str:
    """Which content is judged, by which name and rules. Other code may judge it otherwise."""
    return hashlib.sha256(f"{_rules()} {source} {fingerprint}".encode()).hexdigest()


@cache
def _rules() -> str:
    code = [Path(str(module.__file__)).read_bytes() for module in (account_files, cells, losses, sheet, typed_rows)]
    return hashlib.sha256(b"".join([*code, Path(__file__).read_bytes()])).hexdigest()


def _now_judged(source: Path | None) -> str:
    """As `_judged`, of the file as it is; empty where it cannot be read."""
    try:
        with source.open("rb") if source else io.BytesIO() as content:
            return _judged(source, hashlib.file_digest(content, "sha256").hexdigest() if source else ABSENT)
    except FileNotFoundError:
        return _judged(source, ABSENT)
    except OSError:
        return ""


def _bytes(source: Path | None) -> bytes | None:
    try:
        return source.read_bytes() if source else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{source} cannot be read ({error.strerror})") from error


def _holding(
    before: Copy, now: datetime, judged: str, reason: str, fingerprint: str, *, is_acceptable: bool = True
) -> Copy:
    since = before.held.since if before.held else now
    held = Held(since, reason, fingerprint, is_acceptable)
    return replace(before, held=held, accepted="", judged=judged, is_settled=bool(judged))


def _quarantine(root: Path, kind: AccountsFile) -> Path:
    return root / f"{kind.name}_rejected.parquet"


def _refused(root: Path, kind: AccountsFile) -> TypedRows:
    """The quarantine of the copy in use."""
    refused, path = TypedRows(REFUSED_ROW_COLUMNS), _quarantine(root, kind)
    reason = list(REFUSED_ROW_COLUMNS).index("reason")
    if path.exists():
        refused.extend(row for row in TypedRows(REFUSED_ROW_COLUMNS, path) if row[reason] != Rejection.HELD_FILE)
    return refused


def _write(root: Path, kind: AccountsFile, copy: Copy, refused: TypedRows) -> None:
    """The quarantine first: nothing counts, or stays, whose reason cannot be looked up."""
    _replace(_quarantine(root, kind), refused, _seen(copy))
    _replace(root / f"{kind.name}.parquet", copy.good.rows, _note(copy))


def _replace(path: Path, rows: TypedRows, note: Mapping[str, Any]) -> None:
    staged = path.with_name(f".{path.name}")
    table = rows.table().replace_schema_metadata({NOTE: json.dumps(note)})
    pq.write_table(table, staged, compression="zstd")
    _sync(staged)
    staged.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _note_in(path: Path) -> dict[str, Any]:
    note = (pq.read_schema(path).metadata or {}).get(NOTE.encode()) if path.exists() else None
    found: dict[str, Any] = json.loads(note) if note else {}
    return found


def _seen(copy: Copy) -> dict[str, Any]:
    """What the quarantine says of the copy: it is written again whenever the same file is found."""
    return {"judged": copy.judged, "read_at": copy.good.read_at.isoformat() if copy.good.read_at else None}


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
        "judged": copy.judged,
        "is_settled": copy.is_settled,
    }


def _from_note(rows: TypedRows, note: Mapping[str, Any]) -> Copy:
    kept: Iterable[tuple[str, Mapping[str, str]]] = note["kept"].items()
    good = Good(
        rows,
        _moment(note["read_at"]),
        {key: {name: datetime.fromisoformat(at) for name, at in columns.items()} for key, columns in kept},
    )
    held = note["held"]
    if held:
        held = Held(**{**held, "since": datetime.fromisoformat(held["since"])})
    settled = (note.get("judged", ""), note.get("is_settled", False))  # a Headroom of before did not say
    return Copy(good, note["columns"], note["unknown"], note["ends_a_line"], held, note["accepted"], *settled)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
