"""The landing files: which of them have something new, and their new lines, in pieces of bounded size.

Landing files are only ever read. Where they lie is in `sources.py`, what their bytes say in `content.py`, what a line
means in `event_sql.py`; which files were read before is remembered by the ledger and passed in.
"""

import errno
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from orchestration.lake import content, formats
from orchestration.lake.content import CHUNK_BYTES
from orchestration.lake.damage import LAST_ROW_WAITS
from orchestration.lake.dialects import BOM
from orchestration.lake.formats import UnknownFormatError
from orchestration.lake.odd_lines import mended
from orchestration.lake.sources import CHANGED, Skipped, Source, SourceFile, unreadable_now

MAX_LINE_BYTES = 8 * 2**20
"""Of a longer line only the beginning is kept, made unreadable, so that it lands in quarantine and not in memory."""
CUT_OFF = " … cut off: the line is too long".encode()
_BLANK = re.compile(rb"[ \t\r\f\v\n]*")
_BLANK_LINE = re.compile(rb"\n[ \t\r\f\v]*\n")  # an alternative for the first line would make it 30 times slower


@dataclass(frozen=True)
class LandedFile:
    """What is remembered of one landing file: how much of which content has been read."""

    path: str
    """As in `Found`."""
    stored_bytes: int
    mtime_ns: int
    inode: int
    size_bytes: int
    """Of the content: inflated, where it is compressed."""
    sha256: str
    """Of the content, so that a log that was compressed meanwhile is known again; of CSV and Parquet as stored."""
    origin: str
    """Names the content for events without an id: path and hash when first read. An appended file keeps it."""
    read_bytes: int = 0
    """Offset in the content behind the last line break that was read."""
    read_lines: int = 0
    """Lines before that offset."""
    is_complete: bool = False
    copy_of: str | None = None
    """Path of an earlier file with the same content: nothing of this one was read."""
    damage: str | None = None
    """What is wrong behind `size_bytes`; null where the content is whole."""
    format: str | None = None
    """What its bytes are, as `formats.py` found out; null: it was read when names decided that."""
    rows_sha256: str | None = None
    """Of the lines that were read of a row file, so that it is read on where a repaired one goes on from them."""

    @property
    def is_refused(self) -> bool:
        """Whether nothing was read because its bytes are of no known format; `damage` says so."""
        return (self.format or "").startswith("refused")

    @property
    def found(self) -> SourceFile:
        return SourceFile(self.path, self.stored_bytes, self.mtime_ns, self.inode)

    def is_in_place(self, file: SourceFile | None) -> bool:
        """Whether `file`, which is at its path now, is this file, perhaps grown."""
        return file is not None and file.stored_bytes >= self.stored_bytes and file.inode == self.inode


@dataclass(frozen=True)
class Piece:
    """Some lines in a row, none of them blank, each with its line break."""

    first_line: int
    count: int
    lines: bytes


