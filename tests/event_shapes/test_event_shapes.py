"""Every case of docs/data-in/events.md is what really happens, and the page is up to date."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.warehouse.seeds import read_meters
from tests.event_shapes import files, lines, page, requests
from tests.event_shapes.case import NOW, Case, FileCase, RequestCase, call, said
from tests.orchestration.collector import loopback
from tests.orchestration.lake.world import World

CALLS = ("event_name", "account_id", "event_at", "source", "event_id", "sample_weight", "endpoint", "status")
OTHERS = ("event_name", "account_id", "event_at", "source", "event_id", "quota")
WRITTEN = NOW - timedelta(days=1)
"""So that a file is not taken for one that is still written."""
WHERE = ("landed_file", "line_number")


@dataclass
class Outcome:
    """What an ingestion made of files."""

    world: World

    def __post_init__(self) -> None:
        self.world.ingest(now=NOW)
        origins = {file.origin for file in self.world.known().values()}
        self.events: list[tuple[str, int, str]] = []
        for columns, folder in ((CALLS, "calls/*/*.parquet"), (OTHERS, "others*.parquet")):
            if list(self.world.lake.root.glob(f"batches/*/{folder}")):
                for row in self.world.rows(", ".join((*WHERE, *columns)), f"batches/*/{folder}"):
                    event: dict[str, Any] = dict(zip((*WHERE, *columns), row, strict=True))
                    is_own = event["source"] not in origins
                    event |= {"own_id": event["event_id"]} if is_own else {"source": ""}
                    self.events.append((event["landed_file"], event["line_number"], said(event)))
        is_clean = not list(self.world.lake.root.glob("batches/*/rejected*.parquet"))
        self.rejected: list[Any] = [] if is_clean else self.world.rejected("landed_file, line_number, reason")

    def of(self, file: str, numbers: range | None = None) -> tuple[list[str], list[str]]:
        """What the events say, and the reasons, of a file or of some of its lines."""

        def is_meant(found: Any) -> bool:
            return bool(found[0] == file and (numbers is None or found[1] in numbers))

        return (
            sorted(text for *where, text in self.events if is_meant(where)),
            [reason for *where, reason in self.rejected if is_meant(where)],
        )


def expected(case: Case) -> tuple[list[str], list[str]]:
    return sorted(case.reads), list(case.reasons)


def named(cases: list[Any]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def of_line(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], tuple[list[str], list[str]]]:
    """The outcome of a case of `lines.py`: all are in one file."""
    world = World(tmp_path_factory.mktemp("lines"))
    world.meters = read_meters(PROJECT_ROOT / "dbt_project")
    texts, numbers = list[str](), dict[str, range]()
    for case in (*lines.EVENTS, *lines.TIMES, *lines.REFUSED):
        text = call(timestamp=case.example) if case in lines.TIMES else str(case.example)
        numbers[case.name] = range(len(texts) + 1, len(texts) + 1 + len(text.splitlines()))
        texts += text.splitlines()
    world.land(*texts)
    outcome = Outcome(world)
    return lambda case: outcome.of("a.ndjson", numbers[case.name])


@named([*lines.EVENTS, *lines.TIMES, *lines.REFUSED])
def test_line_is_read_as_the_page_says(case: Case, of_line: Callable[[Case], Any]) -> None:
    assert of_line(case) == expected(case)


@named(files.FILES)
def test_file_is_read_as_the_page_says(case: FileCase, tmp_path: Path) -> None:
    world = World(tmp_path)
    path = world.landing / case.file
    path.write_bytes(case.stored(str(case.example).encode()))
    os.utime(path, (WRITTEN.timestamp(),) * 2)
    outcome = Outcome(world)

    assert outcome.of(case.file) == expected(case)
    assert [case.refused in skipped.reason for skipped in world.skipped] == ([True] if case.refused else [])


@dataclass
class Answered:
    """Requests that were sent one after another: their answers, and the lines of landing files that they left."""

    replies: dict[str, loopback.Reply]
    numbers: dict[str, range]
    outcome: Outcome
    file: str


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    data = tmp_path_factory.mktemp("requests")
    settings = loopback.settings(data).model_copy(update={"fixed_now": NOW})
    assert isinstance(settings, Settings)
    replies, numbers = dict[str, loopback.Reply](), dict[str, range]()
    with loopback.Collecting(settings) as collector:
        stored = 0
        for case in requests.REQUESTS:
            body = str(case.example).replace("<key>", loopback.KEY).encode()
            headers = {name: value.replace("<key>", loopback.KEY) for name, value in case.headers.items()}
            replies[case.name] = loopback.request(collector.port, case.path, body, headers)
            before, stored = stored, sum(len(path.read_bytes().splitlines()) for path in collector.folder.glob("*"))
            numbers[case.name] = range(before + 1, stored + 1)
        collector.stop()
        [segment] = collector.folder.glob("*.ndjson")
    world = World(data)
    yield Answered(replies, numbers, Outcome(world), str(segment.relative_to(world.landing)))


@named(requests.REQUESTS)
def test_request_is_taken_as_the_page_says(case: RequestCase, answered: Answered) -> None:
    reply = answered.replies[case.name]
    assert reply.status == case.status
    if case.answer:
        assert reply.json == json.loads(case.answer)
    elif case.status >= 400:
        assert reply.json["error"]
    assert answered.outcome.of(answered.file, answered.numbers[case.name]) == expected(case)


def test_names_of_cases_are_distinct() -> None:
    for cases in ([*lines.EVENTS, *lines.TIMES, *lines.REFUSED], files.FILES, requests.REQUESTS):
        names = [case.name for case in cases]  # type: ignore[attr-defined]
        assert len(set(names)) == len(names)


def test_page_is_what_the_cases_say() -> None:
    written = page.PAGE.read_text(encoding="utf-8")
    assert written == page.text(), "run: .venv/bin/python -m tests.event_shapes.page"
