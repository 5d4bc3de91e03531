"""`headroom backup`: the ledger and the lake that it refers to, as a folder that can be put in their place.

The warehouse, the published copy and Dagster's history are not in it: the first two are built from the lake.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from orchestration.lake.lake import Lake
from orchestration.ledger import restored
from orchestration.settings import Settings


@dataclass(frozen=True)
class Backup:
    """What is in it."""

    folder: Path
    batches: int
    bytes: int


def make(config: Settings, target: Path, clock: Callable[[], datetime]) -> Backup:
    """Make the folder `target`; it is there as a whole or not at all. Jobs may run; ingestion waits a little.

    The lake's files are never changed, so on its own disk they are linked, which takes no space; elsewhere, copied.

    :raises ValueError: the folder exists, or the ledger is not in SQLite.
    :raises LakeBucketError: the lake may lack batches that are in its bucket.
    """
    lake = Lake(config.lake, config.lake_url)
    with lake.writing():  # all of it, so that a second backup of the same name does not get into this one
        if target.exists():
            raise ValueError(f"{target} already exists. Name a new folder, such as {target}/{clock():%Y-%m-%d}")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        # The ledger first: a batch that it does not know of is recorded from its manifest, one that is missing is lost.
        restored.copy(config.ledger_url, part / "ledger.sqlite", clock())
        shutil.copytree(
            lake.root,
            part / "lake",
            copy_function=_linked,
            # copies of the ledger's rows are left out
            ignore=shutil.ignore_patterns(".*", "meter_reports", "subscription_periods", "prepaid_credit", "alerts"),
        )
        for path in (config.accounts_csv, config.subjects_csv, config.customers_csv):
            if path.exists():
                shutil.copy2(path, part / f"{path.stem}.csv")
        os.sync()
        part.rename(target)
    sizes = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
    return Backup(target, len(list((target / "lake" / "batches").iterdir())), sum(sizes))


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copy2(source, target)
