"""What is remembered of landing files, asked for by what a scan finds: a run reads of it what it needs.

The ledger keeps it; a mapping does in its place where it is small.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import SourceFile


class Stamp(NamedTuple):
    """By what a file is known to be unchanged."""

    stored_bytes: int
    mtime_ns: int
    inode: int
    is_complete: bool

    def is_of(self, file: SourceFile) -> bool:
        return self[:3] == (file.stored_bytes, file.mtime_ns, file.inode)


class Rows(Protocol):
    """What the ledger answers (`ledger/landed.py`)."""

    def stamps(self) -> list[tuple[str, int, int, int, bool]]: ...
    def find(self, column: str, values: Iterable[object]) -> list[dict[str, Any]]: ...
    def damaged(self) -> list[dict[str, Any]]: ...
    def copies(self) -> list[dict[str, Any]]: ...
    def refused(self) -> list[dict[str, Any]]: ...
    def incomplete(self) -> list[dict[str, Any]]: ...


class Remembered(Protocol):
    """What was read before."""

    def stamps(self) -> Mapping[str, Stamp]:
        """By path, of those that were there at the last look."""
        ...

    def find(self, column: str, values: Iterable[object]) -> list[LandedFile]:
        """Those that have one of the values in that field, there or gone."""
        ...

    def damaged(self) -> list[LandedFile]: ...

    def copies(self) -> list[LandedFile]:
        """Those of which nothing was read, because another one has the same content."""
        ...

    def refused(self) -> list[LandedFile]:
        """Those without events."""
        ...

    def incomplete(self) -> list[LandedFile]:
        """Those that were not read to their end."""
        ...


class Asked:
    """In the ledger."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def stamps(self) -> Mapping[str, Stamp]:
        return {path: Stamp(size, mtime, inode, whole) for path, size, mtime, inode, whole in self._rows.stamps()}

    def find(self, column: str, values: Iterable[object]) -> list[LandedFile]:
        return _files(self._rows.find(column, values))

    def damaged(self) -> list[LandedFile]:
        return _files(self._rows.damaged())

    def copies(self) -> list[LandedFile]:
        return _files(self._rows.copies())

    def refused(self) -> list[LandedFile]:
        return _files(self._rows.refused())

    def incomplete(self) -> list[LandedFile]:
        return _files(self._rows.incomplete())


class Listed:
    """In a mapping, by path."""

    def __init__(self, files: Mapping[str, LandedFile]) -> None:
        self._files = files
        self._indexes: dict[str, dict[object, list[LandedFile]]] = {}

    def stamps(self) -> Mapping[str, Stamp]:
        return {
            path: Stamp(file.stored_bytes, file.mtime_ns, file.inode, file.is_complete)
            for path, file in self._files.items()
        }

    def find(self, column: str, values: Iterable[object]) -> list[LandedFile]:
        if column not in self._indexes:
            index: defaultdict[object, list[LandedFile]] = defaultdict(list)
            for file in self._files.values():
                index[getattr(file, column)].append(file)
            self._indexes[column] = dict(index)
        return [file for value in values for file in self._indexes[column].get(value, ())]

    def damaged(self) -> list[LandedFile]:
        return [file for file in self._files.values() if file.damage]

    def copies(self) -> list[LandedFile]:
        return [file for file in self._files.values() if file.copy_of]

    def refused(self) -> list[LandedFile]:
        return [file for file in self._files.values() if file.is_refused]

    def incomplete(self) -> list[LandedFile]:
        return [file for file in self._files.values() if not file.is_complete]


Known = Mapping[str, LandedFile] | Remembered


def of(known: Known) -> Remembered:
    return Listed(known) if isinstance(known, Mapping) else known


def _files(rows: list[dict[str, Any]]) -> list[LandedFile]:
    return [LandedFile(**row) for row in rows]
