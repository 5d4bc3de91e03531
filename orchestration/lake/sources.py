"""Where event files arrive: folders and buckets. What is there, and its bytes; nothing here writes to them.

What a file's bytes mean is in `content.py`, which of them were read before in `landing.py`.
"""

import errno
import hashlib
import io
import os
import posixpath
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from orchestration.lake.endings import DONE, has_ended

UNFINISHED = (".part", ".tmp", ".partial", ".inprogress", ".filepart", ".crdownload", ".swp", "._COPYING_", "~")
"""How names end while somebody writes the file."""
LONGEST_SHOWN = 200
RANGE_BYTES = 8 * 2**20
"""Asked of an object store at a time."""
RETRY_SECONDS = 15.0
"""How long an object store is asked again when it does not answer."""
OURS = "begins with _, as the names of a program's own files do: rename it if it holds events"
TICK_NS = 2 * 10**9
"""The coarsest clock of a file system, FAT's."""
CHANGED = "it changed meanwhile; the next run looks again"


@dataclass(frozen=True)
class SourceFile:
    """One file as it lies there: enough to see later that it is the same one."""

    path: str
    """Relative to its folder with forward slashes; of a bucket the whole address."""
    stored_bytes: int
    mtime_ns: int
    inode: int
    """Stays when the file is renamed and grows, changes when it is replaced; of a bucket made from the ETag."""
    device: int = field(default=0, compare=False, repr=False)
    """With the inode it says which names are one file; 0 where it says nothing, as of a bucket."""
    is_link: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True)
class Skipped:
    """Something in a place that was not read, and why."""

    path: str
    reason: str
    is_for_now: bool = False
    """Whether a later run will read it without anybody's help."""


class Source(Protocol):
    def scan(self) -> tuple[list[SourceFile], list[Skipped]]:
        """The files there, by path, and what else lies there. Opens nothing."""
        ...

    def open(self, file: SourceFile) -> BinaryIO:
        """The stored bytes, seekable.

        :raises OSError: it cannot be read, or is another or a shorter file by now.
        """
        ...

    def is_untouched(self, file: SourceFile) -> bool:
        """Whether it is certain that nobody wrote to it since the scan."""
        ...

    def is_ended(self, file: SourceFile) -> bool:
        """Whether there is evidence that nobody will write to it again: see `endings.py`."""
        ...


