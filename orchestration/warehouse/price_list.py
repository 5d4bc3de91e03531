"""The price list as its files have it: for the time before a first run. The files are read and checked as a build does
both, by the project's own data tests. Later the published copy has the list.
"""

from pathlib import Path
from typing import Any

import duckdb
import jinja2

from orchestration.lake import in_memory
from orchestration.usage.meters import COLUMNS
from orchestration.warehouse.published_copy import rows_of

SEEDS = {
    "meters": COLUMNS,
    "plans": {
        "plan": "varchar",
        "meter": "varchar",
        "included_units": "decimal(24,6)",
        "base_price": "decimal(18,2)",
        "pricing": "varchar",
        "unit_price": "decimal(18,12)",
        "package_units": "decimal(24,6)",
        "package_price": "decimal(18,12)",
        "limit_kind": "varchar",
        "rate_limit_per_second": "bigint",
        "next_plan": "varchar",
        "currency": "varchar",
    },
    "plan_tiers": {
        "plan": "varchar",
        "meter": "varchar",
        "tier_number": "integer",
        "up_to_units": "decimal(24,6)",
        "unit_price": "decimal(18,12)",
        "flat_price": "decimal(18,12)",
    },
}
"""Columns and types as in dbt_project.yml."""
DATA_TESTS = ("plans_can_be_priced", "plan_tiers_have_no_gaps")
"""Each gives a sentence for each problem."""


def price_list(project: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of plans.csv and of plan_tiers.csv in dbt's project, in whole units of their meters.

    :raises ValueError: a file cannot be read, or a build would refuse it; the message says why.
    """
    with in_memory.engine() as connection:
        for seed, types in SEEDS.items():
            file = project / "seeds" / f"{seed}.csv"
            columns = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
            try:
                connection.execute(
                    f"create temp table {seed} as from read_csv(?, header = true, delim = ',', types = {{{columns}}})",
                    [str(file)],
                )
            except duckdb.Error as error:
                raise ValueError(f"{file} cannot be read: {str(error).partition(chr(10))[0]}") from None
        problems = [
            problem
            for test in DATA_TESTS
            for (problem,) in connection.execute(_sql(project / "data-tests" / f"{test}.sql")).fetchall()
        ]
        if problems:
            raise ValueError(f"{project / 'seeds'}: {' '.join(sorted(problems))} Correct the file, then repeat this.")
        plans, tiers = (rows_of(connection, f"from {seed}") for seed in ("plans", "plan_tiers"))
    return plans, tiers


def _sql(test: Path) -> str:
    """A data test of which the tables are called as its models are."""
    template = jinja2.Environment(autoescape=False).from_string(test.read_text(encoding="utf-8"))  # noqa: S701 - SQL
    return template.render(ref=lambda name: name, config=lambda **_: "")
