"""Memory that the workers of one collector share: each writes its figures there, and any of them reads all.

So `/metrics` has the same answer whichever worker is asked, and what a worker had counted outlives it.
"""

import mmap
import zlib

import orjson

from orchestration.collector.metrics import Snapshot

SLOT_BYTES = 2**20
"""For each worker. Memory that nobody writes costs nothing."""
_HEAD_BYTES = 12
_ATTEMPTS = 100


class Board:
    """To be made before the workers are forked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = mmap.mmap(-1, count * SLOT_BYTES)
        self._seen: dict[int, Snapshot] = {}

    def write(self, index: int, snapshot: Snapshot) -> None:
        """Put a worker's figures into its slot. Where they are too many, what was there stays."""
        text = orjson.dumps(snapshot)
        if len(text) > SLOT_BYTES - _HEAD_BYTES:
            return
        start = index * SLOT_BYTES
        head = len(text).to_bytes(8, "big") + zlib.crc32(text).to_bytes(4, "big")
        self._memory[start : start + _HEAD_BYTES + len(text)] = head + text

    def read(self, index: int) -> Snapshot | None:
        """A worker's figures; None where it never wrote any."""
        start = index * SLOT_BYTES
        for _ in range(_ATTEMPTS):  # it may be writing at this moment
            size = int.from_bytes(self._memory[start : start + 8], "big")
            if size == 0:
                return None
            crc = int.from_bytes(self._memory[start + 8 : start + _HEAD_BYTES], "big")
            text = self._memory[start + _HEAD_BYTES : start + _HEAD_BYTES + min(size, SLOT_BYTES)]
            if zlib.crc32(text) == crc:
                self._seen[index] = orjson.loads(text)
                break
        return self._seen.get(index)

    def all(self) -> list[Snapshot]:
        """Those of all workers."""
        return [snapshot for index in range(self.count) if (snapshot := self.read(index)) is not None]
