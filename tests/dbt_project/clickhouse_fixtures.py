"""The dbt project with the fixtures of its unit tests as values: what a fixture in DuckDB's own words is, DuckDB says.

dbt runs them on ClickHouse as they are where they are rows, or SQL that both engines know; all others come out here as
typed constants.
"""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

TYPES = {
    "VARCHAR": "String",
    '"NULL"': "String",
    "BIGINT": "Int64",
    "INTEGER": "Int32",
    "HUGEINT": "Int128",
    "DOUBLE": "Float64",
    "BOOLEAN": "Bool",
    "DATE": "Date",
    "TIMESTAMP": "DateTime64(6, 'UTC')",
    "TIMESTAMP WITH TIME ZONE": "DateTime64(6, 'UTC')",
}


def write(project: Path, target: Path) -> None:
    """Copy the project."""
    shutil.copytree(project, target)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for path in (target / "models" / "unit_tests").glob("*.yml"):
            content = yaml.safe_load(path.read_text())
            given = [fixture for test in content["unit_tests"] for fixture in test["given"]]
            for fixture in {id(each): each for each in given}.values():  # an anchor's is there more than once
                if fixture.get("format") == "sql":
                    fixture["rows"] = as_values(connection.sql(fixture["rows"]))
            for expected in (test["expect"] for test in content["unit_tests"]):
                if expected.pop("format", None) == "sql":  # as rows, which dbt casts to the types of the model
                    rows = connection.sql(expected["rows"])
                    expected["rows"] = [
                        dict(zip(rows.columns, map(plain, row), strict=True)) for row in rows.fetchall()
                    ]
            path.write_text(yaml.dump(content, Dumper=WithoutAnchors, allow_unicode=True, width=10**6))


class WithoutAnchors(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_values(rows: duckdb.DuckDBPyRelation) -> str:
    """The same rows as ClickHouse's SQL, each column of its type, which may be null."""
    kinds = [str(kind) for kind in rows.types]
    columns = ", ".join(
        f"cast({name} as Nullable({TYPES.get(kind, kind)})) as {name}"
        for name, kind in zip(rows.columns, kinds, strict=True)
    )
    values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows.fetchall())
    names = ", ".join(rows.columns)
    return f"select {columns} from (values {values}) as fixture ({names})"


def plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int) else str(value)


def literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, datetime):
        value = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return f"'{value.isoformat(' ')}'"
    if isinstance(value, date):
        return f"'{value.isoformat()}'"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)