def plan(
    source: Source, found: Iterable[SourceFile], known: Mapping[str, LandedFile]
) -> Iterator[LandedFile | Skipped]:
    """The files of a scan with something to read or to remember, each looked at when its turn comes.

    A file that grew, under its name or a new one, is read on from where it was; one whose beginning changed is a
    new content; one with the content of another known file is a copy, complete from the start. While the first
    of two equal files is not read to its end, the second one is left for a later plan.
    """
    there = {file.path: file for file in found}
    refused = {path: file for path, file in known.items() if file.is_refused}
    known = {path: file for path, file in known.items() if not file.is_refused}
    contents: dict[str, LandedFile] = {}
    for known_file in sorted(known.values(), key=lambda each: (each.is_complete, each.copy_of is None)):
        contents[known_file.sha256] = known_file
    in_place = [each for each in known.values() if each.is_in_place(there.get(each.path))]
    owners = {each.origin: each.path for each in sorted(in_place, key=lambda each: each.read_lines) if not each.damage}
    # A file that is not where it was may have been renamed (its inode is), compressed, or copied and then emptied.
    moved = [each for each in known.values() if not each.is_in_place(there.get(each.path))]
    by_inode = {each.inode: each for each in moved}
    emptied = [each for each in moved if each.path in there and there[each.path].stored_bytes < each.stored_bytes]
    damaged = [each for each in known.values() if each.damage]
    planned: set[str] = set()
    # Names that stand for another file by now come last: what is known of the file that had them is still needed.
    moved_paths = {each.path for each in moved}
    for path, file in sorted(there.items(), key=lambda item: item[0] in moved_paths):
        if file.stored_bytes == 0:
            continue
        before = known.get(path)
        if before and before.found == file:
            if not before.is_complete:
                yield before
            continue
        former_refusal = refused.get(path)
        if former_refusal and former_refusal.format == formats.REFUSED and former_refusal.found == file:
            yield Skipped(path, former_refusal.damage or "")
            continue
        earlier = [each for each in (before, by_inode.get(file.inode), *emptied, *damaged) if each]
        earlier += [each for each in moved if path.startswith(each.path)]  # a log that was compressed
        try:
            seen, beginnings = _examined(source, file, {each.size_bytes for each in earlier})
        except UnknownFormatError as error:
            # one that grows is examined each time, which is cheaper than a batch to remember it
            is_same = former_refusal and former_refusal.format == formats.REFUSED
            if not before and not (is_same and former_refusal and former_refusal.inode == file.inode):
                yield _refused(file, str(error))
            yield Skipped(path, str(error))
            continue
        except OSError as error:
            yield unreadable_now(path, error)
            continue
        twin = contents.get(seen.sha256)
        if before and before.sha256 == seen.sha256:
            planned.add(seen.sha256)  # touched or moved back: the same content in the same place
            damage = before.damage if formats.is_by_row(seen.format or "") else seen.damage
            is_complete = before.is_complete and damage in (None, before.damage)
            yield replace(
                seen,
                origin=before.origin,
                read_bytes=before.read_bytes,
                read_lines=before.read_lines,
                is_complete=is_complete,
                copy_of=before.copy_of,
                damage=damage,
                format=_format_of(seen.format, before),
            )
            continue
        if seen.sha256 in planned or (twin and not twin.is_complete and twin.is_in_place(there.get(twin.path))):
            continue
        planned.add(seen.sha256)
        former = twin or next((each for each in earlier if beginnings.get(each.size_bytes) == each.sha256), None)
        if former:
            is_copy = former is twin and twin.is_complete
            seen = replace(
                seen,
                # Two files that go on from one content have different lines with the same numbers.
                origin=former.origin if owners.setdefault(former.origin, path) == path else seen.origin,
                read_bytes=former.read_bytes,
                read_lines=former.read_lines,
                is_complete=is_copy,
                copy_of=former.path if is_copy else None,
                format=_format_of(seen.format, former),
            )
        yield seen


def read(source: Source, file: LandedFile, limit_bytes: int) -> Iterator[tuple[LandedFile, list[Piece]]]:
    """The lines behind `file.read_bytes`, about `limit_bytes` of them, with the state after each chunk.

    Stops at the size that was planned, so that a file that grows meanwhile is read on next time.

    :raises OSError: it cannot be read, or is another or a shorter file by now.
    """
    if file.damage == LAST_ROW_WAITS and not source.is_ended(file.found):
        raise OSError(errno.EAGAIN, LAST_ROW_WAITS)
    file = replace(file, damage=None if file.damage == LAST_ROW_WAITS else file.damage)
    left, file_format = limit_bytes, file.format or formats.by_name(file.path)
    # of a row file the size of the content is not known before
    end = None if formats.is_by_row(file_format) else file.size_bytes
    position = file.read_bytes
    start: list[bytes] = []  # of a line whose end was not seen yet
    start_bytes = 0
    with (
        content.opened_stored(source, file.found, position)
        if formats.is_plain(file_format)
        else content.opened(source, file.found, file_format) as stream
    ):
        if not formats.is_plain(file_format):
            stream.skip_lines(file.read_lines)
        while (end is None or position < end) and (left > 0 or start_bytes):
            chunk = stream.read(CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - position))
            if not chunk:
                if end is None:
                    break
                raise OSError(errno.ESTALE, CHANGED)
            position += len(chunk)
            left -= len(chunk)
            behind = chunk.rfind(b"\n") + 1
            if not behind:
                if start_bytes <= MAX_LINE_BYTES:
                    start.append(chunk)
                start_bytes += len(chunk)
                continue
            first = chunk.index(b"\n") + 1
            whole = b"".join(start) + chunk[:behind]
            if start_bytes + first - 1 > MAX_LINE_BYTES:
                whole = b"".join((*start, chunk[: first - 1]))[:MAX_LINE_BYTES] + CUT_OFF + chunk[first - 1 : behind]
            first_line = file.read_lines + 1
            count = whole.count(b"\n")
            start, start_bytes = [chunk[behind:]], len(chunk) - behind
            file = replace(file, read_bytes=position - start_bytes, read_lines=file.read_lines + count)
            yield file, _pieces(first_line, count, whole)
            if left <= 0:
                break
        is_at_end = position >= end if end is not None else not stream.read(1)
        if end is None:
            file = replace(file, damage=stream.damage)
    if is_at_end:
        # A last line without a line break counts now and is read again if it grows.
        last = b"".join(start)
        if len(last) > MAX_LINE_BYTES:
            last = last[:MAX_LINE_BYTES] + CUT_OFF
        yield (
            replace(file, is_complete=file.damage != LAST_ROW_WAITS),
            _pieces(file.read_lines + 1, 1, last + b"\n") if last else [],
        )


