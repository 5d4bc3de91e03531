"""docs/reference/cli.md: every command with its arguments and options, from the program itself."""

from collections.abc import Iterator

from click import Argument, Choice, Command, Context, Group, IntRange, Option, Parameter
from typer.main import get_command

from orchestration.cli.main import app
from tests.docs.markdown import cell, made_from, table


def text() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    program = get_command(app)
    yield "# Commands"
    yield ""
    yield from made_from("orchestration/cli/")
    yield "`headroom` is `.venv/bin/headroom`. Each command has `--help`. `headroom --debug …` shows tracebacks."
    yield ""
    yield "An exit status of 0 means that it worked, 1 that something is wrong, and 2 that the command was mistyped."
    yield ""
    assert isinstance(program, Group)
    single = {name: command for name, command in program.commands.items() if not isinstance(command, Group)}
    groups = {name: command for name, command in program.commands.items() if isinstance(command, Group)}
    yield from table(
        ("command", "what it does"),
        [(f"[`headroom {name}`](#headroom-{name})", _summary(each)) for name, each in (single | groups).items()],
    )
    for name, command in (single | groups).items():
        yield from _command(command, f"headroom {name}", "##")


def _command(command: Command, path: str, level: str) -> Iterator[str]:
    yield f"{level} {path}"
    yield ""
    for paragraph in (command.help or "").split("\n\n"):
        yield cell(paragraph)
        yield ""
    usage = " ".join((path, *command.collect_usage_pieces(Context(command))))
    has_options = any(isinstance(each, Option) for each in command.params)
    yield from ("```text", usage if has_options else usage.replace(" [OPTIONS]", ""), "```", "")
    if rows := [_row(each) for each in command.params if isinstance(each, Argument | Option)]:
        yield from table(("argument or option", "what it is", "value", "default"), rows)
    if isinstance(command, Group):
        for name, each in command.commands.items():
            yield from _command(each, f"{path} {name}", "###")


def _summary(command: Command) -> str:
    return command.get_short_help_str(limit=500)


def _row(parameter: Parameter) -> tuple[str, str, str, str]:
    is_option = isinstance(parameter, Option)
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    is_flag = isinstance(parameter, Option) and parameter.is_flag
    value = "" if is_flag else _value(parameter)
    default = "" if is_flag or parameter.default in (None, "") else f"`{parameter.default}`"
    words = getattr(parameter, "help", None) or ""
    if parameter.required:
        default = "required"
    return names if is_option else f"`{parameter.human_readable_name.upper()}`", words, value, default


def _value(parameter: Parameter) -> str:
    match parameter.type:
        case Choice(choices=choices):
            return ", ".join(f"`{choice}`" for choice in choices)
        case IntRange(min=least, max=None):
            return f"integer, at least {least}"
        case IntRange(min=least, max=most):
            return f"integer, {least} to {most}"
        case kind:
            return {"datetime": "date", "directory": "folder"}.get(kind.name, kind.name)
