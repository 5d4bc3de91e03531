"""The terminal that every command prints to: the console, error lines, rows of a query, findings of a check."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

import typer
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from orchestration.usage.findings import Finding
from orchestration.usage.formatting import printable
from orchestration.usage.spreadsheet import SpreadsheetWriter

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class PrintableConsole(Console):
    """A console whose texts, wherever they come from, cannot speak to the terminal: lines, names of files, errors."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, keeps_lines=True), segment.style)


class _Terminal:
    """The standard output where it is a terminal."""

    def write(self, text: str) -> int:
        return sys.stdout.write(printable(text, keeps_lines=True))


console = PrintableConsole(width=None if sys.stdout.isatty() else 170, soft_wrap=False, highlight=False)


def plain_output() -> "SupportsWrite[str]":
    """Where text goes that is not wrapped and not styled, such as CSV: as it is to a file, printable to a terminal."""
    return _Terminal() if sys.stdout.isatty() else sys.stdout


def print_error(message: str) -> None:
    """A sentence on stderr, in red."""
    print_log(f"headroom: {message}", "red")


def fail(message: str) -> NoReturn:
    """Ends the command with that sentence and exit status 1."""
    print_error(message)
    raise typer.Exit(1)


def print_log(line: str, style: str) -> None:
    """A line on stderr, however long."""
    PrintableConsole(stderr=True, soft_wrap=True, highlight=False).print(Text(line, style))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[object]], as_csv: bool) -> None:
    """The answer to a query, as a table or as CSV."""
    if as_csv:
        writer = SpreadsheetWriter(plain_output(), "\n")
        writer.write([columns])
        writer.write([value if isinstance(value, str) else _cell(value) for value in row] for row in rows)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)


def print_findings(findings: Sequence[Finding]) -> None:
    """What the check of a channel has found, a line each."""
    for finding in findings:
        mark = "ok" if not finding.problem else "FAILS" if finding.is_needed else "missing"
        style = {"ok": "green", "FAILS": "bold red", "missing": "yellow"}[mark]
        problem = f": {finding.problem}" if finding.problem else ""
        console.print(Text(f"{mark:8}", style), Text(f"{finding.subject}{problem}"), sep="")
