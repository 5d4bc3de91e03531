"""CSV that people open in a spreadsheet: no name in it becomes a formula. All CSV is written here."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_FORMULA = re.compile(r"[=+\-@\t\r]")
"""What a spreadsheet takes for a formula by its beginning."""
_NEGATIVE = re.compile(r"-\d[\d,]*(\.\d+)?")
"""An amount, which may stay one."""


def spreadsheet_cell(value: object) -> object:
    """As it is, but a text that a spreadsheet would compute has an apostrophe before it."""
    is_formula = isinstance(value, str) and _FORMULA.match(value) and not _NEGATIVE.fullmatch(value)
    return f"'{value}" if is_formula else value


class SpreadsheetWriter:
    """Writes rows as CSV to a stream, each text by `spreadsheet_cell`."""

    def __init__(self, stream: "SupportsWrite[str]", line_end: str = "\r\n") -> None:
        self._rows = csv.writer(stream, lineterminator=line_end)

    def write(self, rows: Iterable[Iterable[object]]) -> None:
        self._rows.writerows(map(spreadsheet_cell, row) for row in rows)


def spreadsheet(rows: Sequence[Mapping[str, object]]) -> str:
    """A whole file: the names of the columns, then a line for each of `rows`, of which there is at least one.

    It begins with a byte order mark: without, Excel takes it for the machine's old encoding.
    """
    stream = io.StringIO()
    SpreadsheetWriter(stream).write([list(rows[0]), *(row.values() for row in rows)])
    return f"\ufeff{stream.getvalue()}"
