"""The landing folder: every line is handed on once, whatever producers do to the files meanwhile."""

import bz2
import errno
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.lake import content, landing
from orchestration.lake.identity import COPY_BYTES
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.landing import Piece
from orchestration.lake.sources import Folder, Skipped
from tests.support.builders import land

LONG = "one" * (COPY_BYTES // 3) + "."
"""A line with which a content is equal to another one by no chance."""


@dataclass
class Reader:
    """Reads a landing folder again and again as the lake does, and remembers what it has read."""

    folder: Path
    known: dict[str, LandedFile] = field(default_factory=dict)
    counted: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """Lines by the identity of an event without an id; a fragment (it lacks its full stop) does not count."""
    skipped: list[Skipped] = field(default_factory=list)

    def read(self, limit_bytes: int = 10**9) -> list[tuple[str, int, bytes]]:
        """(path, line number, line) of everything new."""
        found, skipped = Folder(self.folder).scan()
        lines: list[tuple[str, int, bytes]] = []
        for _ in range(1000):
            news = False
            self.skipped = list(skipped)
            for file in landing.plan(Folder(self.folder), found, dict(self.known)):
                if isinstance(file, Skipped):
                    self.skipped.append(file)
                    continue
                news = True
                self.known[file.path] = file
                if not file.is_complete:
                    lines += self._lines(file, limit_bytes)
            if not news:
                return lines
        raise AssertionError("the landing folder never comes to an end")

    def _lines(self, file: LandedFile, limit_bytes: int) -> list[tuple[str, int, bytes]]:
        read: list[tuple[str, int, bytes]] = []
        for state, pieces in landing.read(Folder(self.folder), file, limit_bytes):
            self.known[file.path] = state
            for number, line in numbered(pieces):
                read.append((file.path, number, line))
                if line.endswith(b"."):
                    self.counted.setdefault((file.origin, number), line)
        return read

    def counts(self) -> list[bytes]:
        return sorted(self.counted.values())


def numbered(pieces: list[Piece]) -> list[tuple[int, bytes]]:
    return [
        (number, line)
        for piece in pieces
        for number, line in enumerate(piece.lines.removesuffix(b"\n").split(b"\n"), piece.first_line)
    ]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    folder = tmp_path / "landing"
    folder.mkdir()
    return Reader(folder)


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)


def test_plan_hands_on_the_lines_of_a_new_file_once(reader: Reader) -> None:
    land(reader.folder, "b/a.ndjson", "one.", "two.")
    land(reader.folder, "a.jsonl", "three.")

    assert reader.read() == [("a.jsonl", 1, b"three."), ("b/a.ndjson", 1, b"one."), ("b/a.ndjson", 2, b"two.")]
    assert reader.read() == []
    assert reader.skipped == []


def test_plan_reads_only_the_new_lines_when_a_file_is_appended_to(reader: Reader) -> None:
    path = land(reader.folder, "a.ndjson", "one.", "two.")
    reader.read()
    origin = reader.known["a.ndjson"].origin
    append(path, b"three.\nfour.\n")

    assert reader.read() == [("a.ndjson", 3, b"three."), ("a.ndjson", 4, b"four.")]
    assert reader.known["a.ndjson"].origin == origin


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_half_written_line_counts_once_when_it_is_completed(reader: Reader, cut: int) -> None:
    path = reader.folder / "a.ndjson"
    path.write_bytes(b"one.\n" + b"two."[:cut])
    assert reader.read() == [("a.ndjson", 1, b"one."), ("a.ndjson", 2, b"two."[:cut])]
    append(path, b"two."[cut:] + b"\nthree.\n")

    assert reader.read() == [("a.ndjson", 2, b"two."), ("a.ndjson", 3, b"three.")]
    assert reader.counts() == [b"one.", b"three.", b"two."]


def test_file_without_a_line_break_is_read_when_it_has_only_one_line(reader: Reader) -> None:
    (reader.folder / "a.ndjson").write_bytes(b"one.")

    assert reader.read() == [("a.ndjson", 1, b"one.")]
    assert reader.read() == []


