"""A plain dbt project over the raw files: three models in DuckDB, and the top accounts printed when it is done."""

from pathlib import Path

import duckdb

from tests.bench.measure import BIN
from tests.bench.others_answer import DAILY_USAGE, MONTH_TO_DATE, TOP, TOP_ACCOUNTS, tell

PROJECT = """
name: plain
profile: plain
flags: {send_anonymous_usage_stats: false}
models: {+materialized: table}
on-run-end: "{{ print_top() }}"
"""
PROFILE = """
plain:
  target: duckdb
  outputs:
    duckdb: {{type: duckdb, path: '{warehouse}', threads: 2, settings: {{TimeZone: UTC}}}}
"""
STAGING = """
    select distinct on (uuid)
        event, uuid, distinct_id, cast(timestamp as timestamptz) as called_at, properties.account_id as account_id,
        properties.endpoint as endpoint, properties.status as status, properties
    from read_json_auto('{landing}/*.ndjson', format = 'newline_delimited', ignore_errors = true)
    where uuid is not null
"""
PRINT_TOP = """
{{% macro print_top() %}}
    {{% if execute %}}
        {{% for row in run_query("{top}").rows %}}{{% do print(row[0] ~ " " ~ row[1]) %}}{{% endfor %}}
    {{% endif %}}
{{% endmacro %}}
"""


def write_project(project: Path, landing: Path, warehouse: Path) -> None:
    top = TOP_ACCOUNTS.format(utilization="utilization", top=TOP)
    files = {
        "dbt_project.yml": PROJECT,
        "profiles.yml": PROFILE.format(warehouse=warehouse),
        "models/stg_calls.sql": STAGING.format(landing=landing),
        "models/daily_usage.sql": DAILY_USAGE.format(calls="{{ ref('stg_calls') }}"),
        "models/utilization.sql": MONTH_TO_DATE.format(daily_usage="{{ ref('daily_usage') }}"),
        "macros/print_top.sql": PRINT_TOP.format(top=top),
    }
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def build(project: Path) -> list[str | Path]:
    return [BIN / "dbt", "build", "--project-dir", project, "--profiles-dir", project, "--log-path", project / "logs"]


def tell_built(warehouse: Path, target: Path) -> None:
    """After the measured process: what it built, told like the others' answers."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        [[calls]] = connection.execute("select sum(calls)::bigint from daily_usage").fetchall()
        top = connection.execute(TOP_ACCOUNTS.format(utilization="utilization", top=TOP)).fetchall()
    tell(target, calls, top, "dbt-core", "dbt-duckdb", "duckdb")
