"""The landing files: which of them have something new, and their new lines, in pieces of bounded size.

Landing files are only read here; `landing_removal.py` removes them. Where they lie is in `sources.py`, what their bytes
say in `content.py`, what a line means in `event_sql.py`; which files were read before is remembered by the ledger and
passed in.
"""

import errno
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from orchestration.lake import content, formats, remembered, rows
from orchestration.lake.content import CHUNK_BYTES
from orchestration.lake.damage import LAST_ROW_WAITS
from orchestration.lake.formats import UnknownFormatError
from orchestration.lake.identity import COPY_BYTES
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.lookup import HEAD_BYTES, Lookup, heads_of
from orchestration.lake.remembered import Known
from orchestration.lake.sources import CHANGED, Skipped, Source, SourceFile, unreadable_now

MAX_LINE_BYTES = 8 * 2**20
"""Of a longer line only the beginning is kept, made unreadable, so that it lands in quarantine and not in memory."""
STEP_BYTES = 2**14
CUT_OFF = " … cut off: the line is too long".encode()
_BLANK = re.compile(rb"[ \t\r\f\v\n]*")
_BLANK_LINE = re.compile(rb"\n[ \t\r\f\v]*\n")  # an alternative for the first line would make it 30 times slower


@dataclass(frozen=True)
class Piece:
    """Some lines in a row, none of them blank, each with its line break."""

    first_line: int
    count: int
    lines: bytes
    steps: Sequence[int] = field(default=(), compare=False)
    """How many of them end in each STEP_BYTES, so that one is found without counting again; empty: not counted."""


def plan(
    source: Source,
    found: Iterable[SourceFile],
    known: Known,
    counts_copies: bool = False,
) -> Iterator[LandedFile | Skipped]:
    """The files of a scan with something to read or to remember, each looked at when its turn comes.

    A file that grew, under its name or a new one, is read on from where it was; one whose beginning changed is a
    new content; one with the content of another known file is that file, renamed, or a copy, complete from the start,
    or a file of its own: see `identity.py`. While the first of two equal files is not read to its end, the second one
    is left for a later plan.
    """
    lookup = Lookup(found, remembered.of(known), partial(_begins_with, source))
    for path, refusal in lookup.refused.items():
        if refusal.format == formats.REFUSED and lookup.there.get(path) == refusal.found:
            yield Skipped(path, refusal.damage or "")
    if counts_copies:
        for copy in lookup.uncounted():
            yield _on_its_own(copy)
    for file in lookup.news:
        try:
            planned = _planned(source, file, lookup, counts_copies)
        except UnknownFormatError as error:
            # one that grows is examined each time, which is cheaper than a batch to remember it
            known_refusal = lookup.refused.get(file.path)
            is_known = known_refusal and (known_refusal.format, known_refusal.inode) == (formats.REFUSED, file.inode)
            if file.path not in lookup.before and not is_known:
                yield _refused(file, str(error))
            yield Skipped(file.path, str(error))
        except OSError as error:
            yield unreadable_now(file.path, error)
        else:
            if planned:
                yield planned


def _planned(source: Source, file: SourceFile, lookup: Lookup, counts_copies: bool) -> LandedFile | None:
    """From where on `file` is to be read; None where there is nothing to do, or not in this plan.

    :raises OSError, UnknownFormatError: as `content.identified`.
    """
    before = lookup.before.get(file.path)
    if before and before.found == file:
        return None if before.is_complete else before
    seen, earlier, beginnings = _examined(source, file, lookup)
    equals = lookup.equals(seen.sha256)
    if before and before.sha256 == seen.sha256:
        equals.add([before], is_planned=True)  # touched or moved back: the same content in the same place
        damage = before.damage if formats.is_by_row(seen.format or "") else seen.damage
        is_complete = before.is_complete and damage in (None, before.damage)
        touched = _going_on(seen, before, before.origin)
        return replace(touched, is_complete=is_complete, copy_of=before.copy_of, damage=damage)
    same = equals.same(file, lookup.emptied, lookup.is_still_there)
    copied = (
        None if same or counts_copies else equals.copied(file, partial(_extent, source, seen), lookup.is_still_there)
    )
    twin = same or copied
    if twin and (twin.path in equals.planned or (not twin.is_complete and lookup.is_in_place(twin))):
        return None
    equals.add([seen], is_planned=True)
    likely = [each for each in earlier if beginnings.get(each.size_bytes) == each.sha256 != seen.sha256]
    former = twin or max(likely, key=lambda each: each.size_bytes, default=None) or rows.former(source, seen, earlier)
    if not former:
        return seen
    is_owner = lookup.owner(former.origin, file.path) == file.path
    planned = _going_on(seen, former, former.origin if is_owner else seen.origin)
    if not twin or not twin.is_complete:
        return planned
    return replace(planned, is_complete=True, copy_of=twin.path if copied else None)


