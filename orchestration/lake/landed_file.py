"""What is remembered of one landing file. The ledger keeps it; which file is which is decided in `identity.py`."""

from dataclasses import dataclass

from orchestration.lake.damage import LAST_ROW_WAITS
from orchestration.lake.sources import SourceFile


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
    """Path of another file with the same content: nothing of this one was read. Not where this is that file, renamed.
    """
    damage: str | None = None
    """What is wrong behind `size_bytes`; null where the content is whole."""
    format: str | None = None
    """What its bytes are, as `formats.py` found out; null: it was read when names decided that."""
    rows_sha256: str | None = None
    """Of the lines that were read of a row file, so that it is read on where a repaired one goes on from them."""

    head_sha256: str | None = None
    """Of the beginning of the content, so that it is found again under another name: see `lookup.py`."""

    @property
    def is_damaged(self) -> bool:
        """Whether it cannot be read on; one whose last row waits can."""
        return self.damage not in (None, LAST_ROW_WAITS)

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
