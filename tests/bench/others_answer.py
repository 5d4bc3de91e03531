"""The question that each contender answers, for those that count in DuckDB, and how an answer is told to `others`.

Imported in the other tools' environments too, so it needs nothing of the project's.
"""

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

TOP = 100

DAILY_USAGE = """
    select account_id, cast(called_at at time zone 'UTC' as date) as usage_date, count(*) as calls
    from {calls} group by account_id, usage_date
"""
MONTH_TO_DATE = """
    select account_id, sum(calls)::bigint as calls_mtd from {daily_usage}
    where usage_date >= date_trunc('month', now() at time zone 'UTC') group by account_id
"""
TOP_ACCOUNTS = "select account_id, calls_mtd from {utilization} order by calls_mtd desc, account_id limit {top}"


def answer_from(connection: Any, calls: str, target: Path, *packages: str) -> None:
    """Roll up the relation `calls` (account_id, called_at) of an open DuckDB connection and tell the result."""
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"create temp table usage_per_day as {DAILY_USAGE.format(calls=calls)}")
    utilization = f"({MONTH_TO_DATE.format(daily_usage='usage_per_day')})"
    top = connection.execute(TOP_ACCOUNTS.format(utilization=utilization, top=TOP)).fetchall()
    [[counted]] = connection.execute("select sum(calls)::bigint from usage_per_day").fetchall()
    show(top)
    tell(target, counted, top, *packages)


def show(top: Sequence[Sequence[object]]) -> None:
    sys.stdout.write("".join(f"{account} {count}\n" for account, count in top))


def tell(target: Path, calls: int, top: Sequence[Sequence[object]], *packages: str) -> None:
    """Leave the answer beside `target`, to be compared."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    answer = {"calls": calls, "top": [list(row) for row in top], "versions": versions}
    answer_file(target).write_text(json.dumps(answer))


def answer_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.answer.json")
