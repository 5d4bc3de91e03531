"""Doctor says what lies in landing although it was read, and that Dagster's history is larger than it may be."""

from dataclasses import asdict
from pathlib import Path

import pytest

from orchestration.cli import doctor_growth
from orchestration.lake.landed_file import LandedFile
from orchestration.ledger.ledger import Ledger
from orchestration.settings import load
from orchestration.usage.findings import Finding
from tests.support import ledgers


def found() -> list[Finding]:
    return list(doctor_growth.examine(load(), is_ledger_usable=True))


def test_doctor_says_what_grows(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found() == []
    (data / "ledger.sqlite").write_bytes(ledgers.empty())
    assert found() == []
    read = LandedFile("a.ndjson", 3 * 2**20, 1, 1, 3 * 2**20, "0", "a", is_complete=True)
    ledger = Ledger(load().ledger_url)
    ledger.record_files(1, [asdict(read), asdict(read) | {"path": "s3://b/c", "origin": "c"}])
    ledger.close()
    assert [str(each.subject) for each in found()] == ["landing: 1 file read, 3 MiB"]
    monkeypatch.setattr(doctor_growth, "MANY_FILES", 1)
    [finding] = found()
    assert not finding.is_needed
    assert finding.problem == (
        "set HEADROOM_LANDING_KEEP_DAYS to 2 or more, so that runs delete files that are in the lake"
    )
    monkeypatch.setenv("HEADROOM_LANDING_KEEP_DAYS", "2")
    assert [each.subject for each in found()] == [
        "landing: 1 file read, 3 MiB; runs delete each 2 days after reading it"
    ]

    monkeypatch.setattr(doctor_growth, "HISTORY_BYTES", 1000)
    (data / "dagster" / "history" / "runs").mkdir(parents=True)
    (data / "dagster" / "history" / "runs" / "index.db").write_bytes(b"x" * 1000)
    _, finding = found()
    assert finding.subject.startswith("Dagster's history: 0.0 GiB in")
    assert "`history_sensor` removes 200 old runs an hour" in finding.problem
