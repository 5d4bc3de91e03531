"""Write docs/data-in/events.md from the cases: `.venv/bin/python -m tests.event_shapes.page`."""

from collections.abc import Iterator

from orchestration.settings import PROJECT_ROOT
from orchestration.usage import events, meters
from orchestration.usage.events import Rejection
from tests.event_shapes import files, lines, requests
from tests.event_shapes.case import Case, FileCase, RequestCase

PAGE = PROJECT_ROOT / "docs" / "data-in" / "events.md"


def text() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Events: every shape that is read"
    yield ""
    yield "A test lands or posts each example. `.venv/bin/python -m tests.event_shapes.page` writes this page from the"
    yield "tests: change [the cases](../../tests/event_shapes), not the page."
    yield ""
    yield "All times are UTC. An event without a time has that of its arrival: at the collector, or at the ingestion."
    yield ""
    yield "[Events](#events) · [Times](#times) · [Lines that do not count](#lines-that-do-not-count) ·"
    yield "[Files](#files) · [Tables](#tables) · [Files that are not read](#files-that-are-not-read) ·"
    yield "[Requests](#requests)"
    yield from _heading("Events")
    yield "The first field that is there, and not null, counts:"
    yield ""
    for what, fields in (
        ("name", events.NAME_FIELDS),
        ("account", events.ACCOUNT_FIELDS),
        ("id", events.ID_FIELDS),
        ("time", events.TIME_FIELDS),
        ("quota", events.QUOTA_FIELDS),
        ("weight", events.WEIGHT_FIELDS),
    ):
        yield f"- {what}: {', '.join(f'`{field}`' for field in fields)}"
    yield ""
    yield "`data` stands for `properties`. An event with neither is flat: its other fields are its properties."
    yield ""
    names = ", ".join(f"`{name}`" for name in events.EVENT_NAMES)
    yield f"Headroom takes events of these names: {names}. It also takes those of the"
    yield "`event_names` in [`meters.csv`](../../dbt_project/seeds/meters.csv). All others go to quarantine. Once a"
    yield "meter names them, `headroom rejected --replay` takes them from there. What the lake has of a removed name"
    yield "stays."
    yield ""
    yield "Values are judged when they are counted: `headroom meters check` shows what each meter counts of the last"
    yield 'day. A value is a number or its text: `12`, `"12.50"`, `1e3`. It has at most the places of the meter\'s'
    yield "`decimals`, and is at most 10^15 of the smallest step. Other values do not count, for one of these reasons:"
    yield f"{', '.join(meters.Refusal)}."
    yield ""
    yield "A `quota_set` event with a `metric` sets the quota of that meter: by its `quota_property`, else by the"
    yield "fields above. Without one it sets the quota of each meter whose `quota_property` is there, and by those"
    yield "fields that of the main meter. If one of these is wrong, the whole event goes to quarantine."
    for case in lines.EVENTS:
        yield from _example(case, "json")
    yield from _heading("Times")
    yield "| time | example | read as |"
    yield "|---|---|---|"
    for case in lines.TIMES:
        read = case.reads[0].partition(", ")[2] if case.reads else f"refused: `{case.reasons[0]}`"
        yield f"| {case.name} | `{case.example}` | {read}{_note(case)} |"
    yield from _heading("Lines that do not count")
    yield "They are in quarantine: `headroom rejected` shows them."
    yield ""
    yield "| line | reason | what it means |"
    yield "|---|---|---|"
    for case in lines.REFUSED:
        shown = str(case.example).replace("\n", "`<br>`").replace("|", "\\|")
        [reason] = case.reasons
        yield f"| {case.name}: `{shown}` | `{reason}` | {Rejection(reason).explanation} |"
    yield from _heading("Files")
    yield "The bytes of a file decide how it is read, not its name. A file whose name ends in `.part` or `.tmp`, or"
    yield "begins with a dot, is still being written: it waits."
    for each in files.NDJSON:
        yield from _example(each, "json", f" (`{each.file}`)")
    yield ""
    yield "The first of these examples is read as the same events from other bytes:"
    yield ""
    yield "| bytes | for example |"
    yield "|---|---|"
    for each in files.SAME:
        yield f"| {each.name}{_note(each)} | `{each.file}` |"
    yield ""
    yield "Damage costs what it hit, and each loss is in quarantine:"
    for each in files.DAMAGED:
        yield from _example(each, "json", f" (`{each.file}`)")
    yield from _heading("Tables")
    yield "Each column of a known name is that field, in any capitals. Every other column is a property. The last row"
    yield "counts when it has its line break, or when the file is finished: a newer file of its series is there, or"
    yield "`.done` beside it, or nothing was written for a day."
    for each in files.TABLES:
        yield from _example(each, "csv", f" (`{each.file}`)")
    yield from _heading("Files that are not read")
    yield "The run and `headroom doctor` name them, with the reason."
    yield ""
    yield "| file | begins with | the reason says |"
    yield "|---|---|---|"
    for each in files.REFUSED:
        yield f"| {each.name} (`{each.file}`) | `{str(each.example).splitlines()[0]}` | “… {each.refused} …” |"
    yield from _heading("Requests")
    yield "Any of them may be compressed with gzip. [The collector's page](http.md) has"
    yield "keys, limits and answers."
    for request in requests.TAKEN:
        yield from _request(request)
    yield ""
    yield "| refused | answer |"
    yield "|---|---|"
    for request in requests.REFUSED:
        yield f"| {request.name}: `POST {request.path}` with {_sent(request)} | {request.status} |"


def _heading(words: str) -> Iterator[str]:
    yield from ("", f"## {words}", "")


def _example(case: Case, language: str, where: str = "") -> Iterator[str]:
    yield ""
    yield f"**{case.name}**{where}{_note(case)}"
    yield ""
    yield f"```{language}"
    yield str(case.example).rstrip("\n")
    yield "```"
    yield ""
    yield from _outcome(case)


def _request(case: RequestCase) -> Iterator[str]:
    yield ""
    yield f"**{case.name}**{_note(case)}"
    yield ""
    yield "```http"
    yield f"POST {case.path}"
    yield from (f"{name}: {value}" for name, value in case.headers.items())
    yield ""
    yield str(case.example)
    yield "```"
    yield ""
    yield f"The answer is {case.status}{f' `{case.answer}`' if case.answer else ''}."
    yield ""
    yield from _outcome(case)


def _outcome(case: Case) -> Iterator[str]:
    yield from (f"- {each}" for each in case.reads)
    yield from (f"- in quarantine: `{reason}`" for reason in case.reasons)


def _sent(case: RequestCase) -> str:
    headers = [f"`{name}: {value}`" for name, value in case.headers.items()]
    return " and ".join([*headers[-1:], f"`{case.example}`"])


def _note(case: Case | FileCase) -> str:
    return f": {case.note}" if case.note else ""


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
