"""Remembered landing files: each question reads what it is about, and what is gone for long is forgotten."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestration.ledger.landed import AT_ONCE, FORGOTTEN_AFTER, LandedFiles
from orchestration.ledger.ledger import Ledger
from tests.orchestration.ledger.test_ledger import make_file
from tests.support.builders import NOW


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


def test_landed_files_are_found_by_what_a_new_file_shows(ledger: Ledger) -> None:
    files = [make_file(f"{number}", inode=number, sha256=f"{number % 2}" * 64) for number in range(AT_ONCE + 2)]
    files[3] |= {"damage": "torn", "is_complete": False, "head_sha256": "h" * 64}
    files[4] |= {"copy_of": "2"}
    ledger.record_files(1, files)
    landed = LandedFiles(ledger)

    assert [file["path"] for file in landed.find("inode", [7, 2**40])] == ["7"]
    assert len(landed.find("path", [file["path"] for file in files])) == AT_ONCE + 2
    assert len(landed.find("sha256", ["0" * 64])) == AT_ONCE // 2 + 1
    assert landed.find("head_sha256", ["h" * 64]) == landed.damaged() == landed.incomplete() == [files[3]]
    assert landed.copies() == [files[4]]


def test_landed_file_is_forgotten_when_it_is_gone_for_long(ledger: Ledger) -> None:
    landed = LandedFiles(ledger)
    ledger.record_files(1, [make_file("gone"), make_file("back"), make_file("there"), make_file("later")])
    ledger.record_files(2, [make_file("last")])
    landed.settle({"gone", "back", "last"}, set(), NOW)
    assert {path for path, *_ in landed.stamps()} == {"there", "later"}
    landed.settle({"later"}, {"back"}, NOW + timedelta(days=1))
    landed.settle(set(), set(), NOW + FORGOTTEN_AFTER)
    assert len(landed.find("path", ["gone"])) == 1
    landed.settle(set(), set(), NOW + FORGOTTEN_AFTER + timedelta(seconds=1))

    # of the last batch one stays: by it the ledger knows which batch that was
    assert {file["path"] for file in ledger.landed_files()} == {"back", "there", "later", "last"}
    assert ledger.last_batch() == 2
    assert landed.copies() == []


def test_landed_file_is_there_again_when_it_was_read_again(ledger: Ledger) -> None:
    landed = LandedFiles(ledger)
    ledger.record_files(1, [make_file("a")])
    landed.settle({"a"}, set(), NOW)
    ledger.record_files(2, [make_file("a", read_bytes=20)])

    assert [path for path, *_ in landed.stamps()] == ["a"]