def _going_on(seen: LandedFile, former: LandedFile, origin: str) -> LandedFile:
    """The file from where `former` was read to."""
    return replace(
        seen,
        origin=origin,
        read_bytes=former.read_bytes,
        read_lines=former.read_lines,
        format=_format_of(seen.format, former),
        rows_sha256=former.rows_sha256,
    )


def _on_its_own(copy: LandedFile) -> LandedFile:
    origin = f"{copy.path}#{copy.sha256[:16]}"
    return replace(copy, origin=origin, read_bytes=0, read_lines=0, is_complete=False, copy_of=None, rows_sha256=None)


def read(
    source: Source, file: LandedFile, limit_bytes: int, unread_bytes: dict[str, int] | None = None
) -> Iterator[tuple[LandedFile, list[Piece]]]:
    """The lines behind `file.read_bytes`, about `limit_bytes` of them, with the state after each chunk.

    Stops at the size that was planned, so that a file that grows meanwhile is read on next time. Of a damaged file
    `unread_bytes` gets how many stored bytes lie behind.

    :raises OSError: it cannot be read, or is another or a shorter file by now.
    """
    if file.damage == LAST_ROW_WAITS and not source.is_ended(file.found):
        raise OSError(errno.EAGAIN, LAST_ROW_WAITS)
    if file.damage == LAST_ROW_WAITS:
        file = replace(file, damage=None)
    left, file_format = limit_bytes, file.format or formats.by_name(file.path)
    lines_read = hashlib.sha256() if formats.is_by_row(file_format) else None
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
            stream.skip_lines(file.read_lines, *([lines_read.update] if lines_read else []))
        while (end is None or position < end) and (left > 0 or start_bytes):
            chunk = stream.read(CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - position))
            if not chunk:
                if end is None:
                    break
                raise OSError(errno.ESTALE, CHANGED)
            position += len(chunk)
            left -= len(chunk)
            behind = chunk.rfind(b"\n") + 1
            if lines_read:
                lines_read.update(chunk[:behind])
                rows_sha256 = lines_read.hexdigest() if behind else file.rows_sha256
                lines_read.update(chunk[behind:])
                file = replace(file, rows_sha256=rows_sha256)
            if not behind:
                if start_bytes <= MAX_LINE_BYTES:
                    start.append(chunk)
                start_bytes += len(chunk)
                continue
            first = chunk.index(b"\n") + 1
            whole = b"".join((*start, memoryview(chunk)[:behind]))
            if start_bytes + first - 1 > MAX_LINE_BYTES:
                whole = b"".join((*start, chunk[: first - 1]))[:MAX_LINE_BYTES] + CUT_OFF + chunk[first - 1 : behind]
            first_line = file.read_lines + 1
            steps = _steps(whole)
            count = sum(steps)
            start, start_bytes = [chunk[behind:]], len(chunk) - behind
            file = replace(file, read_bytes=position - start_bytes, read_lines=file.read_lines + count)
            yield file, _pieces(first_line, count, whole, steps)
            if left <= 0:
                break
        is_at_end = position >= end if end is not None else not stream.read(1)
        if is_at_end and file.damage:
            stream.read(1)  # to where it is damaged
        if end is None:
            file = replace(file, damage=stream.damage)
        if stream.damage and unread_bytes is not None:
            unread_bytes[file.path] = stream.unread_bytes
    if is_at_end:
        # A last line without a line break counts now and is read again if it grows.
        last = b"".join(start)
        if len(last) > MAX_LINE_BYTES:
            last = last[:MAX_LINE_BYTES] + CUT_OFF
        yield (
            replace(file, is_complete=file.damage != LAST_ROW_WAITS),
            _pieces(file.read_lines + 1, 1, last + b"\n") if last else [],
        )


