"""The scan of a landing folder: one bad place holds up nothing else, and nothing of our own is taken for events."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake.sources import OURS, Folder, Skipped
from tests.orchestration.lake.world import World
from tests.support.builders import land, make_event


def paths(folder: Path) -> tuple[list[str], dict[str, str]]:
    found, skipped = Folder(folder).scan()
    return [file.path for file in found], {entry.path: entry.reason for entry in skipped}


def test_path_longer_than_the_system_allows_is_reported_and_the_rest_read(tmp_path: Path) -> None:
    land(tmp_path, "good.ndjson", "one.")
    here = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 200
    for _ in range(25):  # step by step: no path to it can be written down
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    found, skipped = paths(tmp_path)

    assert found == ["good.ndjson"]
    [(path, reason)] = skipped.items()
    assert (len(path), reason) == (201, "cannot be read: File name too long")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, for whom the folder's mode counts")
def test_folder_that_may_be_listed_and_not_entered_is_reported_once(tmp_path: Path) -> None:
    """As another user: for root each mode is as good as any."""
    root = tmp_path
    for name in "abc":
        land(root, f"closed/{name}.ndjson", "one.")
    (root / "closed" / "sub").mkdir()
    land(root, "good.ndjson", "one.")
    (root / "closed").chmod(0o744)
    root.chmod(0o755)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            os.chdir(root)  # the folders above it are root's
            os.setuid(65534)
            os.write(writing, repr(paths(Path())).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)

    assert said == str(
        (["good.ndjson"], {"closed/a.ndjson": "cannot be read: Permission denied (and 3 more in its folder)"})
    )


def test_file_that_cannot_be_looked_at_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land(make_event(uuid="one"), name="closed/a.ndjson")
    world.land(make_event(uuid="two"), name="open/b.ndjson")
    scandir = os.scandir

    class Refusing:
        def __init__(self, path: Any) -> None:
            self._entries = scandir(path)

        def __enter__(self) -> Any:
            return self

        def __iter__(self) -> Any:
            return map(Entry, self._entries)

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self._entry = entry

        def __getattr__(self, name: str) -> Any:
            return getattr(self._entry, name)

        def stat(self) -> os.stat_result:
            if "closed" in self._entry.path:
                raise OSError(errno.EIO, "Input/output error", self._entry.path)
            return self._entry.stat()

    monkeypatch.setattr(os, "scandir", Refusing)
    world.ingest()
    assert world.events() == ["two"]
    assert world.skipped == [Skipped("closed/a.ndjson", "cannot be read: Input/output error")]


def test_names_of_programs_own_files_are_no_events(tmp_path: Path) -> None:
    land(tmp_path, "_temporary/0/part-0.ndjson", "one.")
    land(tmp_path, "_delta_log/0001.json", "one.")
    for name in ("_SUCCESS", "_committed_17", "_metadata", "a.ndjson.done", "a.ndjson~", "a._COPYING_", "a.inprogress"):
        land(tmp_path, name, "one.")
    land(tmp_path, "_events.ndjson.gz", "one.")
    land(tmp_path, "part-0.ndjson", "one.")

    assert paths(tmp_path) == (["part-0.ndjson"], {"_events.ndjson.gz": OURS})


def test_lake_is_never_read_as_events(world: World) -> None:
    world.land(make_event(uuid="one"))
    world.ingest()
    found, skipped = paths(world.root)

    assert found == ["landing/a.ndjson"]
    assert skipped == {"lake": "is a lake of Headroom: its events were read already"}


def test_link_is_followed_within_the_folder_alone(world: World) -> None:
    outside = world.root / "outside"
    land(outside, "secrets.ndjson", make_event(uuid="secret"))
    world.land(make_event(uuid="good"), name="good.ndjson")
    for name, target in {
        "again": "good.ndjson",
        "absolute": world.landing / "good.ndjson",
        "out": outside / "secrets.ndjson",
        "up": "../outside/secrets.ndjson",
        "chain": "out.ndjson",
    }.items():
        (world.landing / f"{name}.ndjson").symlink_to(target)
    world.ingest()

    assert world.events() == ["good"]
    assert {entry.path: entry.reason for entry in world.skipped} == dict.fromkeys(
        ("chain.ndjson", "out.ndjson", "up.ndjson"), "is a link out of the landing folder: put the file itself there"
    )
