"""What is foreign is data: no line, file name or error speaks to the terminal."""

import ast
import io
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from orchestration.cli import console as module
from orchestration.cli.console import PrintableConsole, plain_output, print_findings, print_log, print_rows
from orchestration.usage.findings import Finding

EVIL = "a\x1b]0;owned\x07\x1b[31mb\x9b2J\u202ec"
CLI = Path(module.__file__).parent


def is_harmless(text: str) -> bool:
    return not set("\x1b\x07\x9b\u202e") & set(text)


def test_console_prints_no_control_character() -> None:
    stream = io.StringIO()
    console = PrintableConsole(file=stream, width=200)
    table = Table(EVIL)
    table.add_row(EVIL)
    console.print(EVIL, Text(EVIL), table, markup=False)
    console.print(Text("two\nlines"))

    assert is_harmless(stream.getvalue())
    assert "two\nlines" in stream.getvalue()
    assert "[31mb" in stream.getvalue()


def test_console_keeps_its_own_styles() -> None:
    stream = io.StringIO()
    PrintableConsole(file=stream, force_terminal=True, color_system="standard").print(Text("red", "red"))

    assert stream.getvalue() == "\x1b[31mred\x1b[0m\n"


def test_errors_and_findings_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    print_log(EVIL, "red")
    print_findings([Finding(EVIL, EVIL)])
    captured = capsys.readouterr()

    assert is_harmless(captured.out + captured.err)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_csv_is_harmless_on_a_terminal_and_whole_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    print_rows(["name"], [[EVIL]], as_csv=True)
    assert EVIL in capsys.readouterr().out

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_rows(["name"], [[EVIL]], as_csv=True)
    plain_output().write("a\n\tb")
    assert is_harmless(terminal.getvalue())
    assert terminal.getvalue().endswith("a\n\tb")


def test_commands_print_through_the_console() -> None:
    """A plain print, or a console of its own, would let through what it is given."""
    found = [
        f"{path.name}:{node.lineno}"
        for path in CLI.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "Console", "typer.secho")
    ]
    assert found == []
