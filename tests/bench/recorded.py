"""The ratios that were measured last and committed (`recorded.json`), beside those of a new run."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.measure import Row

FILE = Path(__file__).with_name("recorded.json")
SLOWER = 1.1
"""From there on it is marked: two runs of the same code may be a few percent apart."""


@dataclass(frozen=True)
class Figure:
    """What a row was when it was recorded."""

    name: str
    time_ratio: float
    """Headroom's time as a multiple of the baseline's."""
    date: str
    machine: str


def load(file: Path = FILE) -> dict[str, Figure]:
    """The recorded figures by the name of their row."""
    return {entry["name"]: Figure(**entry) for entry in json.loads(file.read_text())}


def save(figures: Mapping[str, Figure], file: Path = FILE) -> None:
    entries = [asdict(figure) for _, figure in sorted(figures.items())]
    file.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n")


def figures(rows: Iterable[Row], date: str, machine: str) -> dict[str, Figure]:
    """What there is to record of a run."""
    return {row.name: Figure(row.name, round(row.time_ratio, 3), date, machine) for row in rows if row.time_ratio}


def is_slower(row: Row, known: Mapping[str, Figure]) -> bool:
    """Whether the row takes longer than recorded, by more than a tenth."""
    figure = known.get(row.name)
    return bool(figure and row.time_ratio and row.time_ratio > SLOWER * figure.time_ratio)


def compare(row: Row, known: Mapping[str, Figure]) -> str:
    """What was recorded of the row, and how much longer or shorter it takes now."""
    figure = known.get(row.name)
    if not figure or not row.time_ratio:
        return ""
    percent = round(100 * (row.time_ratio / figure.time_ratio - 1))
    mark = "SLOWER: " if is_slower(row, known) else ""
    return f"{mark}{figure.time_ratio:.2f} on {figure.date}, now {percent:+} %"


def machine() -> str:
    """What the figures depend on."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = platform.python_version().rpartition(".")[0]
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GB, Python {python}"