def is_as_planned(source: Source, file: LandedFile) -> bool:
    """Whether what was read of `file` is what was hashed when it was planned. Grown since then, it is.

    :raises OSError: as `content.identified`.
    """
    if source.is_untouched(file.found):
        return True
    return _begins_with(source, file.found, file)


def _begins_with(source: Source, file: SourceFile, known: LandedFile) -> bool:
    """Whether the content of `file` begins with that of `known`.

    :raises OSError, UnknownFormatError: as `content.identified`.
    """
    left, whole = known.size_bytes, hashlib.sha256()
    with content.identified(source, file) as stream:
        while left > 0 and (chunk := stream.read(min(CHUNK_BYTES, left))):
            whole.update(chunk)
            left -= len(chunk)
    return whole.hexdigest() == known.sha256


def _pieces(first_line: int, count: int, lines: bytes, steps: Sequence[int] = ()) -> list[Piece]:
    """The lines, `count` of them, without the blank ones, in as few pieces as that takes."""
    if lines.isspace():  # stops at the first letter
        return []
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
        if not begin and end == len(lines):
            return [Piece(number, count, lines, steps)]
        run = lines[begin:end]
        steps = _steps(run)
        in_run = sum(steps)
        pieces.append(Piece(number, in_run, run, steps))
        begin, number = end, number + in_run


def _steps(lines: bytes) -> list[int]:
    return [lines.count(b"\n", begin, begin + STEP_BYTES) for begin in range(0, len(lines), STEP_BYTES)]


def _examined(source: Source, file: SourceFile, lookup: Lookup) -> tuple[LandedFile, list[LandedFile], dict[int, str]]:
    """The file as a new one, the known ones that it may go on from, and the hashes of its beginnings of their sizes.

    :raises OSError, UnknownFormatError: as `content.identified`.
    """
    whole, beginnings, position = hashlib.sha256(), {}, 0
    # whether rows can be read to the end shows when they are read
    with content.identified(source, file) as stream:
        is_by_row = formats.is_by_row(stream.format)
        beginning = b""
        while len(beginning) < HEAD_BYTES and (chunk := stream.read(CHUNK_BYTES)):
            beginning += chunk
        heads = [] if is_by_row else heads_of(beginning)
        earlier = lookup.earlier(file, heads)
        marks = sorted({each.size_bytes for each in earlier} - {0}, reverse=True)
        chunk = beginning
        while chunk:
            start = 0
            while marks and marks[-1] <= position + len(chunk):
                end = marks[-1] - position
                whole.update(memoryview(chunk)[start:end])
                beginnings[marks.pop()], start = whole.hexdigest(), end
            whole.update(memoryview(chunk)[start:])
            position += len(chunk)
            chunk = stream.read(CHUNK_BYTES)
    sha256 = whole.hexdigest()
    seen = LandedFile(
        path=file.path,
        stored_bytes=file.stored_bytes,
        mtime_ns=file.mtime_ns,
        inode=file.inode,
        size_bytes=position,
        sha256=sha256,
        origin=f"{file.path}#{sha256[:16]}",
        damage=stream.damage,
        format=stream.format,
        head_sha256=next(iter(heads), None),
    )
    return seen, earlier, beginnings


def _extent(source: Source, file: LandedFile) -> tuple[int, int]:
    """Bytes and lines of the content, counted only as far as a short one has them."""
    if not formats.is_by_row(file.format or "") and file.size_bytes >= COPY_BYTES:
        return file.size_bytes, 2
    size_bytes, lines = 0, 0
    with content.opened(source, file.found, file.format or formats.by_name(file.path)) as stream:
        while size_bytes < COPY_BYTES and (chunk := stream.read(CHUNK_BYTES)):
            size_bytes += len(chunk)
            lines += sum(1 for line in chunk.split(b"\n") if line.strip())
    return size_bytes, lines


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
