"""ClickHouse in process (chdb), in an environment of its own: typed table, malformed lines skipped by its own setting.

With ReplacingMergeTree and FINAL an event counts once; with MergeTree every copy counts.
"""

import json
import sys
from pathlib import Path

from chdb.session import Session

from tests.bench.others_answer import TOP, show, tell


def main(how: str, landing: Path, target: Path) -> None:
    target.mkdir(parents=True)
    engine, final = {
        "replacing": ("ReplacingMergeTree order by uuid", "final"),
        "plain": ("MergeTree order by (distinct_id, timestamp)", ""),
    }[how]
    session = Session(str(target / "clickhouse"))
    session.query("create database usage")
    session.query(f"""
        create table usage.calls (
            event LowCardinality(String), uuid UUID, distinct_id String, timestamp DateTime64(3, 'UTC'),
            properties Tuple(
                account_id String, endpoint LowCardinality(String), method LowCardinality(String), status UInt16,
                region LowCardinality(String), duration_ms UInt32
            )
        ) engine = {engine}
    """)
    session.query(f"""
        insert into usage.calls select * from file('{landing}/*.ndjson', JSONEachRow)
        settings input_format_allow_errors_ratio = 1, input_format_allow_errors_num = 1000000000,
            date_time_input_format = 'best_effort'
    """)
    session.query(f"""
        create table usage.daily_usage engine = MergeTree order by (account_id, usage_date) as
        select properties.account_id as account_id, toDate(timestamp, 'UTC') as usage_date, count() as calls
        from usage.calls {final} group by account_id, usage_date
    """)
    top = session.query(
        f"""
        select account_id, toFloat64(sum(calls)) as calls_mtd from usage.daily_usage
        where usage_date >= toStartOfMonth(now('UTC')) group by account_id
        order by calls_mtd desc, account_id limit {TOP}
        """,
        "JSONCompactEachRow",
    )
    counted = session.query("select sum(calls) from usage.daily_usage", "TabSeparated")
    rows = [(account, int(calls)) for account, calls in map(json.loads, str(top).splitlines())]
    show(rows)
    tell(target, int(str(counted)), rows, "chdb", "chdb-core")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
