"""Where event files arrive: folders and buckets. What is there, and its bytes; never written to.

What a file's bytes mean is in `content.py`, which of them were read before in `landing.py`.
"""

import errno
import hashlib
import io
import os
import stat
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

SUFFIXES = (
    *(f"{kind}{compression}" for kind in (".ndjson", ".jsonl", ".csv") for compression in ("", ".gz", ".zst")),
    ".parquet",
)
RANGE_BYTES = 8 * 2**20
"""Asked of an object store at a time."""
RETRY_SECONDS = 15.0
"""How long an object store is asked again when it does not answer."""
CHANGED = "it changed meanwhile; the next run looks again"


@dataclass(frozen=True)
class Found:
    """One file as it lies there: enough to see later that it is the same one."""

    path: str
    """Relative to its folder with forward slashes; of a bucket the whole address."""
    stored_bytes: int
    mtime_ns: int
    inode: int
    """Stays when the file is renamed and grows, changes when it is replaced; of a bucket made from the ETag."""


@dataclass(frozen=True)
class Skipped:
    """Something in a place that was not read, and why."""

    path: str
    reason: str


class Place(Protocol):
    def scan(self) -> tuple[list[Found], list[Skipped]]:
        """The files there, by path, and what else lies there. Opens nothing."""
        ...

    def open(self, file: Found) -> BinaryIO:
        """The stored bytes, seekable.

        :raises OSError: it cannot be read, or is another or a shorter file by now.
        """
        ...


class Folder:
    """A local folder and the folders in it. Links to folders are not followed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def scan(self) -> tuple[list[Found], list[Skipped]]:
        found: list[Found] = []
        skipped: list[Skipped] = []

        def skip(path: str, reason: str) -> None:
            skipped.append(Skipped(os.fsencode(path).decode(errors="backslashreplace"), reason))

        def unreadable(error: OSError) -> None:
            skip(os.path.relpath(error.filename, self.root), f"cannot be read: {error.strerror}")

        for folder, folders, names in os.walk(self.root, onerror=unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in folders:
                path = Path(folder, name)
                if path.is_symlink():
                    skip(path.relative_to(self.root).as_posix(), "is a link to a folder")
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(self.root).as_posix()
                if is_unfinished(name):
                    continue
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
                    found.append(Found(relative, status.st_size, status.st_mtime_ns, _inode(status)))
        return sorted(found, key=lambda file: file.path), skipped

    def open(self, file: Found) -> BinaryIO:
        stream = (self.root / file.path).open("rb", buffering=0)
        status = os.fstat(stream.fileno())
        if _inode(status) != file.inode or status.st_size < file.stored_bytes:
            stream.close()
            raise OSError(errno.ESTALE, CHANGED)
        return cast(BinaryIO, stream)


class Bucket:
    """Files under a prefix of an object store: `s3://`, `gs://` or `az://`.

    Credentials, region and endpoint come from the store's own environment variables (AWS_…, GOOGLE_…, AZURE_…).
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._store = open_store(self.url)
        self._tags: dict[str, str | None] = {}

    def scan(self) -> tuple[list[Found], list[Skipped]]:
        """As of any place; a bucket that cannot be listed is reported and holds up nothing else."""
        import obstore
        from obstore.exceptions import BaseError

        found: list[Found] = []
        skipped: list[Skipped] = []
        try:
            entries = [entry for page in obstore.list(self._store) for entry in page]
        except BaseError as error:
            return [], [Skipped(self.url, f"cannot be listed: {first_line(error)}")]
        for entry in entries:
            path, parts = f"{self.url}/{entry['path']}", entry["path"].split("/")
            if any(is_unfinished(part) for part in parts):
                continue
            if not path.endswith(SUFFIXES):
                skipped.append(Skipped(path, f"is not one of {', '.join(SUFFIXES)}"))
                continue
            modified = int(entry["last_modified"].timestamp() * 1e9)
            self._tags[path] = entry["e_tag"]
            identity = hashlib.sha256((entry["e_tag"] or str(modified)).encode()).hexdigest()
            found.append(Found(path, entry["size"], modified, int(identity[:15], 16)))
        return sorted(found, key=lambda file: file.path), skipped

    def open(self, file: Found) -> BinaryIO:
        stored = _Object(self._store, file.path.removeprefix(self.url + "/"), file.stored_bytes, self._tags[file.path])
        return cast(BinaryIO, io.BufferedReader(stored, buffer_size=RANGE_BYTES))


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


class Places:
    """Several places as one: the landing folder, and a bucket where one is set."""

    def __init__(self, folder: Path, bucket_url: str | None = None) -> None:
        self._folder = Folder(folder)
        self._bucket = Bucket(bucket_url) if bucket_url else None

    def scan(self) -> tuple[list[Found], list[Skipped]]:
        found, skipped = self._folder.scan()
        if self._bucket:
            more_found, more_skipped = self._bucket.scan()
            found, skipped = found + more_found, skipped + more_skipped
        return found, skipped

    def open(self, file: Found) -> BinaryIO:
        place: Place = self._bucket if self._bucket and "://" in file.path else self._folder
        return place.open(file)


def open_store(url: str) -> Any:
    """The store behind `s3://`, `gs://` or `az://`, with the prefix of the address."""
    from obstore.store import from_url  # only who uses a bucket pays for the import

    # Its own patience is three minutes, in which no other file would be read.
    patience: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
    return from_url(url, retry_config=patience)


def is_unfinished(name: str) -> bool:
    """Whether the name says that a producer is still writing the file, or that it is nobody's business."""
    return name.startswith(".") or name.endswith((".part", ".tmp"))


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _inode(status: os.stat_result) -> int:
    return status.st_ino % 2**63  # some file systems use all 64 bits, the ledger's column has 63 and a sign


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