class Folder:
    """A local folder and the folders in it. Links to folders are not followed, and none to a file outside of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def scan(self) -> tuple[list[SourceFile], list[Skipped]]:
        """As of any place; what cannot be listed or looked at is reported, and holds up nothing else."""
        found: list[SourceFile] = []
        skipped: list[Skipped] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                skipped.append(_unreadable(folder or ".", error))
                continue
            if _is_lake(listed):
                skipped.append(Skipped(_shown(folder or "."), "is a lake of Headroom: its events were read already"))
                continue
            for position, entry in enumerate(listed):
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    look = _look(entry, path, self.root)
                except OSError as error:
                    # a folder that may be listed, and not entered: so it is for all in it
                    is_for_all = isinstance(error, PermissionError) and not entry.is_symlink()
                    more = len(listed) - position - 1 if is_for_all else 0
                    skipped.append(_unreadable(path, error, f" (and {more:,} more in its folder)" if more else ""))
                    if is_for_all:
                        break
                    continue
                if isinstance(look, str):
                    folders.append(look)
                elif isinstance(look, SourceFile):
                    found.append(look)
                elif look:
                    skipped.append(look)
        return sorted(found, key=lambda file: file.path), skipped

    def open(self, file: SourceFile) -> BinaryIO:
        stream = (self.root / file.path).open("rb", buffering=0)
        status = os.fstat(stream.fileno())
        if _inode(status) != file.inode or status.st_size < file.stored_bytes:
            stream.close()
            raise OSError(errno.ESTALE, CHANGED)
        return cast(BinaryIO, stream)

    def is_ended(self, file: SourceFile) -> bool:
        folder = posixpath.dirname(file.path)

        def written(path: str) -> int | None:
            try:
                return (self.root / path).stat().st_mtime_ns
            except OSError:
                return None

        try:
            beside = [posixpath.join(folder, path.name) for path in (self.root / folder).iterdir()]
        except OSError:
            return False
        return has_ended(file.path, file.mtime_ns, beside, written, time.time_ns())

    def is_untouched(self, file: SourceFile) -> bool:
        status = (self.root / file.path).stat()
        found = (status.st_size, status.st_mtime_ns, _inode(status))
        # of two writes in one tick of the file system's clock the second one does not show
        is_old = time.time_ns() - file.mtime_ns > TICK_NS
        return is_old and found == (file.stored_bytes, file.mtime_ns, file.inode)


class Bucket:
    """Files under a prefix of an object store: `s3://`, `gs://` or `az://`.

    Credentials, region and endpoint come from the store's own environment variables (AWS_…, GOOGLE_…, AZURE_…).
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._store = open_store(self.url)
        self._tags: dict[str, str | None] = {}

    def scan(self) -> tuple[list[SourceFile], list[Skipped]]:
        """As of any place; a bucket that cannot be listed is reported and holds up nothing else."""
        import obstore
        from obstore.exceptions import BaseError

        found: list[SourceFile] = []
        skipped: list[Skipped] = []
        try:
            entries = [entry for page in obstore.list(self._store) for entry in page]
        except BaseError as error:
            return [], [Skipped(self.url, f"cannot be listed: {first_line(error)}")]
        for entry in entries:
            path, parts = f"{self.url}/{entry['path']}", entry["path"].split("/")
            if any(is_unfinished(part) for part in parts):
                continue
            if any(part.startswith("_") for part in parts):
                if not any(part.startswith("_") for part in parts[:-1]) and has_events_name(parts[-1]):
                    skipped.append(Skipped(path, OURS))
                continue
            modified = int(entry["last_modified"].timestamp() * 1e9)
            self._tags[path] = entry["e_tag"]
            identity = hashlib.sha256((entry["e_tag"] or str(modified)).encode()).hexdigest()
            found.append(SourceFile(path, entry["size"], modified, int(identity[:15], 16)))
        return sorted(found, key=lambda file: file.path), skipped

    def open(self, file: SourceFile) -> BinaryIO:
        stored = _Object(self._store, file.path.removeprefix(self.url + "/"), file.stored_bytes, self._tags[file.path])
        return cast(BinaryIO, io.BufferedReader(stored, buffer_size=RANGE_BYTES))

    def is_ended(self, file: SourceFile) -> bool:
        import obstore
        from obstore.exceptions import BaseError

        folder = posixpath.dirname(file.path).removeprefix(self.url).lstrip("/")
        try:
            entries = [entry for page in obstore.list(self._store, prefix=folder or None) for entry in page]
        except BaseError:
            return False
        beside = {f"{self.url}/{entry['path']}": int(entry["last_modified"].timestamp() * 1e9) for entry in entries}
        return has_ended(file.path, file.mtime_ns, beside, beside.get, time.time_ns())

    def is_untouched(self, file: SourceFile) -> bool:
        return self._tags[file.path] is not None  # another version would not have been opened


class _Object(io.RawIOBase):
    """One object, read range by range, all of the version that was listed."""

    def __init__(self, store: Any, path: str, size: int, tag: str | None) -> None:
        self._store, self._path, self._size, self._tag, self._position = store, path, size, tag, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        import obstore
        from obstore.exceptions import BaseError, PreconditionError

        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        options: Any = {"range": (self._position, end), **({"if_match": self._tag} if self._tag else {})}
        try:
            content = obstore.get(self._store, self._path, options=options).bytes()
        except PreconditionError as error:
            raise OSError(errno.ESTALE, CHANGED) from error
        except BaseError as error:
            raise OSError(errno.EIO, first_line(error)) from error
        buffer[: len(content)] = memoryview(content)
        self._position += len(content)
        return len(content)


