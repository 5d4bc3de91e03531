"""The quarantine: which refused lines still stand, and what was lost with them.

A refused line is not there for ever. A half line may become whole, and a damaged file may land again: then its lines
are read again from a known one on, which a row without a reason says. What was refused of them before is forgotten,
and refused again where it is still bad. The dbt model stg_rejected_lines has the same rule.
"""

from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from orchestration.lake import parquet, remembered
from orchestration.lake.batch import REJECTED_COLUMNS, literal
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.remembered import Known

CUT_OFF = "… cut off: "
"""In a refused line of which only the beginning is kept."""


def standing(files: Iterable[Path], generation: int) -> str:
    """A query for the refused lines of these files that still stand, as REJECTED_COLUMNS."""
    names = ", ".join(literal(str(path)) for path in files)
    return f"""(
        select {", ".join(REJECTED_COLUMNS)} from (
            select *, min(case when reason is null then line_number end) over (
                partition by origin order by coalesce(batch, 0) desc, reason is null
                rows between unbounded preceding and 1 preceding
            ) as read_again_from
            from read_parquet([{names}], union_by_name = true, hive_partitioning = false)
        )
        where reason is not null and generation = {generation} and not coalesce(line_number >= read_again_from, false)
    )"""


def held_in_part(
    connection: duckdb.DuckDBPyConnection, batches: Path, origins: Set[str], kept_as_they_are: Sequence[str]
) -> set[str]:
    """Those contents of which a line was ever refused whose bytes are not all in quarantine."""
    files = sorted(batches.glob("[0-9]*/rejected*.parquet"))
    names = ", ".join(literal(str(path)) for path in files)
    found = connection.execute(
        f"select distinct origin from read_parquet([{names}], union_by_name = true, hive_partitioning = false)"
        " where (list_contains(?, reason) or contains(line, ?)) and list_contains(?, origin)",
        [[str(each) for each in kept_as_they_are], CUT_OFF.strip(), sorted(origins)],
    ).fetchall()
    return {origin for (origin,) in found}


def read_again(begun: Iterable[LandedFile], files: Sequence[LandedFile], known: Known) -> list[tuple[str, str, int]]:
    """Path, origin and first line of contents that a batch reads again, or for good: lines of before may be in
    quarantine from there on. `begun` are the files as the batch began to read them, `files` as it left them.
    """
    found = {(file.path, file.origin, file.read_lines + 1) for file in begun if not _is_as_it_was(file)}
    earlier = {each.path: each for each in remembered.of(known).find("path", [file.path for file in files])}
    for file in files:
        before = earlier.get(file.path)
        if not before or not before.damage or file.damage or not file.is_complete:
            continue
        # nothing but its end was missing, or nothing of it could be read
        if before.origin == file.origin or (not before.read_lines and file.stored_bytes >= before.stored_bytes):
            found.add((file.path, before.origin, before.read_lines + 1))
    return sorted(found)


def _is_as_it_was(file: LandedFile) -> bool:
    """Whether its content is still the one that it is named after: then no line of it was ever read twice."""
    return file.origin.endswith(f"#{file.sha256[:16]}")


def complete_columns(empty: Path) -> None:
    """Give the lake's empty file of refused lines the columns of today: readers take those that any file has."""
    if empty.exists() and pq.read_schema(empty).names != list(REJECTED_COLUMNS):
        staged = empty.with_name(f".{empty.name}")
        parquet.write(staged, REJECTED_COLUMNS)
        staged.replace(empty)
