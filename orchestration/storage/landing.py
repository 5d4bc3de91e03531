"""The landing folder: which files are there, and their lines, in pieces of bounded size.

Landing files are only ever read. What a line means is decided in `storage/parsing.py`; which files were read
before is remembered by the ledger and passed in.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

SUFFIXES = (".ndjson", ".jsonl")
CHUNK_BYTES = 2**20
"""Read, and parsed, at a time. Below, the calls cost more than the bytes; above, only memory grows."""
MAX_LINE_BYTES = 8 * 2**20
"""Of a longer line only the beginning is kept, made unreadable, so that it lands in quarantine and not in memory."""
CUT_OFF = " … cut off: the line is too long".encode()


@dataclass(frozen=True)
class LandedFile:
    """What is remembered of one landing file: how much of which content has been read."""

    path: str
    """Relative to the landing folder, with forward slashes."""
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: str
    """Of the first `size_bytes`."""
    origin: str
    """Names the content for events without an id: path and hash when first read. An appended file keeps it."""
    read_bytes: int = 0
    """Offset behind the last line break that was read."""
    read_lines: int = 0
    """Lines before that offset."""
    is_complete: bool = False
    copy_of: str | None = None
    """Path of an earlier file with the same content: nothing of this one was read."""

    def is_same_file(self, other: "LandedFile") -> bool:
        return (self.size_bytes, self.mtime_ns, self.inode) == (other.size_bytes, other.mtime_ns, other.inode)

    def is_in_place(self, status: os.stat_result | None) -> bool:
        """Whether `status`, of what is at its path now, is of this file, perhaps grown."""
        return status is not None and status.st_size >= self.size_bytes and _inode(status) == self.inode


@dataclass(frozen=True)
class Skipped:
    """Something in the landing folder that was not read, and why."""

    path: str
    reason: str


def scan(landing: Path) -> tuple[list[tuple[str, os.stat_result]], list[Skipped]]:
    """The landing files by path, and what else lies there. Never opens anything, never follows links to folders."""
    found: list[tuple[str, os.stat_result]] = []
    skipped: list[Skipped] = []

    def skip(path: str, reason: str) -> None:
        skipped.append(Skipped(os.fsencode(path).decode(errors="backslashreplace"), reason))

    def unreadable(error: OSError) -> None:
        skip(os.path.relpath(error.filename, landing), f"cannot be read: {error.strerror}")

    for folder, folders, names in os.walk(landing, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            path = Path(folder, name)
            if path.is_symlink():
                skip(path.relative_to(landing).as_posix(), "is a link to a folder")
        for name in names:
            path = Path(folder, name)
            relative = path.relative_to(landing).as_posix()
            if name.startswith(".") or name.endswith((".part", ".tmp")):
                continue  # a producer is still writing it
            try:
                status = path.stat()
            except OSError as error:
                unreadable(error)
                continue
            if not stat.S_ISREG(status.st_mode):
                skip(relative, "is no regular file")
            elif not name.endswith(SUFFIXES):
                skip(relative, f"is not one of {', '.join(SUFFIXES)}")
            elif not _is_utf8(relative):
                skip(relative, "its name is not UTF-8: rename it")
            else:
                found.append((relative, status))
    return sorted(found, key=lambda entry: entry[0]), skipped


def plan(
    landing: Path, found: Iterable[tuple[str, os.stat_result]], known: Mapping[str, LandedFile]
) -> Iterator[LandedFile | Skipped]:
    """The files of a scan with something to read or to remember, each looked at when its turn comes.

    A file that grew, under its name or a new one, is read on from where it was; one whose beginning changed is a
    new content; one with the content of another known file is a copy, complete from the start. While the first
    of two equal files is not read to its end, the second one is left for a later plan.
    """
    there = dict(found)
    contents: dict[str, LandedFile] = {}
    for file in sorted(known.values(), key=lambda file: (file.is_complete, file.copy_of is None)):
        contents[file.sha256] = file
    in_place = [file for file in known.values() if file.is_in_place(there.get(file.path))]
    owners = {file.origin: file.path for file in sorted(in_place, key=lambda file: file.read_lines)}
    # A file that is not where it was may have been renamed (its inode is), or copied and then emptied.
    moved = [file for file in known.values() if not file.is_in_place(there.get(file.path))]
    by_inode = {file.inode: file for file in moved}
    emptied = [file for file in moved if file.path in there and there[file.path].st_size < file.size_bytes]
    planned: set[str] = set()
    for path, status in there.items():
        if status.st_size == 0:
            continue
        before = known.get(path)
        file = LandedFile(path, status.st_size, status.st_mtime_ns, _inode(status), "", "")
        if before and before.is_same_file(file):
            if not before.is_complete:
                yield before
            continue
        earlier = [each for each in (before, by_inode.get(file.inode), *emptied) if each]
        try:
            sha256, beginnings = _hash(landing, file, {each.size_bytes for each in earlier})
        except OSError as error:
            yield Skipped(path, f"cannot be read: {error.strerror}")
            continue
        twin = contents.get(sha256)
        if before and before.sha256 == sha256:  # touched or moved back: the same content in the same place
            planned.add(sha256)
            yield replace(before, mtime_ns=file.mtime_ns, inode=file.inode)
            continue
        if sha256 in planned or (twin and not twin.is_complete and twin.is_in_place(there.get(twin.path))):
            continue
        planned.add(sha256)
        file = replace(file, sha256=sha256, origin=f"{path}#{sha256[:16]}")
        source = twin or next((each for each in earlier if beginnings.get(each.size_bytes) == each.sha256), None)
        if source:
            is_copy = source is twin and twin.is_complete
            file = replace(
                file,
                # Two files that go on from one content have different lines with the same numbers.
                origin=source.origin if owners.setdefault(source.origin, path) == path else file.origin,
                read_bytes=source.read_bytes,
                read_lines=source.read_lines,
                is_complete=is_copy,
                copy_of=source.path if is_copy else None,
            )
        yield file


def read_lines(landing: Path, file: LandedFile, limit_bytes: int) -> Iterator[tuple[LandedFile, list[bytes]]]:
    """The lines behind `file.read_bytes`, about `limit_bytes` of them, with the state after each piece.

    Stops at the size that was planned, so that a file that grows meanwhile is read on next time.

    :raises OSError: it cannot be read, or is another or a shorter file by now.
    """
    left, position = limit_bytes, file.read_bytes
    start: list[bytes] = []  # of a line whose end was not seen yet
    start_bytes = 0
    with _opened(landing, file) as stream:
        stream.seek(position)
        while position < file.size_bytes and (left > 0 or start_bytes):
            chunk = _read(stream, min(CHUNK_BYTES, file.size_bytes - position))
            position += len(chunk)
            left -= len(chunk)
            end, *others = chunk.split(b"\n")
            if start_bytes <= MAX_LINE_BYTES:
                start.append(end)
            start_bytes += len(end)
            if not others:
                continue
            lines = [_joined(start), *others[:-1]]
            start, start_bytes = others[-1:], len(others[-1])
            file = replace(file, read_bytes=position - start_bytes, read_lines=file.read_lines + len(lines))
            yield file, lines
            if left <= 0:
                break
    if position >= file.size_bytes:
        # A last line without a line break counts now and is read again if it grows.
        yield replace(file, is_complete=True), [_joined(start)] if start_bytes else []


def _joined(parts: list[bytes]) -> bytes:
    line = b"".join(parts)
    return line if len(line) <= MAX_LINE_BYTES else line[:MAX_LINE_BYTES] + CUT_OFF


def _hash(landing: Path, file: LandedFile, sizes: Collection[int]) -> tuple[str, dict[int, str]]:
    """SHA-256 of the file up to its planned size, and of its beginnings of the given sizes."""
    whole, beginnings, position = hashlib.sha256(), {}, 0
    with _opened(landing, file) as stream:
        for size in (*sorted(size for size in sizes if size < file.size_bytes), file.size_bytes):
            while position < size:
                chunk = _read(stream, min(CHUNK_BYTES, size - position))
                whole.update(chunk)
                position += len(chunk)
            beginnings[size] = whole.hexdigest()
    return whole.hexdigest(), beginnings


@contextmanager
def _opened(landing: Path, file: LandedFile) -> Iterator[FileIO]:
    with (landing / file.path).open("rb", buffering=0) as stream:
        status = os.fstat(stream.fileno())
        if _inode(status) != file.inode or status.st_size < file.size_bytes:
            raise OSError(errno.ESTALE, "it changed meanwhile; the next run looks again")
        yield stream


def _read(stream: FileIO, count: int) -> bytes:
    chunk = stream.read(count)
    if not chunk:
        raise OSError(errno.ESTALE, "it changed meanwhile; the next run looks again")
    return chunk


def _inode(status: os.stat_result) -> int:
    return status.st_ino % 2**63  # some file systems use all 64 bits, the ledger's column has 63 and a sign


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