class Sources:
    """Several places as one: the landing folder, and a bucket where one is set."""

    def __init__(self, folder: Path, bucket_url: str | None = None) -> None:
        self._folder = Folder(folder)
        self._bucket = Bucket(bucket_url) if bucket_url else None

    def scan(self) -> tuple[list[SourceFile], list[Skipped]]:
        found, skipped = self._folder.scan()
        if self._bucket:
            more_found, more_skipped = self._bucket.scan()
            found, skipped = found + more_found, skipped + more_skipped
        return found, skipped

    def open(self, file: SourceFile) -> BinaryIO:
        return self._source_of(file).open(file)

    def is_ended(self, file: SourceFile) -> bool:
        return self._source_of(file).is_ended(file)

    def is_untouched(self, file: SourceFile) -> bool:
        return self._source_of(file).is_untouched(file)

    def _source_of(self, file: SourceFile) -> Source:
        return self._bucket if self._bucket and "://" in file.path else self._folder


def open_store(url: str) -> Any:
    """The store behind `s3://`, `gs://` or `az://`, with the prefix of the address."""
    from obstore.store import from_url  # only who uses a bucket pays for the import

    # Its own patience is three minutes, in which no other file would be read.
    patience: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
    return from_url(url, retry_config=patience)


def is_unfinished(name: str) -> bool:
    """Whether the name says that a producer is still writing the file, or that it is nobody's business."""
    return name.startswith(".") or name.endswith((*UNFINISHED, DONE))


def has_events_name(name: str) -> bool:
    """Whether the name is one that files of events have: Spark's and Hive's own files have others."""
    return re.search(r"\.(ndjson|jsonl|csv|parquet)(\.|$)", name.lower()) is not None


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _look(entry: os.DirEntry[str], path: str, root: Path) -> SourceFile | Skipped | str | None:
    """A file; what is to be reported; a folder to go into; None, which holds no events.

    :raises OSError: it cannot be looked at.
    """
    is_hidden = entry.name.startswith("_")
    if entry.is_dir(follow_symlinks=False):
        return None if is_hidden or entry.name.startswith(".") else path
    if is_unfinished(entry.name):
        return None
    if is_hidden:
        return Skipped(_shown(path), OURS) if has_events_name(entry.name) else None
    if entry.is_symlink() and entry.is_dir():
        return Skipped(_shown(path), "is a link to a folder")
    if entry.is_symlink() and not _is_inside(entry.path, root):
        return Skipped(_shown(path), "is a link out of the landing folder: put the file itself there")
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        return Skipped(_shown(path), "is not a regular file")
    if not _is_utf8(path):
        return Skipped(_shown(path), "its name is not UTF-8: rename it")
    device = status.st_dev + 1  # 0 says nothing
    return SourceFile(path, status.st_size, status.st_mtime_ns, _inode(status), device, entry.is_symlink())


def _is_inside(path: str, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _is_lake(entries: Sequence[os.DirEntry[str]]) -> bool:
    return {"batches", "kept_from.parquet"} <= {entry.name for entry in entries}


def unreadable_now(path: str, error: OSError) -> Skipped:
    """A file that could not be read to its end: for now, where it is still written to or has just changed."""
    is_for_now = error.errno in (errno.EAGAIN, errno.ESTALE)
    return Skipped(path, f"cannot be read: {error.strerror}", is_for_now)


def _unreadable(path: str, error: OSError, more: str = "") -> Skipped:
    return Skipped(_shown(path), f"cannot be read: {error.strerror}{more}")


def _shown(path: str) -> str:
    text = os.fsencode(path).decode(errors="backslashreplace")
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _inode(status: os.stat_result) -> int:
    return status.st_ino % 2**63  # some file systems use all 64 bits, the ledger's column has 63 and a sign


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
