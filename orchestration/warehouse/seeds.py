"""The seeds of the dbt project (CSV) as people edit them: sentences for what dbt would stumble over, before it does.

What the rows mean, and whether they fit together, is tested by the project's own data tests. Only the meters are judged
here: the ingest needs them before any build.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from orchestration.lake import cells, in_memory
from orchestration.usage import meter_problems, meters
from orchestration.usage.meters import Meter

METERS = "seeds/meters.csv"
SENTENCES = ("recommended_action",)
"""Columns in which a blank more or less is nothing."""
LISTED = 5


@dataclass
class Examined:
    """What was found."""

    problems: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Columns that mean nothing: they harm nothing either."""


def types_of(nodes: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """DuckDB's type by column of each seed among those nodes of a manifest."""
    return {
        node["original_file_path"]: node["config"]["column_types"]
        for name, node in nodes.items()
        if node["resource_type"] == "seed" and name in names
    }


def examine(folder: Path, seeds: Mapping[str, Mapping[str, str]]) -> Examined:
    """Look at each of these files of the dbt project in `folder`, with the columns that it should have."""
    found = Examined()
    with in_memory.engine() as connection:
        for name, types in seeds.items():
            _examine(connection, folder / name, name, types, found)
    if METERS in seeds and not found.problems:
        found.problems += [f"{METERS}: {problem}" for problem in meter_problems.problems(_meters(folder))]
    return found


class MetersError(ValueError):
    """The file of meters has mistakes: a sentence for each, and what to do."""

    def __init__(self, file: Path, problems: Sequence[str]) -> None:
        lines = "\n".join(f"- {problem}" for problem in problems)
        super().__init__(f"{file} has errors; nothing was read or counted:\n{lines}\nRepair, and run again.")
        self.problems = problems


def read_meters(folder: Path) -> list[Meter]:
    """The meters of the dbt project in `folder`, the main one first.

    :raises MetersError: the file has mistakes.
    """
    if problems := examine(folder, {METERS: meters.COLUMNS}).problems:
        raise MetersError(folder / METERS, problems)
    return _meters(folder)


def _meters(folder: Path) -> list[Meter]:
    with (folder / METERS).open(encoding="utf-8-sig", newline="") as stream:
        return meters.meters_of(csv.DictReader(stream))


def _examine(
    connection: duckdb.DuckDBPyConnection, path: Path, name: str, types: Mapping[str, str], found: Examined
) -> None:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        found.problems.append(f"{name} is not UTF-8 text: export it as UTF-8.")
        return
    except OSError as error:
        found.problems.append(f"{name} cannot be read ({error.strerror}).")
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(filter(None, reader), [])
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        found.problems.append(f"{name}, line {reader.line_num}: {error}. Look at its quotes.")
        return
    plain = [cells.strip(column).lower() for column in header]
    if missing := [column for column in types if column not in plain]:
        found.problems.append(
            f"{name}: the first line must name {', '.join(types)}. It lacks {', '.join(missing)}, and names {header}."
        )
        return
    known = [(i, column) for i, column in enumerate(plain) if column in types]
    found.problems += [
        f"{name}: the first line names {column} {count} times. Name each column once."
        for column, count in Counter(column for _, column in known).items()
        if count > 1
    ]
    found.problems += [
        f"{name}: the first line names {header[i]!r}. Write {column}." for i, column in known if header[i] != column
    ]
    found.unknown += [f"{name}: {column}" for column in header if cells.strip(column).lower() not in types]
    wrong = [
        f"{name}, line {line}, {said}." for line, row in rows for said in _wrong(connection, header, known, types, row)
    ]
    found.problems += wrong[:LISTED]
    if len(wrong) > LISTED:
        found.problems.append(f"{name}: {len(wrong) - LISTED:,} more like that.")


def _wrong(
    connection: duckdb.DuckDBPyConnection,
    header: Sequence[str],
    known: Sequence[tuple[int, str]],
    types: Mapping[str, str],
    row: Sequence[str],
) -> list[str]:
    if len(row) > len(header):
        return [f"has {len(row)} cells, and the first line {len(header)} names: put a text with a comma in quotes"]
    said = []
    for i, column in known:
        text, kind = row[i] if i < len(row) else "", types[column]
        plain = cells.strip(text)
        if text != plain and column not in SENTENCES:
            said.append(f"{column} is {text!r}, with a blank around it. Write {plain!r}")
        elif plain and kind != "varchar" and not _is(connection, plain, kind):
            said.append(f"{column} is {text!r}, which is not a {_word(kind)}")
    return said


def _is(connection: duckdb.DuckDBPyConnection, text: str, kind: str) -> bool:
    return connection.execute(f"select try_cast(? as {kind}) is not null", [text]).fetchall() == [(True,)]


def _word(kind: str) -> str:
    words = {"date": "date, such as 2026-11-20", "boolean": "boolean: write true or false", "bigint": "whole number"}
    return words.get(kind, "whole number" if kind == "integer" else "number, such as 1010.00")
