"""The new lines of a batch, one after the other in one file, and where each of them came from.

Inflated and without blank ones, so that DuckDB's JSON reader can take the file as it is. What is new in which file is
`landing.py`'s business, what the lines mean `event_sql.py`'s.
"""

import errno
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from orchestration.lake import landing
from orchestration.lake.formats import UnknownFormatError
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.landing import STEP_BYTES
from orchestration.lake.odd_lines import mended
from orchestration.lake.sources import CHANGED, Skipped, Source, unreadable_now

_FEW_LINES = 16
"""Of a block: then to look for each of them is faster than to split the block."""


@dataclass(frozen=True)
class LineRun:
    """Staged lines in a row that are lines in a row of one file."""

    first_seq: int
    file: LandedFile
    first_line: int


@dataclass(frozen=True)
class Block:
    """Staged lines that were written at once, and where they are."""

    first_seq: int
    count: int
    offset: int
    size_bytes: int
    steps: Sequence[int]
    """As in `Piece`."""


@dataclass
class BatchLines:
    """The new lines of a batch, one after the other in one file; line numbers of it, `seq`, start at 0."""

    path: Path
    parts: list[LineRun] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    lines: int = 0
    files: dict[str, LandedFile] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    damaged: list[LandedFile] = field(default_factory=list)
    """Files that this batch read up to where they are damaged."""
    unread_bytes: dict[str, int] = field(default_factory=dict)
    """Of these, as stored; only where it is known."""
    begun: list[LandedFile] = field(default_factory=list)
    """Files as they were when this batch began to read them."""

    def raw(self, wanted: Sequence[int] | None = None) -> pa.RecordBatchReader:
        """The lines with the numbers `wanted`, in ascending order, or all, for `JUDGE_LINES`."""
        return pa.RecordBatchReader.from_batches(_LINES, self._raw(wanted))

    def _raw(self, wanted: Sequence[int] | None) -> Iterator[pa.RecordBatch]:
        starts = [part.first_seq for part in self.parts]
        with self.path.open("rb") as stream:
            for block in self.blocks:
                first, behind = block.first_seq, block.first_seq + block.count
                picked: Sequence[int] = range(first, behind)
                if wanted is not None:
                    picked = wanted[bisect_left(wanted, first) : bisect_left(wanted, behind)]
                if picked:
                    stream.seek(block.offset)
                    lines = _picked(stream.read(block.size_bytes), [seq - first for seq in picked], block.steps)
                    # here, and not where lines are staged: DuckDB's reader vouches for no line that is mended
                    lines = mended(b"".join(line + b"\n" for line in lines)).removesuffix(b"\n").split(b"\n")
                    # nothing but a byte order mark is a blank line
                    found = [(seq, line.strip()) for seq, line in zip(picked, lines, strict=True) if line.strip()]
                    if found:
                        yield self._piece(found, starts)

    def _piece(self, lines: list[tuple[int, bytes]], starts: list[int]) -> pa.RecordBatch:
        parts = [self.parts[bisect_right(starts, seq) - 1] for seq, _ in lines]
        texts = [line for _, line in lines]
        try:
            raw = pa.array(texts, pa.binary()).cast(pa.string())
            undecoded = pa.nulls(len(texts), pa.string())
        except pa.ArrowInvalid:
            raw = pa.array([line.decode("utf-8", "replace") for line in texts], pa.string())
            undecoded = pa.array([_undecoded(line) for line in texts], pa.string())
        return pa.record_batch(
            [
                pa.array([seq for seq, _ in lines], pa.int64()),
                pa.repeat(pa.scalar(0, pa.int64()), len(texts)),
                raw,
                undecoded,
                pa.array([part.file.path for part in parts], pa.string()),
                pa.array([part.file.origin for part in parts], pa.string()),
                pa.array(
                    [part.first_line + seq - part.first_seq for (seq, _), part in zip(lines, parts, strict=True)],
                    pa.int64(),
                ),
                pa.nulls(len(texts), pa.timestamp("us", "UTC")),
            ],
            schema=_LINES,
        )


