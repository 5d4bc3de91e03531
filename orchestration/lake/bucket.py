"""The lake's home in a bucket. What a batch holds never changes, so the local folder is a copy that may be lost.

    writer.json                      the one data folder that may add batches
    batches/000021/….<hash>.parquet  files of a batch, named by what is in them: putting one twice changes nothing
    manifests/000021.json            which files the batch has; put last, and only where there is none

The bucket keeps the files that a batch came with; in the folder, small ones become one and days go that are not kept
(`compaction.py`), and a folder that fetches them does that anew. With its manifest a batch is in the bucket, as a
whole. Files that no manifest names, left by a killed upload, do not count: read the bucket by its manifests. The other
files of the lake's folder are made anew by each run.
"""

import hashlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestration.lake.sources import first_line, open_store

AT_ONCE = 8
"""Batches that are moved at a time: each request takes its time, and a year of hours has 8,760 batches."""
PARTS_AT_ONCE = 2
"""Of one large file, 5 MiB each; bounds memory, together with AT_ONCE, at 80 MiB."""
CHUNK_BYTES = 2**20
Committed = Callable[[Path], AbstractContextManager[Path]]
"""`Lake._committed`: a folder that is moved to its place when all is in it."""


class LakeBucketError(RuntimeError):
    """The lake and its bucket cannot be brought together; the message says why and what to do."""