def test_rewritten_file_is_a_new_content_when_its_beginning_changed(reader: Reader) -> None:
    path = land(reader.folder, "a.ndjson", "one.", "two.")
    reader.read()
    path.write_bytes(b"six.\n")
    assert reader.read() == [("a.ndjson", 1, b"six.")]
    path.write_bytes(b"seven.\neight.\nnine.\n")

    assert [line for _, _, line in reader.read()] == [b"seven.", b"eight.", b"nine."]
    assert len(reader.counts()) == 6


def test_replaced_file_is_a_new_content_when_it_has_the_same_size(reader: Reader) -> None:
    land(reader.folder, "a.ndjson", "one.")
    reader.read()
    land(reader.folder, "new.tmp", "two.").rename(reader.folder / "a.ndjson")

    assert reader.read() == [("a.ndjson", 1, b"two.")]
    assert reader.counts() == [b"one.", b"two."]


@pytest.mark.parametrize(
    ("act", "copy_of"),
    [(shutil.copy, "b.ndjson"), (os.rename, None), (os.link, None), (os.symlink, None)],
    ids=["copied", "renamed", "linked", "symlinked"],
)
def test_same_content_counts_once_when_it_has_a_second_name(
    reader: Reader, act: Callable[..., Any], copy_of: str | None
) -> None:
    path = land(reader.folder, "b.ndjson", LONG, "two.")
    reader.read()
    act(path, reader.folder / "a.ndjson")

    assert reader.read() == []
    if act in (os.link, os.symlink):  # one device and inode is one file, and its known name stays
        assert set(reader.known) == {"b.ndjson"}
    else:
        assert reader.known["a.ndjson"].copy_of == copy_of


def test_copies_count_once_when_they_land_together(reader: Reader) -> None:
    for name in ("a", "b", "c"):
        land(reader.folder, f"{name}.ndjson", LONG, "two.")

    assert reader.read(limit_bytes=1) == [("a.ndjson", 1, LONG.encode()), ("a.ndjson", 2, b"two.")]
    assert [reader.known[f"{name}.ndjson"].copy_of for name in "abc"] == [None, "a.ndjson", "a.ndjson"]


def test_copy_is_read_when_the_first_file_turns_out_to_be_unreadable(reader: Reader) -> None:
    land(reader.folder, "a.ndjson", LONG)
    land(reader.folder, "b.ndjson", LONG)
    found, _ = Folder(reader.folder).scan()

    # `a` was planned and could then not be read: nothing is remembered of either, so the next plan has both again.
    assert [file.path for file in landing.plan(Folder(reader.folder), found, {})] == ["a.ndjson"]
    (reader.folder / "a.ndjson").unlink()
    assert reader.read() == [("b.ndjson", 1, LONG.encode())]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("unfinished", [b"", b"thr", b"three."])
@pytest.mark.parametrize("is_recreated", [True, False])
def test_renamed_file_is_read_on_when_it_had_grown(
    reader: Reader, order: tuple[str, str], unfinished: bytes, is_recreated: bool
) -> None:
    old, new = (f"{name}.ndjson" for name in order)
    path = reader.folder / old
    path.write_bytes(b"one.\ntwo.\n" + unfinished)
    reader.read()
    append(path, b"three."[len(unfinished) :] + b"\nfour.\n")
    path.rename(reader.folder / new)
    if is_recreated:
        land(reader.folder, old, "five.", "six.", "seven.", "eight.")

    reader.read()
    append(reader.folder / new, b"nine.\n")
    reader.read()
    words = b"one. two. three. four. nine." + b" five. six. seven. eight." * is_recreated
    assert reader.counts() == sorted(words.split())


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("rewritten", [b"", b"four.\n"])
def test_emptied_file_is_read_on_when_it_was_copied_before(
    reader: Reader, order: tuple[str, str], rewritten: bytes
) -> None:
    path, copy = (reader.folder / f"{name}.ndjson" for name in order)
    path.write_bytes(b"one.\ntwo.\nth")
    reader.read()
    append(path, b"ree.\n")
    shutil.copy(path, copy)
    path.write_bytes(rewritten)

    reader.read()
    assert reader.counts() == sorted([b"one.", b"three.", b"two.", *rewritten.split()])


