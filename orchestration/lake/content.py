"""What a landed file says, as lines of JSON, read from its beginning or, where it is plain, from anywhere.

Line k of the content is line k of the file, so that a line number leads back to it; of a Parquet file it is row k, of
JSON that does not keep to its lines what `json_items.py` says. What a file is, is in `formats.py`, how bytes are
decoded in `readers.py`, which part of the content was read before is `landing.py`'s business, and what a
line means is decided in `event_sql.py`.
"""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from orchestration.lake import dialects, formats, json_items, readers
from orchestration.lake.damage import CutShortError, DamagedError
from orchestration.lake.sources import CHANGED, Source, SourceFile
from orchestration.usage.formatting import amount

CHUNK_BYTES = 2**20
"""Read at a time. Below, the calls cost more than the bytes; above, only memory grows."""
SETTLED_SECONDS = 60
"""A file whose end is missing counts as still being written until it was left alone for so long."""


class Content:
    """The content of one file; `damage` says afterwards what cut it short, if anything."""

    def __init__(self, pieces: Iterator[bytes], file_format: str) -> None:
        self.format = file_format
        self._pieces = pieces
        self._left = b""
        self.damage: str | None = None
        self.unread_bytes = 0
        """Stored ones from there on: 0 also where the end is missing, of which nobody knows how long it was."""

    def read(self, count: int) -> bytes:
        """At most `count` bytes, at least one before the end.

        :raises OSError: the file cannot be read, changed meanwhile, or is still being written.
        """
        while not self._left:
            try:
                self._left = next(self._pieces)
            except StopIteration:
                return b""
            except DamagedError as error:
                self.damage, self.unread_bytes = str(error), error.unread_bytes
                return b""
        piece, self._left = self._left[:count], self._left[count:]
        return piece

    def skip_lines(self, count: int, see: Callable[[bytes], object] = lambda _: None) -> bool:
        """Go behind line `count`, and whether there are so many; `see` gets the bytes on the way."""
        while count > 0 and (piece := self.read(CHUNK_BYTES)):
            there = piece.count(b"\n")
            end = -1
            for _ in range(count if there >= count else 0):
                end = piece.index(b"\n", end + 1)
            count = max(0, count - there)
            if end >= 0:
                self._left = piece[end + 1 :] + self._left
                piece = piece[: end + 1]
            see(piece)
        return count == 0


@contextmanager
def identified(source: Source, file: SourceFile) -> Iterator[Content]:
    """What a file is known by: its content, of rows and items the stored bytes. Its `format` is found out here.

    :raises UnknownFormatError: no event can be read from it.
    :raises OSError: it cannot be read, or changed meanwhile.
    """
    with source.open(file) as stored:
        file_format = formats.find_format(stored, file.path)
        pieces = _stored(stored, file.stored_bytes)
        found = pieces if formats.is_by_row(file_format) else _decoded(file, file_format, stored, pieces, source)
        yield Content(found, file_format)


@contextmanager
def opened(source: Source, file: SourceFile, file_format: str) -> Iterator[Content]:
    """The content of `file`.

    :raises OSError: it cannot be read, or changed meanwhile.
    """
    with source.open(file) as stored:
        pieces = _stored(stored, file.stored_bytes)
        yield Content(_decoded(file, file_format, stored, pieces, source), file_format)


@contextmanager
def opened_stored(source: Source, file: SourceFile, offset: int = 0) -> Iterator[Content]:
    """The bytes of a plain `file` as they are stored, from `offset` on."""
    with source.open(file) as stored:
        stored.seek(offset)
        yield Content(_stored(stored, file.stored_bytes - offset), "ndjson")


def _decoded(
    file: SourceFile, file_format: str, stored: BinaryIO, pieces: Iterator[bytes], source: Source
) -> Iterator[bytes]:
    is_settled = time.time_ns() - file.mtime_ns > SETTLED_SECONDS * 10**9
    kind = formats.kind_of(file_format)
    taken_bytes = 0

    def metered(stored_pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal taken_bytes
        for piece in stored_pieces:
            taken_bytes += len(piece)
            yield piece

    pieces = metered(pieces)
    try:
        if formats.compression_of(file_format) == "gz":
            pieces = readers.gunzip(pieces)
        elif formats.compression_of(file_format) == "zst":
            pieces = readers.unzstd(pieces)
        if kind.endswith(formats.UTF_16):
            kind, pieces = kind.removesuffix(formats.UTF_16), dialects.utf8_pieces(pieces)
        if kind == "parquet":
            pieces = readers.parquet_lines(stored)
        elif kind == "csv":
            # what is compressed has an end of its own
            is_whole = bool(formats.compression_of(file_format))
            pieces = readers.csv_lines(pieces, lambda: is_whole or source.is_ended(file))
        elif kind == "json":
            pieces = json_items.item_lines(pieces)
        yield from pieces
    except CutShortError as error:
        if is_settled:
            raise
        raise OSError(errno.EAGAIN, f"{error}, and it was written to just now: left for later") from error
    except DamagedError as error:
        if not error.unread_bytes or kind == "parquet":  # which says its rows
            raise
        lost_bytes = file.stored_bytes - taken_bytes + error.unread_bytes
        words = f"{error}: about {amount(lost_bytes, 'bytes')} lost, as stored"
        raise DamagedError(words, lost_bytes) from error


def _stored(stored: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        chunk = stored.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise OSError(errno.ESTALE, CHANGED)
        left -= len(chunk)
        yield chunk
