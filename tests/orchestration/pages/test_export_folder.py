"""A folder is replaced as a whole or not at all, also by a process that is killed. Files of others stay."""

import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from orchestration.lake import compaction
from orchestration.pages import export_folder
from orchestration.pages.export_folder import MARK, ExportError, renewed
from tests.support.killing import at_line

NAMES = ("index.html", "accounts/acme.html", MARK)


def write(target: Path, text: str) -> None:
    with renewed(target) as folder:
        for name in NAMES:
            folder.write(name, text)


def texts(target: Path) -> set[str]:
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == set(NAMES)
    return {(target / name).read_text() for name in NAMES}


def in_child(act: Callable[[], object]) -> int:
    """The exit status of a process that does this; negative after a signal."""
    if not (child := os.fork()):
        try:
            act()
        except BaseException:  # noqa: BLE001 - a fork has no other end
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_export_is_whole_after_a_kill_at_any_line(tmp_path: Path) -> None:
    target, line, ends = tmp_path / "out", 0, set()
    write(target, "0")
    files = {str(export_folder.__file__), str(compaction.__file__)}

    def killed() -> None:
        sys.settrace(at_line(line, files, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        write(target, str(line))

    status = -signal.SIGKILL
    while status:
        line += 1
        status = in_child(killed)
        assert status in (0, -signal.SIGKILL)
        [text] = texts(target)
        ends.add(text == str(line))
        assert {path.name for path in tmp_path.iterdir()} <= {"out", ".out.headroom-part", ".out.headroom-lock"}
    assert line > 40
    assert ends == {True, False}
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".out.headroom-lock"}


def test_full_disk_leaves_the_old_export(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "old")

    def fails() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        with pytest.raises(ExportError, match=r"File too large.*The files there are as they were"):
            write(target, "new" * 100)

    assert in_child(fails) == 0
    assert texts(target) == {"old"}
    assert not (tmp_path / ".out.headroom-part").exists()


def test_fault_of_a_page_leaves_the_old_export(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(KeyError), renewed(tmp_path / "out") as folder:
        folder.write("index.html", "new")
        raise KeyError
    assert texts(tmp_path / "out") == {"old"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".out.headroom-lock"}


def test_folder_of_others_is_refused(tmp_path: Path) -> None:
    photos, mixed, file, export = (tmp_path / name for name in ("photos", "mixed", "file", "export"))
    photos.mkdir()
    (photos / "index.html").write_text("mine")
    write(mixed, "old")
    (mixed / ".git").mkdir()
    file.write_text("mine")
    for target, said in (
        (photos, "'index.html'"),
        (mixed, "'.git'"),
        (file, "is a file"),
        (Path("/"), "Name a folder"),
    ):
        with pytest.raises(ExportError, match=said):
            write(target, "new")
    with pytest.raises(ExportError, match=f"not exported to {file}/export: (Not a directory|File exists)"):
        write(file / "export", "new")
    assert (photos / "index.html").read_text() == file.read_text() == "mine"
    export.mkdir()
    write(export, "new")
    assert texts(export) == {"new"}


def test_files_that_appear_meanwhile_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "old")
    with pytest.raises(ExportError, match=r"'notes\.txt'"), renewed(target) as folder:
        folder.write(MARK, "new")
        (target / "notes.txt").write_text("mine")
    assert (target / MARK).read_text() == "old"
    assert (target / "notes.txt").read_text() == "mine"


def test_second_export_to_the_folder_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_folder, "WAIT_SECONDS", 0)
    with FileLock(tmp_path / ".out.headroom-lock"), pytest.raises(ExportError, match="another process exports to"):
        write(tmp_path / "out", "new")
    write(tmp_path / "out", "new")
    assert texts(tmp_path / "out") == {"new"}


@pytest.mark.parametrize(("mode", "files"), [(0o755, 0o644), (0o750, 0o640), (0o2770, 0o660), (None, 0o640)])
def test_who_opens_the_folder_reads_its_files(tmp_path: Path, mode: int | None, files: int) -> None:
    target = tmp_path / "out"
    if mode is not None:
        target.mkdir()
        target.chmod(mode)
    for _ in range(2):
        write(target, "new")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*") if path.is_file()}
    assert modes == {files}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (target, target / "accounts")}
    assert folders == {mode or 0o750}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another group")
def test_files_have_the_group_of_the_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    os.chown(target, -1, 12_345)
    for _ in range(2):
        write(target, "new")
        assert {path.stat().st_gid for path in (target, *target.rglob("*"))} == {12_345}