def _pieces(first_line: int, count: int, lines: bytes) -> list[Piece]:
    """The lines, `count` of them, without the blank ones, in as few pieces as that takes."""
    if first_line == 1:
        lines = lines.removeprefix(BOM)
    if not lines.strip(b" \t\r\f\v\n"):
        return []
    lines = mended(lines)
    pieces: list[Piece] = []
    begin, number = 0, first_line
    while True:
        found = _BLANK.match(lines, begin)
        behind = lines.rfind(b"\n", begin, found.end()) + 1 if found else 0
        if behind > begin:
            number += lines.count(b"\n", begin, behind)
            begin = behind
        if begin >= len(lines):
            return pieces
        blank_line = _BLANK_LINE.search(lines, begin)
        end = blank_line.start() + 1 if blank_line else len(lines)
        run = lines[begin:end] if begin or end < len(lines) else lines
        in_run = count if not pieces and end == len(lines) and not begin else run.count(b"\n")
        pieces.append(Piece(number, in_run, run))
        begin, number = end, number + in_run


def _examined(source: Source, file: SourceFile, sizes: Iterable[int]) -> tuple[LandedFile, dict[int, str]]:
    """The file as a new one, and the hashes of its beginnings of the given sizes.

    :raises OSError, UnknownFormatError: as `content.identified`.
    """
    whole, beginnings, position = hashlib.sha256(), {}, 0
    marks = sorted(sizes, reverse=True)
    # whether rows can be read to the end shows when they are read
    with content.identified(source, file) as stream:
        while True:
            while marks and marks[-1] <= position:
                beginnings[marks.pop()] = whole.hexdigest()
            chunk = stream.read(CHUNK_BYTES if not marks else min(CHUNK_BYTES, marks[-1] - position))
            if not chunk:
                break
            whole.update(chunk)
            position += len(chunk)
    sha256 = whole.hexdigest()
    return (
        LandedFile(
            path=file.path,
            stored_bytes=file.stored_bytes,
            mtime_ns=file.mtime_ns,
            inode=file.inode,
            size_bytes=position,
            sha256=sha256,
            origin=f"{file.path}#{sha256[:16]}",
            damage=stream.damage,
            format=stream.format,
        ),
        beginnings,
    )


def _refused(file: SourceFile, reason: str) -> LandedFile:
    """What is remembered of a file without events, so that it is not opened again."""
    return LandedFile(
        path=file.path,
        stored_bytes=file.stored_bytes,
        mtime_ns=file.mtime_ns,
        inode=file.inode,
        size_bytes=0,
        sha256="",
        origin=file.path,
        is_complete=True,
        damage=reason,
        format=formats.REFUSED,
    )


def _format_of(found: str | None, former: LandedFile) -> str | None:
    """Of a content that goes on from a known one: it is read as before, whatever its beginning looks like by now."""
    before = former.format or formats.by_name(former.path)
    return before if {found, before} == {"ndjson", "json"} else found
