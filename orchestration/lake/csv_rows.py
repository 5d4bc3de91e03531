"""The rows of a CSV, each with the lines that it was written in, and reading on behind a row that cannot be read.

A quote that is never closed, or stands where none may, costs the line that it is in: reading goes on at the next one.
What the cells mean is in `readers.py`.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from orchestration.lake.damage import OpenEndError
from orchestration.lake.dialects import BOM, columns_of, find_dialect, is_separator_line
from orchestration.usage import events

_MANY_BLANK_LINES = re.compile(rb"(?:\A|\n)[ \t\r\n]{64,}\n")
MAX_ROW_BYTES = 8 * 2**20
"""Of a longer line only the beginning is kept; a longer row of several lines is none: a quote was not closed."""


class CutLine(bytes):
    """The beginning of a line that is too long, with how much is missing."""


class BlankLines(bytes):
    """Many blank lines: each for itself they would cost as much as rows."""


class Row(NamedTuple):
    """One row, or a line of none."""

    cells: list[str] | None
    """Empty where there is nothing in it; None where it cannot be read."""
    lines: list[bytes]
    blanks: int = 0
    """Lines before it that were not given."""


class _TooLongError(ValueError):
    """The lines of a row are more than a row may have."""


class Rows:
    """The rows behind the header."""

    def __init__(self, pieces: Iterable[bytes], is_ended: Callable[[], bool]) -> None:
        csv.field_size_limit(MAX_ROW_BYTES)  # of the process: by default 131,072 characters, which properties may have
        begin, pieces = _beginning(pieces)
        self._separator = find_dialect(begin).separator
        self._text = _Text(pieces, is_ended)
        self.columns: list[str] = []
        """As the events have them, once the first row is there."""
        self._header: list[str] | None = None
        self._event_column: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the last line that was given has no line break."""
        return self._text.is_open

    def read(self) -> Iterator[Row]:
        """Each row.

        :raises OpenEndError: the last row may be written only half.
        """
        text = self._text
        while True:
            rows = csv.reader(text, strict=True, delimiter=self._separator)
            try:
                for row in rows:
                    if len(text.taken) > 1 and self._is_torn(row):
                        break
                    yield Row(self._told(row), text.take(), text.take_blanks())
                else:
                    return
            except (csv.Error, _TooLongError):
                pass
            yield Row(None, [text.give_up()], text.take_blanks())

    def _told(self, row: list[str]) -> list[str]:
        if self._header is None:
            if not row or is_separator_line(self._text.taken[-1]):
                return []
            self._header, self.columns = row, columns_of(row)
            at = [position for position, name in enumerate(self.columns) if name in events.NAME_FIELDS]
            self._event_column = at[0] if at else None
        return [] if row == self._header else row  # again where files were put together

    def _is_torn(self, row: list[str]) -> bool:
        """Whether a quote was not closed, so that rows of their own are cells of this one."""
        if self._header is None:
            return False
        return len(row) != len(self._header) or any(self._is_row(line, row) for line in self._text.taken[1:-1])

    def _is_row(self, line: bytes, around: list[str]) -> bool:
        """Whether the line, which is in a cell of the row `around`, is a row of its own: an event of a known name, or
        of the name that this row has, for a meter may count any.
        """
        try:
            [row] = csv.reader([line.decode("utf-8", "surrogateescape")], strict=True, delimiter=self._separator)
        except (csv.Error, ValueError):
            return False
        at, header = self._event_column, self._header
        if at is None or header is None or len(row) != len(header):
            return False
        return row[at] in (*events.EVENT_NAMES, around[at])


class _Text:
    """Lines for the reader of a CSV; `taken` are those of the row that is being read."""

    def __init__(self, pieces: Iterable[bytes], is_ended: Callable[[], bool]) -> None:
        self._lines, self._is_ended = self._split(pieces), is_ended
        self._again: deque[bytes] = deque()
        self._is_last_open = False
        self._is_all = False
        self.taken: list[bytes] = []
        self._taken_bytes = self._blanks = 0

    @property
    def is_open(self) -> bool:
        return self._is_last_open and self._is_all and not self._again

    def take(self) -> list[bytes]:
        """The lines of the row, which is read."""
        lines, self.taken, self._taken_bytes = self.taken, [], 0
        return lines

    def take_blanks(self) -> int:
        count, self._blanks = self._blanks, 0
        return count

    def give_up(self) -> bytes:
        """The first line of the row, which cannot be read; the others are given again."""
        first, *others = self.take()
        self._again.extendleft(reversed(others))
        return first

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines, None)
        while isinstance(line, BlankLines) and not self.taken:
            self._blanks += line.count(b"\n")
            line = self._again.popleft() if self._again else next(self._lines, None)
        if line is None:
            if self.taken and not self._is_ended():
                raise OpenEndError  # in the middle of a cell of several lines
            raise StopIteration
        is_open = self._is_last_open and self.is_open
        if is_open and not self._is_ended():
            raise OpenEndError
        if line.startswith(BOM) and not isinstance(line, CutLine):
            line = line.removeprefix(BOM)
        self._taken_bytes += len(line)
        if self.taken and (self._taken_bytes > MAX_ROW_BYTES or isinstance(line, CutLine | BlankLines)):
            self._again.appendleft(line)
            raise _TooLongError
        self.taken.append(line)
        if isinstance(line, CutLine):
            raise _TooLongError
        # bytes that are no UTF-8 pass through, so that the line is refused for what it is
        return line.decode("utf-8", "surrogateescape") + ("" if is_open else "\n")

    def _split(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        rest, kept, cut_bytes = b"", b"", 0
        for piece in pieces:
            block, begin = rest + piece, 0
            if cut_bytes:
                end = block.find(b"\n")
                if end < 0:
                    cut_bytes, rest = cut_bytes + len(block), b""
                    continue
                yield _cut(kept, cut_bytes + end)
                cut_bytes, begin = 0, end + 1
            for found in _MANY_BLANK_LINES.finditer(block, begin):
                start = found.start() + (found.start() > begin)  # the line break before ends another line
                if start > begin:
                    yield from block[begin : start - 1].split(b"\n")
                yield BlankLines(block[start : found.end()])
                begin = found.end()
            *lines, rest = block[begin:].split(b"\n")
            yield from lines
            if len(rest) > MAX_ROW_BYTES:
                kept, cut_bytes, rest = rest[:MAX_ROW_BYTES], len(rest) - MAX_ROW_BYTES, b""
        self._is_all = True
        if rest or cut_bytes:
            self._is_last_open = True
            yield _cut(kept, cut_bytes) if cut_bytes else rest


def _cut(kept: bytes, cut_bytes: int) -> CutLine:
    return CutLine(kept + f" … cut off: {cut_bytes:,} more bytes".encode())


def _beginning(pieces: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """What shows how the CSV is written, and all of it, with line breaks as on Unix where those are of an old Mac."""
    rest, begin = iter(pieces), b""
    for piece in rest:
        begin += piece
        # a line, that of a separator perhaps, and another, with what follows its end
        if len(begin.splitlines()) > 2 or len(begin) > MAX_ROW_BYTES:
            break
    text = begin.removeprefix(BOM).lstrip(b"\r\n")
    first = text.splitlines(keepends=True)[:1]
    if first and first[0].endswith(b"\r") and len(first[0]) < len(text):
        return text.replace(b"\r", b"\n"), (piece.replace(b"\r", b"\n") for piece in chain([begin], rest))
    return text, chain([begin], rest)