_LINES = pa.schema(
    [
        ("seq", pa.int64()),
        ("item", pa.int64()),
        ("raw", pa.string()),
        ("undecoded", pa.string()),
        ("landed_file", pa.string()),
        ("origin", pa.string()),
        ("line_number", pa.int64()),
        ("arrived_at", pa.timestamp("us", "UTC")),
    ]
)


def stage(source: Source, plan: Iterable[LandedFile | Skipped], path: Path, limit_bytes: int) -> BatchLines:
    """Copy about `limit_bytes` of new lines of the planned files to `path`."""
    staged, size_bytes = BatchLines(path), 0
    with path.open("wb", buffering=0) as stream:
        for entry in plan:
            if isinstance(entry, Skipped):
                staged.skipped.append(entry)
                continue
            if entry.is_complete:
                staged.files[entry.path] = entry
                continue
            before = len(staged.parts), len(staged.blocks), staged.lines, size_bytes
            problem: OSError | None = None
            try:
                reading = landing.read(source, entry, limit_bytes - size_bytes, staged.unread_bytes)
                for number, (state, pieces) in enumerate(reading):
                    if number == 0:
                        staged.begun.append(entry)
                    for piece in pieces:
                        staged.parts.append(LineRun(staged.lines, entry, piece.first_line))
                        staged.blocks.append(
                            Block(staged.lines, piece.count, size_bytes, len(piece.lines), piece.steps)
                        )
                        stream.write(piece.lines)
                        staged.lines += piece.count
                        size_bytes += len(piece.lines)
                    staged.files[entry.path] = state
            except OSError as error:
                problem = error
            if staged.lines > before[2] and not _is_as_planned(source, entry):
                # What was read is not what was hashed: it would be counted again as what it is by now.
                problem = problem or OSError(errno.ESTALE, CHANGED)
                parts, blocks, staged.lines, size_bytes = before
                del staged.parts[parts:], staged.blocks[blocks:]
                stream.truncate(size_bytes)
                stream.seek(size_bytes)
                staged.files.pop(entry.path, None)
            if problem:
                staged.skipped.append(unreadable_now(entry.path, problem))
            read = staged.files.get(entry.path)
            if read and read.is_complete and read.damage:
                staged.damaged.append(read)
            if size_bytes >= limit_bytes:
                break
    staged.parts = list(_merged(staged.parts))
    return staged


def _is_as_planned(source: Source, file: LandedFile) -> bool:
    try:
        return landing.is_as_planned(source, file)
    except (OSError, UnknownFormatError):
        return False


def _merged(parts: Iterable[LineRun]) -> Iterator[LineRun]:
    """The parts, those that go on where the one before ended put together with it."""
    last: LineRun | None = None
    for part in parts:
        if (
            last is None
            or part.file is not last.file
            or part.first_line - last.first_line != part.first_seq - last.first_seq
        ):
            last = part
            yield part


def _picked(block: bytes, wanted: Sequence[int], steps: Sequence[int]) -> list[bytes]:
    """The lines of a block with these positions, in ascending order. Where they are few, the others stay bytes."""
    if len(wanted) > _FEW_LINES:
        lines = block.split(b"\n")
        return [lines[position] for position in wanted]
    found: list[bytes] = []
    ended = list(accumulate(steps))
    for position in wanted:
        # a place in the block, and how many lines end before it
        step = bisect_left(ended, position) if ended else 0
        start, behind = step * STEP_BYTES, ended[step - 1] if step else 0
        while behind < position:
            start, behind = block.index(b"\n", start) + 1, behind + 1
        found.append(block[start : block.index(b"\n", start)])
    return found


def _undecoded(line: bytes) -> str | None:
    """A line that is not UTF-8, with its bytes readable; None is one that is."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace")
    return None