def test_copy_and_original_both_count_their_new_lines_when_they_part(reader: Reader) -> None:
    path = land(reader.folder, "a.ndjson", LONG)
    copy = reader.folder / "b.ndjson"
    reader.read()
    shutil.copy(path, copy)
    reader.read()
    append(path, b"two.\n")
    append(copy, b"three.\n")

    reader.read()
    assert reader.counts() == [LONG.encode(), b"three.", b"two."]


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_file_and_its_old_name_count_their_new_lines_when_it_is_back(reader: Reader, order: str) -> None:
    path = land(reader.folder, "a.ndjson", "one.")
    moved = reader.folder / "b.ndjson"
    reader.read()
    path.rename(moved)
    reader.read()
    shutil.copy(moved, path)
    reader.read()
    # the ledger keeps no order
    reader.known = {f"{name}.ndjson": reader.known[f"{name}.ndjson"] for name in order}
    append(path, b"two.\n")
    reader.read()
    reader.known = {f"{name}.ndjson": reader.known[f"{name}.ndjson"] for name in reversed(order)}
    append(moved, b"three.\n")

    reader.read()
    assert reader.counts() == [b"one.", b"three.", b"two."]


def test_touched_file_is_not_read_again_when_only_its_time_changed(reader: Reader) -> None:
    path = land(reader.folder, "a.ndjson", "one.")
    reader.read()
    os.utime(path, ns=(1, 1))

    assert reader.read() == []
    assert reader.known["a.ndjson"].mtime_ns == 1


def test_touched_file_is_read_on_when_it_was_not_complete(reader: Reader) -> None:
    path = land(reader.folder, "a.ndjson", "one.", "two.")
    [file] = landing.plan(Folder(reader.folder), Folder(reader.folder).scan()[0], {})
    assert isinstance(file, LandedFile)
    reader.known["a.ndjson"] = replace(file, read_bytes=5, read_lines=1)
    os.utime(path, ns=(1, 1))

    assert reader.read() == [("a.ndjson", 2, b"two.")]


@pytest.mark.parametrize("act", ["renamed", "copied"])
def test_rest_of_a_file_is_read_when_its_start_had_another_name(reader: Reader, act: str) -> None:
    path = land(reader.folder, "b.ndjson", LONG, "two.")
    [file] = landing.plan(Folder(reader.folder), Folder(reader.folder).scan()[0], {})
    assert isinstance(file, LandedFile)
    reader.known["b.ndjson"] = replace(file, read_bytes=len(LONG) + 1, read_lines=1)
    reader.counted[file.origin, 1] = LONG.encode()
    if act == "renamed":
        path.rename(reader.folder / "a.ndjson")
    else:
        shutil.copy(path, reader.folder / "a.ndjson")

    assert [line for _, _, line in reader.read()] == [b"two."]
    assert reader.counts() == [LONG.encode(), b"two."]


def test_deleted_file_is_not_read_again_when_it_comes_back(reader: Reader) -> None:
    path = land(reader.folder, "a.ndjson", "one.")
    reader.read()
    path.unlink()
    assert reader.read() == []
    land(reader.folder, "a.ndjson", "one.")

    assert reader.read() == []


@pytest.mark.parametrize("name", ["a.ndjson.part", "a.ndjson.tmp", ".a.ndjson", ".hidden/a.ndjson"])
def test_scan_passes_over_a_file_when_its_name_says_that_it_is_not_ready(reader: Reader, name: str) -> None:
    land(reader.folder, name, "one.")

    assert Folder(reader.folder).scan() == ([], [])


def test_scan_reports_what_it_does_not_read_when_it_is_no_landing_file(reader: Reader) -> None:
    os.mkfifo(reader.folder / "fifo.ndjson")
    (reader.folder / "dangling.ndjson").symlink_to("nowhere")
    (reader.folder / "self.ndjson").symlink_to("self.ndjson")
    (reader.folder / "loop").symlink_to(reader.folder)
    (reader.folder / "folder.ndjson").mkdir()
    land(reader.folder, "events.txt", "a,b")
    (reader.folder / "sub").mkdir()
    (reader.folder / "sub" / "a.ndjson.bz2").write_bytes(bz2.compress(b"one."))
    (reader.folder / os.fsdecode(b"caf\xe9.ndjson")).write_bytes(b"one.\n")
    land(reader.folder, "good.ndjson", "one.")

    assert reader.read() == [("good.ndjson", 1, b"one.")]
    assert {entry.path: entry.reason for entry in reader.skipped} == {
        "fifo.ndjson": "is not a regular file",
        "dangling.ndjson": "cannot be read: No such file or directory",
        "self.ndjson": "cannot be read: Too many levels of symbolic links",
        "loop": "is a link to a folder",
        "events.txt": "is text without JSON or a CSV header: land NDJSON, CSV or Parquet, plain or in gzip or zstd",
        "sub/a.ndjson.bz2": "is compressed with bzip2: use gzip or zstd",
        "caf\\xe9.ndjson": "its name is not UTF-8: rename it",
    }