@dataclass(frozen=True)
class StoredFile:
    """One file of a batch."""

    path: str
    """In the batch's folder."""
    object: str
    """In the bucket, below the lake's prefix."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class BucketState:
    """How the folder and the bucket stand to each other."""

    writer: str | None
    """Who may add batches, in words; None where nobody has begun."""
    is_writer: bool
    """Whether this folder is the one, or may become it."""
    missing_here: int
    missing_there: int


class LakeBucket:
    """The bucket of one lake's folder. Call from one thread, inside the lake's lock where it is said."""

    def __init__(self, url: str, root: Path) -> None:
        self.url = url.rstrip("/")
        self._root = root
        self._batches = root / "batches"
        self._store = open_store(self.url)

    def bring_together(self, committed: Committed) -> None:
        """Fetch the batches that only the bucket has, put those that only the folder has. Inside the lake's lock.

        :raises LakeBucketError: another folder is the writer, a batch differs, or the store does not answer.
        """
        with self._explained():
            self._become_writer()
            here, there = self._here(), self._there()
            both = max(here & there, default=0)
            # A folder that has this batch had all batches before it, or it could not have been made or fetched.
            if both:
                self._compare(both)
            fetched, put = there - here, here - there
            if any(number > both for number in fetched) and any(number > both for number in put):
                raise self._different(min(number for number in put if number > both))
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for _ in pool.map(lambda number: self._fetch(number, committed), sorted(fetched)):
                    pass
                for _ in pool.map(self._put, sorted(put)):
                    pass

    def add(self, number: int) -> None:
        """Put a batch that was just committed. Inside the lake's lock.

        :raises LakeBucketError: as above; the batch stays in the folder, and is put by the next run.
        """
        with self._explained():
            self._become_writer()
            self._put(number)

    def claim(self) -> str | None:
        """Make this folder the writer, whoever was; who was, in words."""
        with self._explained():
            holder = self._holder()
            self._put_writer("overwrite")
            return holder[1] if holder else None

    def state(self) -> BucketState:
        """Changes nothing.

        :raises LakeBucketError: the store does not answer.
        """
        with self._explained():
            holder, here, there = self._holder(), self._here(), self._there()
            return BucketState(
                holder[1] if holder else None,
                holder is None or holder[0] == self._own_name(),
                len(there - here),
                len(here - there),
            )

    # The one writer. No clock: a name that the folder keeps, and that dies with it.

    def _become_writer(self) -> None:
        from obstore.exceptions import AlreadyExistsError

        holder = self._holder()
        if holder is None:
            with suppress(AlreadyExistsError):  # of two the other was faster, or the answer to our own was lost
                self._put_writer("create")
            holder = self._holder()
        if holder is None or holder[0] != self._own_name():
            who = holder[1] if holder else "nobody"
            raise LakeBucketError(
                f"{self.url} is written by {who}, not by this folder ({self._root}): nothing was read. If that machine"
                " is gone, or its disk, make sure that nothing runs there, then run `headroom lake claim` here."
            )

    def _put_writer(self, mode: Any) -> None:
        import obstore

        path = self._root / ".writer"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            staged = path.with_name(".writer.part")
            with staged.open("w") as file:
                file.write(secrets.token_hex(16))
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
        content = {"name": path.read_text(), "host": socket.gethostname(), "folder": str(self._root)}
        obstore.put(self._store, "writer.json", json.dumps(content).encode(), mode=mode, use_multipart=False)

    def _own_name(self) -> str | None:
        path = self._root / ".writer"
        return path.read_text() if path.exists() else None

    def _holder(self) -> tuple[str, str] | None:
        import obstore

        try:
            found = obstore.get(self._store, "writer.json")
        except FileNotFoundError:
            return None
        content, since = json.loads(bytes(found.bytes())), found.meta["last_modified"]
        assert isinstance(since, datetime)
        return content["name"], f"{content['host']} ({content['folder']}) since {since:%Y-%m-%d %H:%M} UTC"

    # Batches

    def _here(self) -> set[int]:
        """Without 0, which is empty and is made by each folder for itself."""
        return {int(path.name) for path in self._batches.glob("[0-9]*")} - {0}

    def _there(self) -> set[int]:
        import obstore

        pages = obstore.list(self._store, prefix="manifests")
        return {int(Path(entry["path"]).stem) for page in pages for entry in page}

    def _put(self, number: int) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        folder = self._batches / f"{number:06d}"
        files = list(_files_of(folder))
        for file in files:
            obstore.put(self._store, file.object, folder / file.path, max_concurrency=PARTS_AT_ONCE)
        manifest = json.dumps({"batch": number, "files": [asdict(file) for file in files]}, indent=1).encode()
        try:
            obstore.put(self._store, _manifest(number), manifest, mode="create", use_multipart=False)
        except AlreadyExistsError:  # our own, whose answer was lost, or that of another writer
            self._compare(number)

    def _compare(self, number: int) -> None:
        """By the batch's own manifest: its files may have become one with those of other batches here."""
        path = "manifest.json"
        here = hashlib.sha256((self._batches / f"{number:06d}" / path).read_bytes()).hexdigest()
        if here not in (file.sha256 for file in self._listed(number) if file.path == path):
            raise self._different(number)

    def _different(self, number: int) -> LakeBucketError:
        return LakeBucketError(
            f"batch {number} in {self._batches} is not that of {self.url}. Either two folders have added batches,"
            " or the bucket has another lake. If it has another lake, set HEADROOM_LAKE_URL to a prefix of its own."
            f" Otherwise move the whole folder {self._batches} away, because its files have rows of several batches."
            " Also move warehouse.duckdb, which may have counted them. Then run again: the run fetches the bucket's"
            " batches. Landing files of batches that never reached the bucket are read again."
        )

    def _listed(self, number: int) -> list[StoredFile]:
        import obstore

        content = json.loads(bytes(obstore.get(self._store, _manifest(number)).bytes()))
        return [StoredFile(**file) for file in content["files"]]

    def _fetch(self, number: int, committed: Committed) -> None:
        import obstore

        with committed(self._batches / f"{number:06d}") as folder:
            for file in self._listed(number):
                path = folder / file.path
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise LakeBucketError(
                        f"{self.url}/{_manifest(number)} names {file.path}, which is not a file of a batch"
                    )
                path.parent.mkdir(parents=True, exist_ok=True)
                whole = hashlib.sha256()
                with path.open("wb") as target:
                    for chunk in obstore.get(self._store, file.object).stream(min_chunk_size=CHUNK_BYTES):
                        whole.update(chunk)
                        target.write(chunk)
                if whole.hexdigest() != file.sha256:
                    raise LakeBucketError(
                        f"{self.url}/{file.object} is not what Headroom stored. Restore that version of the object,"
                        f" or restore batch {number} in {self._batches} from a backup"
                    )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise LakeBucketError(
                f"{self.url} lacks an object or bucket ({first_line(error)}): check HEADROOM_LAKE_URL. If a"
                " manifest names the object, restore it in the bucket"
            ) from error
        except BaseError as error:
            raise LakeBucketError(
                f"{self.url} refuses a request ({first_line(error)}). Check HEADROOM_LAKE_URL and the store's own"
                " variables, then run again; nothing is lost or read twice."
            ) from error


def _manifest(number: int) -> str:
    return f"manifests/{number:06d}.json"


def _files_of(folder: Path) -> Iterator[StoredFile]:
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        relative = path.relative_to(folder)
        stored = Path("batches", folder.name, relative.with_name(f"{path.stem}.{sha256[:16]}{path.suffix}"))
        yield StoredFile(relative.as_posix(), stored.as_posix(), path.stat().st_size, sha256)
