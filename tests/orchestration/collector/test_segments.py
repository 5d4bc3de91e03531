"""Segments on the disk: what is written when, and what is left after a kill or on a full disk."""

import errno
import fcntl
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestration.collector import leftovers, segments
from orchestration.collector.leftovers import recover
from orchestration.collector.segments import SegmentWriter


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sealed(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.ndjson"))]


def open_ones(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.part"))


def test_line_is_synced_before_commit_returns_and_the_file_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def record(module: object, name: str, label: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def recorded(*arguments: Any, **named: Any) -> Any:
            calls.append(label)
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, recorded)

    for name in ("writev", "fdatasync", "ftruncate"):
        record(os, name, name)
    record(segments, "sync_folder", "sync folder")
    real_fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append(_kind(descriptor)), real_fsync(descriptor))[1])
    record(Path, "rename", "rename")
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.commit([b"one\n", b"two\n"])
    calls.append("acknowledged")
    writer.seal()
    assert calls == [
        *("sync folder", "fsync folder", "writev", "fdatasync", "acknowledged"),
        *("ftruncate", "fsync file", "rename", "sync folder", "fsync folder"),
    ]


def _kind(descriptor: int) -> str:
    return "fsync folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "fsync file"


def test_segment_is_open_under_another_name_until_it_is_sealed(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.commit([b"one\n"])
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z-[A-Za-z0-9-]+-[0-9a-f]{12}\.ndjson\.part", path.name)
    writer.seal()
    assert [path.name for path in tmp_path.iterdir()] == [path.name.removesuffix(".part")]


def test_size_begins_a_new_segment_and_names_sort_by_time(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, seal_bytes=10)
    for number in range(6):
        writer.commit([b"%04d\n" % number])
    writer.seal()
    assert sealed(tmp_path) == [b"0000\n0001\n", b"0002\n0003\n", b"0004\n0005\n"]
    assert writer.sealed_count == 3


def test_many_lines_of_one_group_are_all_written(tmp_path: Path) -> None:
    lines = [b"%d\n" % number for number in range(5000)]
    writer = SegmentWriter(tmp_path, seal_bytes=2**20)
    writer.commit(lines)
    writer.seal()
    assert sealed(tmp_path) == [b"".join(lines)]


def test_empty_segment_is_never_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.seal()
    monkeypatch.setattr(os, "writev", full_disk)
    with pytest.raises(OSError, match="No space"):
        writer.commit([b"one\n"])
    assert list(tmp_path.iterdir()) == []


def test_write_that_takes_a_part_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def three_bytes(descriptor: int, buffers: Sequence[bytes]) -> int:
        return real(descriptor, b"".join(buffers)[:3])

    monkeypatch.setattr(os, "writev", three_bytes)
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.commit([b"one\n", b"", b"two\n", b"three\n"])
    writer.seal()
    assert sealed(tmp_path) == [b"one\ntwo\nthree\n"]


@pytest.mark.parametrize("call", ["writev", "fdatasync"])
def test_failed_group_is_cut_off_and_the_next_begins_a_new_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.commit([b"one\n"])
    real_write, real_sync = os.writev, os.fdatasync

    def fail_after_a_part(descriptor: int, buffers: Sequence[bytes]) -> int:
        if monkeypatch_writes:
            full_disk()
        monkeypatch_writes.append(1)
        return os.write(descriptor, b"lo")

    monkeypatch_writes: list[int] = []
    monkeypatch.setattr(os, call, fail_after_a_part if call == "writev" else full_disk)
    with pytest.raises(OSError, match="No space"):
        writer.commit([b"lost\n"])
    monkeypatch.setattr(os, "writev", real_write)
    monkeypatch.setattr(os, "fdatasync", real_sync)
    writer.commit([b"two\n"])
    writer.seal()
    assert sealed(tmp_path) == [b"one\n", b"two\n"]
    assert open_ones(tmp_path) == []


def test_segment_that_cannot_be_sealed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter(tmp_path, seal_bytes=4)
    monkeypatch.setattr(segments.os, "ftruncate", full_disk)
    for number in range(segments.MAX_UNSETTLED):
        writer.commit([b"%03d\n" % number])
    writer.seal()
    with pytest.raises(OSError, match="cannot be sealed"):
        writer.commit([b"refused\n"])
    assert (sealed(tmp_path), len(open_ones(tmp_path)), recover(tmp_path)) == ([], segments.MAX_UNSETTLED, 0)
    monkeypatch.undo()
    writer.commit([b"last\n"])
    writer.seal()
    assert sealed(tmp_path) == [*(b"%03d\n" % number for number in range(segments.MAX_UNSETTLED)), b"last\n"]


def test_sealing_that_fails_after_the_rename_is_finished_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.commit([b"one\n"])
    monkeypatch.setattr(segments, "sync_folder", full_disk)
    writer.seal()
    assert not writer.is_settled
    monkeypatch.undo()
    writer.settle()
    assert (writer.is_settled, sealed(tmp_path)) == (True, [b"one\n"])


def test_recovery_cuts_to_the_last_complete_line(tmp_path: Path) -> None:
    long = b"x" * 200_000
    (tmp_path / "1.ndjson.part").write_bytes(b"one\ntwo\nthr")
    (tmp_path / "2.ndjson.part").write_bytes(b"whole\n")
    (tmp_path / "3.ndjson.part").write_bytes(b"only a part")
    (tmp_path / "4.ndjson.part").write_bytes(b"")
    (tmp_path / "5.ndjson.part").write_bytes(long + b"\n" + long)
    (tmp_path / "other.part").write_bytes(b"of somebody else")
    assert recover(tmp_path) == 3
    assert sealed(tmp_path) == [b"one\ntwo\n", b"whole\n", long + b"\n"]
    assert [path.name for path in open_ones(tmp_path)] == ["other.part"]
    assert recover(tmp_path) == 0


def test_leftover_that_cannot_be_sealed_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("1", "2"):
        (tmp_path / f"{name}.ndjson.part").write_bytes(b"line\n")
    real = os.ftruncate

    def sick_once(descriptor: int, size: int) -> None:
        monkeypatch.setattr(os, "ftruncate", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "ftruncate", sick_once)
    assert recover(tmp_path) == 1
    assert "cannot seal" in caplog.text
    assert recover(tmp_path) == 1
    assert sealed(tmp_path) == [b"line\n"] * 2


def test_leftovers_are_found_and_left_alone(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.commit([b"of a living process\n"])
    (tmp_path / "1.ndjson.part").write_bytes(b"left\n")
    (tmp_path / "2.ndjson.part").write_bytes(b"")
    (tmp_path / "3.ndjson").write_bytes(b"sealed\n")
    assert leftovers.waiting(tmp_path) == [tmp_path / "1.ndjson.part"]
    assert len(open_ones(tmp_path)) == 3


def test_recovery_leaves_the_segment_of_a_living_process(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.commit([b"one\n"])
    assert recover(tmp_path) == 0
    writer.commit([b"two\n"])
    writer.seal()
    assert sealed(tmp_path) == [b"one\ntwo\n"]


def test_segment_taken_for_a_leftover_while_it_was_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process recovers between our creating the file and our locking it."""
    real = fcntl.flock
    raced: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        if not raced:
            raced.append(descriptor)
            assert recover(tmp_path) == 0  # it is empty: removed
        real(descriptor, operation)

    monkeypatch.setattr(leftovers.fcntl, "flock", flock)
    writer = SegmentWriter(tmp_path, seal_bytes=100)
    writer.commit([b"one\n"])
    writer.seal()
    assert sealed(tmp_path) == [b"one\n"]


def test_probe_finds_a_full_disk_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter(tmp_path / "new", seal_bytes=100)
    writer.probe()
    monkeypatch.setattr(os, "fdatasync", full_disk)
    with pytest.raises(OSError, match="No space"):
        writer.probe()
    assert list((tmp_path / "new").iterdir()) == []
