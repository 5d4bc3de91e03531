"""The files that the collector writes into the landing folder, and their way from open to sealed. No asyncio here.

    <name>.ndjson.part    open, and locked by its process; ingest does not look at it. Once the process is gone, so
                          is the lock, and any collector of the folder seals it (`leftovers.py`)
    <name>.ndjson         sealed: complete, synced, never changed again

Everything here runs in one thread at a time (`spool.py` sees to that) and may block on the disk. The system calls
are looked up in `os` at each call, so that tests can put a full disk there.
"""

import errno
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from orchestration.collector import leftovers
from orchestration.collector.leftovers import OPEN_SUFFIX, PROBE, SUFFIX, lock, sync_folder

SEAL_BYTES = 32 * 2**20
MAX_UNSETTLED = 8
"""Segments that could not be sealed and are tried again. Beyond that no new one is begun: the disk is not well."""
_BUFFERS_AT_ONCE = 512
"""Half of Linux's IOV_MAX."""

logger = logging.getLogger("headroom.collector")


class Segment:
    """One open file. What lies behind `durable_bytes` was never acknowledged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path, self._descriptor = _create(folder)
        self.opened_at_seconds = time.monotonic()
        self.written_bytes = 0
        self.durable_bytes = 0
        self._is_renamed = False

    def append(self, lines: Sequence[bytes]) -> None:
        """Write the lines and wait until they are on the disk.

        :raises OSError: they are not, or nobody knows; the segment must not be appended to any more.
        """
        for start in range(0, len(lines), _BUFFERS_AT_ONCE):
            self._write(lines[start : start + _BUFFERS_AT_ONCE])
        os.fdatasync(self._descriptor)
        self.durable_bytes = self.written_bytes

    def _write(self, buffers: Sequence[bytes]) -> None:
        left = sum(map(len, buffers))
        while True:
            count = os.writev(self._descriptor, buffers)
            self.written_bytes += count
            left -= count
            if left == 0:
                return
            remaining = []
            for buffer in buffers:  # a disk that is nearly full takes a part and fails on the next call
                if count < len(buffer):
                    remaining.append(buffer[count:])
                count = max(0, count - len(buffer))
            buffers = remaining

    def seal(self) -> None:
        """Cut off what is not durable, sync, rename; an empty segment is removed. May be repeated after an error."""
        if self._descriptor < 0:
            return
        if not self.durable_bytes:
            self.path.unlink(missing_ok=True)
        else:
            if not self._is_renamed:
                os.ftruncate(self._descriptor, self.durable_bytes)
                os.fsync(self._descriptor)
                self.path.rename(self.path.with_suffix(""))
                self._is_renamed = True
            sync_folder(self.folder)
        os.close(self._descriptor)
        self._descriptor = -1


class SegmentWriter:
    """Puts groups of lines into segments, and keeps going when the disk does not."""

    def __init__(self, folder: Path, seal_bytes: int = SEAL_BYTES) -> None:
        self.folder = folder
        self.segment: Segment | None = None
        self.sealed_count = 0
        self._seal_bytes = seal_bytes
        self._unsettled: list[Segment] = []

    @property
    def place(self) -> str:
        return str(self.folder)

    def prepare(self) -> None:
        """Make the folder, and seal what killed processes left.

        :raises OSError: the folder cannot be made or read.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self.folder.parent)
        self.recover()

    def recover(self) -> None:
        """Seal what killed processes left, also while this one serves.

        :raises OSError: the folder cannot be read.
        """
        leftovers.recover(self.folder)

    @property
    def is_settled(self) -> bool:
        return not self._unsettled

    def commit(self, lines: Sequence[bytes]) -> None:
        """Make the lines durable.

        :raises OSError: none of them counts as stored; the next commit begins a new segment.
        """
        if self.segment is not None and self.segment.written_bytes >= self._seal_bytes:
            self.seal()
        segment = self.segment or self._open()
        try:
            segment.append(lines)
        except BaseException:
            self.seal()
            raise

    def seal(self, segment: Segment | None = None) -> None:
        """Seal the open segment, if there is one (and, where given, if it is still that one)."""
        if self.segment is not None and segment in (None, self.segment):
            self._unsettled.append(self.segment)
            self.segment = None
        self.settle()

    def settle(self) -> None:
        """Seal what has to be sealed; what cannot be now stays locked, and for later."""
        for segment in list(self._unsettled):
            try:
                segment.seal()
            except OSError as error:
                logger.warning("cannot seal %s: %s; trying again", segment.path.name, error.strerror)
            else:
                self._unsettled.remove(segment)
                self.sealed_count += segment.durable_bytes > 0

    def probe(self) -> None:
        """Find out whether the disk takes something.

        :raises OSError: it does not.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{PROBE}{secrets.token_hex(8)}{OPEN_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            if os.writev(descriptor, [b"\0" * 4096]) < 4096:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)

    def _open(self) -> Segment:
        self.settle()
        if len(self._unsettled) >= MAX_UNSETTLED:
            raise OSError(errno.EIO, "earlier segments cannot be sealed")
        self.segment = Segment(self.folder)
        return self.segment


def _create(folder: Path) -> tuple[Path, int]:
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:64]
    while True:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = folder / f"{moment}-{host}-{secrets.token_hex(6)}{SUFFIX}{OPEN_SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            # Between creating and locking, the recovery of another process may take it for a leftover.
            if lock(descriptor, path):
                sync_folder(folder)
                return path, descriptor
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)