def test_scan_reports_a_folder_when_it_cannot_be_listed(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    land(reader.folder, "closed/a.ndjson", "one.")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert Folder(reader.folder).scan() == ([], [Skipped("closed", "cannot be read: Permission denied")])


def test_plan_reports_a_file_when_it_cannot_be_opened(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    land(reader.folder, "a.ndjson", "one.")
    land(reader.folder, "b.ndjson", "two.")
    refuse_opening(monkeypatch, "a.ndjson")

    assert reader.read() == [("b.ndjson", 1, b"two.")]
    assert reader.skipped == [Skipped("a.ndjson", "cannot be read: Permission denied")]


def refuse_opening(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """These tests may run as root, for whom every file is readable."""
    opened = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)


def test_plan_has_nothing_to_read_when_a_file_is_empty(reader: Reader) -> None:
    path = reader.folder / "a.ndjson"
    path.touch()
    assert reader.read() == []
    assert reader.skipped == []
    append(path, b"one.\n")

    assert reader.read() == [("a.ndjson", 1, b"one.")]


def test_inode_fits_the_ledger_when_the_file_system_uses_all_64_bits(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = land(reader.folder, "a.ndjson", "one.")
    status = path.stat()
    values = list(status)
    values[1] = 2**64 - 1
    large = os.stat_result(values, {"st_mtime_ns": status.st_mtime_ns})
    [entry] = os.scandir(reader.folder)
    scanned = SimpleNamespace(
        name=entry.name, stat=lambda: large, is_dir=lambda **_: False, is_symlink=lambda: False, path=entry.path
    )
    monkeypatch.setattr(os, "scandir", lambda _: nullcontext([scanned]))

    [[file], _] = Folder(reader.folder).scan()
    assert file.inode == 2**63 - 1


@pytest.mark.parametrize("moment", ["scanned", "hashed"])
def test_growing_file_is_read_on_next_time_when_it_grew_while_it_was_read(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = land(reader.folder, "a.ndjson", "one.")
    more = b"two.\nthr"
    if moment == "scanned":
        found, _ = Folder(reader.folder).scan()
        append(path, more)
        monkeypatch.setattr(Folder, "scan", lambda _: (found, []))
    else:
        hashed = landing._examined

        def grow(*arguments: Any) -> Any:
            result = hashed(*arguments)
            append(path, more)
            return result

        monkeypatch.setattr(landing, "_examined", grow)
    assert reader.read() == [("a.ndjson", 1, b"one.")]
    monkeypatch.undo()
    append(path, b"ee.\n")

    assert reader.read() == [("a.ndjson", 2, b"two."), ("a.ndjson", 3, b"three.")]


@pytest.mark.parametrize("change", ["replaced", "cut"])
@pytest.mark.parametrize("moment", ["before hashing", "before reading"])
def test_file_is_left_for_the_next_time_when_it_changes_while_it_is_read(
    reader: Reader, change: str, moment: str
) -> None:
    path = land(reader.folder, "a.ndjson", "one.", "two.")

    def alter() -> None:
        if change == "replaced":
            land(reader.folder, "new.tmp", "six.", "seven.").rename(path)
        else:
            path.write_bytes(b"six.\n")

    found, _ = Folder(reader.folder).scan()
    planned = landing.plan(Folder(reader.folder), found, {})
    if moment == "before hashing":
        alter()
        reason = "cannot be read: it changed meanwhile; the next run looks again"
        assert list(planned) == [Skipped("a.ndjson", reason, is_for_now=True)]
    else:
        [file] = planned
        assert isinstance(file, LandedFile)
        alter()
        with pytest.raises(OSError, match="changed meanwhile"):
            next(landing.read(Folder(reader.folder), file, 100))
    assert reader.read()[0] == ("a.ndjson", 1, b"six.")


def test_reading_ends_with_an_error_when_a_file_is_cut_between_two_chunks(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "CHUNK_BYTES", 5)
    monkeypatch.setattr(content, "CHUNK_BYTES", 5)
    path = land(reader.folder, "a.ndjson", "one.", "two.")
    [file] = landing.plan(Folder(reader.folder), Folder(reader.folder).scan()[0], {})
    assert isinstance(file, LandedFile)
    pieces = landing.read(Folder(reader.folder), file, 100)
    state, [piece] = next(pieces)
    path.write_bytes(b"")

    with pytest.raises(OSError, match="changed meanwhile"):
        next(pieces)
    assert (piece.lines, state.read_lines, state.is_complete) == (b"one.\n", 1, False)


@settings(max_examples=300, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"") + b"."), max_size=12),
    has_last_break=st.booleans(),
    chunk_bytes=st.integers(1, 40),
    limit_bytes=st.integers(1, 60),
    files=st.integers(1, 3),
)
def test_every_line_is_read_once_whatever_the_sizes(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    has_last_break: bool,
    chunk_bytes: int,
    limit_bytes: int,
    files: int,
) -> None:
    reader = Reader(tmp_path_factory.mktemp("landing"))
    content = b"\n".join(lines) + (b"\n" if lines and has_last_break else b"")
    for number in range(files):
        (reader.folder / f"{number}.ndjson").write_bytes(f"file {number}.\n".encode() + content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "CHUNK_BYTES", chunk_bytes)
        read = reader.read(limit_bytes)
    assert sorted(read) == [
        (f"{number}.ndjson", place, line)
        for number in range(files)
        for place, line in enumerate([f"file {number}.".encode(), *lines], 1)
    ]
    assert all(file.is_complete for file in reader.known.values())


@settings(max_examples=100, deadline=None)
@given(
    content=st.lists(st.sampled_from([b"a.", b"bb.", b"", b"ccc."]), min_size=1, max_size=20).map(b"\n".join),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    chunk_bytes=st.integers(1, 10),
    limit_bytes=st.integers(1, 20),
)
def test_appended_file_counts_as_if_it_had_landed_at_once(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int], chunk_bytes: int, limit_bytes: int
) -> None:
    reader = Reader(tmp_path_factory.mktemp("landing"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "CHUNK_BYTES", chunk_bytes)
        for cut in [*sorted(cuts), len(content)]:
            (reader.folder / "a.ndjson").write_bytes(content[:cut])
            os.utime(reader.folder / "a.ndjson", ns=(cut, cut))
            reader.read(limit_bytes)
    assert reader.counts() == sorted(line for line in content.split(b"\n") if line)


def test_reading_ends_behind_the_limit_when_a_line_is_open(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "CHUNK_BYTES", 7)
    land(reader.folder, "a.ndjson", "one.", "two.", "three.")
    [file] = landing.plan(Folder(reader.folder), Folder(reader.folder).scan()[0], {})
    assert isinstance(file, LandedFile)

    [[piece]] = [pieces for _, pieces in landing.read(Folder(reader.folder), file, 1)]
    assert (piece, piece.steps) == (Piece(1, 1, b"one.\n"), [1])


def test_line_is_cut_off_and_unreadable_when_it_is_too_long(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "CHUNK_BYTES", 4)
    monkeypatch.setattr(landing, "MAX_LINE_BYTES", 10)
    (reader.folder / "a.ndjson").write_bytes(b"{}" + b" " * 100 + b"x\nnext.\n" + b"0123456789\n" + b"y" * 50)

    assert reader.read(limit_bytes=3) == [
        ("a.ndjson", 1, b"{}        " + landing.CUT_OFF),
        ("a.ndjson", 2, b"next."),
        ("a.ndjson", 3, b"0123456789"),
        ("a.ndjson", 4, b"y" * 10 + landing.CUT_OFF),
    ]


def test_plan_opens_no_file_before_its_turn_when_the_backlog_is_long(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        land(reader.folder, f"{name}.ndjson", f"{name}.")
    opened: list[str] = []
    examined = landing._examined
    monkeypatch.setattr(
        landing, "_examined", lambda place, file, sizes: opened.append(file.path) or examined(place, file, sizes)
    )

    next(landing.plan(Folder(reader.folder), Folder(reader.folder).scan()[0], {}))
    assert opened == ["a.ndjson"]
