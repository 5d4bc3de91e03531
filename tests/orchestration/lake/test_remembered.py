"""What is remembered, asked of the ledger: it plans as a mapping does, and reads nothing of what is gone."""

import gzip
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake import landing, passed_over
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.remembered import Asked, Known, Listed
from orchestration.lake.sources import Folder
from orchestration.ledger.landed import LandedFiles
from orchestration.ledger.ledger import Ledger
from tests.orchestration.lake.test_landing import append
from tests.support import ledgers
from tests.support.builders import NOW, land


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / "ledger.sqlite").write_bytes(ledgers.empty())
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ledger
    ledger.close()


def planned(folder: Path, known: Known) -> list[LandedFile]:
    place = Folder(folder)
    return [entry for entry in landing.plan(place, place.scan()[0], known) if isinstance(entry, LandedFile)]


def read(folder: Path, files: list[LandedFile]) -> list[LandedFile]:
    """As they are remembered once they were read to their end."""
    whole = [file for file in files if file.is_complete]
    return whole + [list(landing.read(Folder(folder), file, 10**9))[-1][0] for file in files if not file.is_complete]


def test_plan_is_the_same_of_the_ledger_as_of_a_mapping(tmp_path: Path, ledger: Ledger) -> None:
    folder, known = tmp_path / "landing", Asked(LandedFiles(ledger))
    log = land(folder, "a.log", "{1}", "{2}")
    for name in ("b.json", "copy/b.json", "none.bin", "c.csv"):
        land(folder, name, "event,account_id" if name == "c.csv" else "\0" if name == "none.bin" else "{3}\n{4}")
    steps: list[Callable[[], Any]] = [
        lambda: None,
        lambda: append(log, b"{5}\n"),
        lambda: os.link(log, folder / "linked"),
        lambda: [log.rename(folder / "a.log.1"), land(folder, "a.log", "{6}")],
        lambda: [
            (folder / "a.log.2.gz").write_bytes(gzip.compress((folder / "a.log.1").read_bytes() + b"{7}\n")),
            (folder / "a.log.1").unlink(),
            (folder / "linked").unlink(),
        ],
    ]
    files: dict[str, LandedFile] = {}
    for number, step in enumerate(steps, 1):
        step()
        found = planned(folder, known)
        assert found == planned(folder, Listed(files))
        now_known = read(folder, found)
        files |= {file.path: file for file in now_known}
        ledger.record_files(number, [asdict(file) for file in now_known])
        scanned, skipped = Folder(folder).scan()
        gone, back = passed_over.gone(known, scanned, skipped), passed_over.back(known, scanned)
        LandedFiles(ledger).settle(gone, back, NOW)
    # the same content, so nothing is read, as long as it is remembered
    assert files["a.log.2.gz"].origin == files["a.log.1"].origin
    assert files["a.log.2.gz"].read_lines == 4
    assert planned(folder, known) == []


def test_idle_look_reads_nothing_of_files_that_are_gone(tmp_path: Path, ledger: Ledger) -> None:
    folder = tmp_path / "landing"
    land(folder, "a.ndjson", "{1}")
    [file] = read(folder, planned(folder, {}))
    gone = [{**asdict(file), "path": f"gone/{number}"} for number in range(1000)]
    ledger.record_files(1, [asdict(file), *gone])
    landed = LandedFiles(ledger)
    landed.settle({f"gone/{number}" for number in range(1000)}, set(), NOW)
    read_rows: list[object] = []

    class Counting(LandedFiles):
        def stamps(self) -> list[tuple[str, int, int, int, bool]]:
            found = super().stamps()
            read_rows.extend(found)
            return found

        def find(self, column: str, values: Iterable[object]) -> list[dict[str, Any]]:
            found = super().find(column, values)
            read_rows.extend(found)
            return found

    assert planned(folder, Asked(Counting(ledger))) == []
    assert len(read_rows) == 1
