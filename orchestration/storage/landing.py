"""The landing folder: which files are there, and their lines, in pieces of bounded size.

Landing files are only ever read. What a line means is decided in `storage/lake.py`; which files were read
before is remembered by the ledger and passed in.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

SUFFIXES = (".ndjson", ".jsonl")
CHUNK_BYTES = 8 * 2**20
"""Read at a time. Below 4 MiB the calls cost more than the bytes; above 16 MiB only memory grows."""


@dataclass(frozen=True)
class LandedFile:
    """What is remembered of one landing file: how much of which content has been read."""

    path: str
    """Relative to the landing folder, with forward slashes."""
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: str
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


@dataclass(frozen=True)
class Skipped:
    """Something in the landing folder that was not read, and why."""

    path: str
    reason: str


def scan(landing: Path) -> tuple[list[tuple[str, os.stat_result]], list[Skipped]]:
    """The landing files by path, and what else lies there. Never opens anything, never follows links to folders."""
    found: list[tuple[str, os.stat_result]] = []
    skipped: list[Skipped] = []
    for folder, folders, names in os.walk(landing):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            relative = path.relative_to(landing).as_posix()
            if name.startswith(".") or name.endswith((".part", ".tmp")):
                continue  # a producer is still writing it
            try:
                status = path.stat()
            except OSError as error:
                skipped.append(Skipped(relative, f"cannot be read: {error.strerror}"))
                continue
            if not stat.S_ISREG(status.st_mode):
                skipped.append(Skipped(relative, "is no regular file"))
            elif not name.endswith(SUFFIXES):
                skipped.append(Skipped(relative, f"is not one of {', '.join(SUFFIXES)}"))
            elif status.st_size > 0:
                found.append((relative, status))
    return sorted(found, key=lambda entry: entry[0]), skipped


def plan(landing: Path, known: Mapping[str, LandedFile]) -> tuple[list[LandedFile], list[Skipped]]:
    """The files with something to read, and what was skipped.

    A file that grew is read on from where it was; one whose beginning changed is a new content; one with the
    content of another known file is a copy, returned complete so that it is remembered.
    """
    found, skipped = scan(landing)
    todo: list[LandedFile] = []
    by_content = {file.sha256: file for file in known.values() if file.copy_of is None}
    for path, status in found:
        before = known.get(path)
        file = LandedFile(path, status.st_size, status.st_mtime_ns, status.st_ino, "", "")
        if before and before.is_same_file(file):
            if not before.is_complete:
                todo.append(before)
            continue
        try:
            sha256, prefix_sha256 = _hash(landing / path, before.size_bytes if before else 0)
        except OSError as error:
            skipped.append(Skipped(path, f"cannot be read: {error.strerror}"))
            continue
        twin = by_content.get(sha256)
        if before and before.sha256 == sha256:  # touched or moved back: the same content in the same place
            file = replace(before, mtime_ns=file.mtime_ns, inode=file.inode)
        elif twin:
            file = replace(file, sha256=sha256, origin=twin.origin, is_complete=True, copy_of=twin.path)
        elif before and prefix_sha256 == before.sha256 and before.copy_of is None:
            file = replace(
                file,
                sha256=sha256,
                origin=before.origin,
                read_bytes=before.read_bytes,
                read_lines=before.read_lines,
            )
        else:
            file = replace(file, sha256=sha256, origin=f"{path}#{sha256[:16]}")
        by_content.setdefault(sha256, file)
        todo.append(file)
    return todo, skipped


def _hash(path: Path, prefix_bytes: int) -> tuple[str, str | None]:
    """SHA-256 of the file and of its first `prefix_bytes` (None where it is shorter)."""
    whole, prefix, seen = hashlib.sha256(), None, 0
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            if prefix is None and 0 < prefix_bytes <= seen + len(chunk):
                head = whole.copy()
                head.update(chunk[: prefix_bytes - seen])
                prefix = head.hexdigest()
            whole.update(chunk)
            seen += len(chunk)
    return whole.hexdigest(), prefix


def read_lines(landing: Path, file: LandedFile, limit_bytes: int) -> Iterator[tuple[LandedFile, list[bytes]]]:
    """The lines behind `file.read_bytes`, about `limit_bytes` of them, with the state after each piece.

    Stops at the size that was planned, so that a file that grows meanwhile is read on next time.
    """
    left, rest = min(limit_bytes, file.size_bytes - file.read_bytes), b""
    with (landing / file.path).open("rb", buffering=0) as stream:
        stream.seek(file.read_bytes)
        position = file.read_bytes
        while position < file.size_bytes and (left > 0 or rest):
            chunk = stream.read(min(CHUNK_BYTES, file.size_bytes - position))
            if not chunk:
                break
            position += len(chunk)
            left -= len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                file = replace(file, read_bytes=position - len(rest), read_lines=file.read_lines + len(lines))
                yield file, lines
            if left <= 0 and lines:
                break
    if position >= file.size_bytes or left > 0:
        # The end of the file. A last line without a line break counts now and is read again if it grows.
        yield replace(file, is_complete=True), [rest] if rest else []
