"""The text of a file of accounts: a CSV with a header. What its cells mean is in `account_files.py`."""

import csv
import io
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestration.lake.cells import strip

MAX_CELL = 131_072
"""Characters. More is a quote that was never closed, not a name. The csv module has such a limit as well, but one of
the whole process, which the reader of events raises."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row."""

    line_number: int
    cells: Mapping[str, str]
    """Text by known column."""
    _header: Sequence[str]
    _row: Sequence[str]

    @property
    def has_more_cells_than_names(self) -> bool:
        return len(self._row) > len(self._header)

    @property
    def has_fewer_cells_than_names(self) -> bool:
        return len(self._row) < len(self._header)

    @property
    def text(self) -> str:
        """All of it, as JSON, under the names of the header."""
        header, row = self._header, self._row
        named: dict[str, object] = {name: row[i] if i < len(row) else None for i, name in enumerate(header)}
        more = list(row[len(header) :])
        return json.dumps({**named, "": more} if more else named)

    @property
    def is_blank(self) -> bool:
        return not any(map(strip, self.cells.values())) and not self.has_more_cells_than_names


@dataclass(frozen=True)
class Sheet:
    """A file of accounts."""

    columns: Sequence[str]
    """Those that are known, as the code calls them."""
    unknown: Sequence[str]
    rows: Iterable[Row]
    """Parsed each time that somebody goes through them: as objects, all of them take ten times the file.

    :raises ValueError: a quote in them cannot be right.
    """
    ends_a_line: bool
    """Whether its last line does: a file that is cut hardly ends there."""

    @property
    def last_row(self) -> Row | None:
        return next(iter(deque(self.rows, maxlen=1)), None)


@dataclass(frozen=True)
class _Rows:
    name: str
    content: bytes
    columns: Mapping[str, int]
    """Where each known column is."""

    def __iter__(self) -> Iterator[Row]:
        parsed = _parsed(self.name, self.content)
        _, header = next(parsed)
        for line_number, row in parsed:
            cells = {name: row[i] if i < len(row) else "" for name, i in self.columns.items()}
            yield Row(line_number, cells, header, row)


def read(name: str, content: bytes, known: Iterable[str], needed: Sequence[str]) -> Sheet:
    """The rows of a file called `name`. Names of columns are compared without case and blanks around them.

    :raises ValueError: it is not a table with the columns that are needed; says where, why and what to do.
    """
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = content.rfind(b"\n", 0, error.start) + 1
        line_number = content.count(b"\n", 0, error.start) + 1
        shown = content[start : error.end + 20].splitlines()[0].decode("latin-1")[-40:]
        raise ValueError(
            f"{name} is not UTF-8 text: line {line_number} has {shown!r} if it is Latin-1; export it as UTF-8"
        ) from error
    _, header = next(_parsed(name, content), (0, []))
    columns = _columns(name, header, list(known), needed)
    unknown = [strip(column) for column in header if strip(column) and strip(column).lower() not in columns]
    return Sheet(list(columns), unknown, _Rows(name, content, columns), content.endswith((b"\n", b"\r")))


def _parsed(name: str, content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, the header too, with the number of its last line."""
    # strict: without it a quote that is never closed swallows the rows behind it
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""), strict=True)
    try:
        for row in filter(None, reader):
            yield reader.line_num, _bounded(row)
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}; look at its quotes") from error


def _bounded(row: list[str]) -> list[str]:
    if max(map(len, row)) > MAX_CELL:
        raise csv.Error(f"a cell has more than {MAX_CELL:,} characters")
    return row


def _columns(name: str, header: Sequence[str], known: Sequence[str], needed: Sequence[str]) -> dict[str, int]:
    """Where each known column is."""
    found = [strip(column).lower() for column in header]
    if missing := [column for column in needed if column not in found]:
        more = [column for column in known if column not in needed]
        besides = f" (and {', '.join(more)} where known)" if more else ""
        raise ValueError(
            f"{name}: the first line must name the columns, among them {', '.join(needed)}{besides};"
            f" it names {list(header) or 'none'}" + (f", so {', '.join(missing)} is missing" if header else "")
        )
    if twice := [column for column, count in Counter(found).items() if count > 1 and column in known]:
        raise ValueError(f"{name}: the first line names {', '.join(twice)} more than once; name each column once")
    return {column: found.index(column) for column in found if column in known}
