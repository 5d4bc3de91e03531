"""Many small files of the lake, made into few, and days that are not kept removed: a batch adds a file to each day that
it touches.

Of each day, and of each other kind, the small files become one beside the newest of them, when there are too many.
Every row says which batch brought it, and manifests stay, so nothing but the number of files is another: also the last
batch of a day, by which a build knows what to count again, is the same. Files that are large enough are left alone, so
that a row is written again a few times and not once for each batch.

A second tree of folders is made, of links to the files that stay and of the new ones, and exchanged with the first in
one step. Who opens the lake before or after it sees every row once, and so does who comes after a kill; what is left of
it lies among what is not committed. New files have names that never were: who has listed the one tree, or parts of
both, and opens files of the other, misses one and fails. DuckDB lists all files before it opens the first.
"""

import ctypes
import os
import shutil
import sys
from collections import defaultdict
from contextlib import AbstractContextManager, suppress
from datetime import date
from pathlib import Path
from uuid import uuid4

import duckdb

from orchestration.lake import id_hash
from orchestration.lake.batch import literal
from orchestration.lake.parquet import ROW_GROUP_BYTES

FILES = 24
"""Small files of a day, or of another kind, that are left as they are: those of a day of hourly runs."""
SMALL_BYTES = 32 * 2**20
"""About a million calls. Larger files cost a reader nothing, and would be written again and again."""


def outdated(batches: Path, kept_from: date) -> bool:
    """Whether there are calls of days that are not kept."""
    return any(not _is_kept(folder.name, kept_from) for folder in batches.glob("[0-9]*/calls/*"))


def _is_kept(folder: str, kept_from: date) -> bool:
    """Of the folder of a day; that of the first batch is empty, so that there is always something to query."""
    day = folder.removeprefix("event_date=")
    return day == folder or day >= str(kept_from) or day == "1970-01-01"


def crowded(batches: Path, kept_from: date) -> list[list[Path]]:
    """Groups of files to be merged, each from the oldest batch to the newest."""
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for folder in sorted(batches.glob("[0-9]*"), key=lambda path: int(path.name)):
        if int(folder.name):  # the first one is empty, so that there is always something to query
            for path in folder.glob("calls/*/*.parquet"):
                if _is_kept(path.parent.name, kept_from):
                    groups[path.parent.name].append(path)
            for path in folder.glob("*.parquet"):
                groups[_kind(path)].append(path)
    # Only where there are many files their sizes are asked for.
    many = [paths for paths in groups.values() if len(paths) > FILES]
    small = [[path for path in paths if path.stat().st_size < SMALL_BYTES] for paths in many]
    return [paths for paths in small if len(paths) > FILES]


def _kind(path: Path) -> str:
    """calls, others or rejected: what a merged file is named after as well."""
    return path.stem.partition("-")[0]


def merge(
    connection: duckdb.DuckDBPyConnection,
    groups: list[list[Path]],
    batches: Path,
    kept_from: date,
    tree: Path,
    no_build: AbstractContextManager[object],
) -> None:
    """Exchange `batches` for the same with one file in place of each group and without calls of days before
    `kept_from`, made as `tree`, where the old one is then.

    :raises OSError, duckdb.Error: the disk is full, or cannot link files or exchange folders; nothing was changed.
    """
    merged = {path for group in groups for path in group}
    shutil.copytree(
        batches,
        tree,
        copy_function=os.link,
        ignore=lambda folder, names: [
            name for name in names if Path(folder, name) in merged or not _is_kept(name, kept_from)
        ],
    )
    for calls in tree.glob("[0-9]*/calls"):
        with suppress(OSError):  # of a day that is kept
            calls.rmdir()
    connection.execute("set preserve_insertion_order = false")  # costs memory, and no reader relies on it
    for group in groups:
        newest = tree / group[-1].relative_to(batches)
        target = newest.with_name(f"{_kind(newest)}-{uuid4().hex}.parquet")
        files = ", ".join(literal(str(path)) for path in group)
        every = id_hash.renewed() if _kind(newest) == "calls" else "*"
        connection.execute(
            f"copy (select {every} from read_parquet([{files}], union_by_name = true, hive_partitioning = false))"
            f" to {literal(str(target))}"
            f" (format parquet, compression zstd, compression_level 1, row_group_size_bytes {ROW_GROUP_BYTES})"
        ).fetchall()
        for path in group[:-1]:
            folder = tree / path.parent.relative_to(batches)
            if folder.exists() and not any(folder.iterdir()):
                os.removedirs(folder)
    with no_build:
        exchange(tree, batches)


def exchange(one: Path, other: Path) -> None:
    """Each takes the other's place, in one step, all of it synced; Python has no call for it.

    :raises OSError: the file system cannot do that; nothing was changed.
    """
    os.sync()  # one for all: a year has tens of thousands of links
    c = ctypes.CDLL(None, use_errno=True)
    here, swap = -100, 2  # AT_FDCWD, and RENAME_EXCHANGE or RENAME_SWAP
    paths = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            failed = c.renamex_np(*paths, swap)
        else:
            failed = c.renameat2(here, paths[0], here, paths[1], swap)
    except AttributeError:  # a C library that does not know it
        failed = True
    if failed:
        raise OSError(ctypes.get_errno(), "these folders cannot be exchanged here", str(one), None, str(other))
    os.sync()
