"""Files that are gone before they were read are said, and so are copies."""

import os
from dataclasses import replace
from pathlib import Path

from orchestration.lake import passed_over
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.remembered import Listed
from orchestration.lake.sources import Folder, Skipped, SourceFile
from tests.support.builders import land

FILE = LandedFile("a.csv", 100, 1, 2, 100, "0" * 64, "a.csv#0", 60, 7)


def found_of(*files: LandedFile) -> list[SourceFile]:
    return [file.found for file in files]


def test_file_that_is_gone_before_it_was_read_is_lost() -> None:
    known = Listed({FILE.path: FILE})

    assert passed_over.lost(known, known.incomplete(), found_of(FILE)) == []
    assert passed_over.lost(known, known.incomplete(), found_of(replace(FILE, inode=3))) == [
        Skipped("a.csv", "is gone, and only 7 lines of it were read: put it back under any name, and the rest is read")
    ]


def test_file_that_goes_on_under_another_name_is_not_lost() -> None:
    waiting, whole = replace(FILE, path="a.csv.1"), replace(FILE, path="a.csv.1", is_complete=True)

    assert passed_over.lost(Listed({"a": FILE, "b": waiting}), [FILE], found_of(waiting)) == []
    assert passed_over.lost(Listed({"a": FILE, "b": whole}), [FILE], []) == []
    assert len(passed_over.lost(Listed({"a": FILE, "b": waiting}), [FILE], [])) == 1


def test_file_is_gone_only_where_its_folder_can_be_looked_into() -> None:
    files = {path: replace(FILE, path=path) for path in ("a", "shut/b", "shutter/c", "there")}
    known, found = Listed(files), found_of(files["there"], replace(FILE, path="new"))
    shut = [Skipped("shut", "cannot be read: Permission denied")]

    assert passed_over.gone(known, found, []) == {"a", "shut/b", "shutter/c"}
    assert passed_over.gone(known, found, shut) == {"a", "shutter/c"}
    assert passed_over.gone(known, found, [Skipped(".", "cannot be read: Input/output error")]) == set()


def test_copies_are_said_with_count_and_names() -> None:
    one = replace(FILE, copy_of="b.csv", is_complete=True)

    assert passed_over.copies([]) == ""
    assert passed_over.copies([one]).startswith(
        "1 file is a copy of another one and does not count again (7 lines): a.csv (of b.csv). To count copies, set"
    )
    assert "6 files are copies of others and do not count again (42 lines)" in passed_over.copies([one] * 6)
    assert passed_over.copies([one] * 6).count("of b.csv") == passed_over.LISTED


def test_names_of_one_file_are_one_in_a_scan(tmp_path: Path) -> None:
    os.link(land(tmp_path, "a.ndjson", "one."), tmp_path / "b.ndjson")
    first, second = Folder(tmp_path).scan()[0]

    assert (first.inode, first.device) == (second.inode, second.device)
    assert first.device
