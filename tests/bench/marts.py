"""All marts rebuilt from a lake of ten million calls, against their bare SQL; and how fast a page of them is read."""

import json
import os
import statistics
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path

import duckdb

from orchestration.warehouse import queries
from tests.bench import history, ingest
from tests.bench.jobs import dbt_build
from tests.bench.measure import ROOT, Row, python, row, timed

DAYS = int(os.environ.get("BENCH_MARTS_DAYS", "10"))
ACCOUNTS = 5_000
ROUNDS = int(os.environ.get("BENCH_MARTS_ROUNDS", "3"))
READ_ACCOUNTS = (5_000, 100_000, 1_000_000)
READS = 101


def bench(folder: Path) -> list[Row]:
    data, target, bare = folder / "marts", folder / "target", folder / "bare" / "warehouse.duckdb"
    history.make_history(data / "lake", DAYS)
    write_quotas(folder / "quotas" / "quotas.ndjson")
    python(ingest.__name__, "lake", folder / "quotas", data / "lake")
    bare.parent.mkdir()
    build = [*dbt_build(target), "--full-refresh"]
    timed(build, data)  # its SQL is the baseline; and from now on the project is parsed
    ours: list[float] = []
    untested: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        for command, seconds in ((build, ours), ([*build, "--exclude-resource-type", "unit_test", "test"], untested)):
            (data / "warehouse.duckdb").unlink()
            seconds.append(timed(command, data))
        bare.unlink(missing_ok=True)
        theirs.append(python(__name__, target / "manifest.json", bare).seconds)
    assert_same(data / "warehouse.duckdb", bare)
    what = f"full refresh of all marts, {DAYS * history.DAY_EVENTS:,} calls (median of {ROUNDS})"
    against = "the same SQL, one model after the other in one DuckDB process"
    return [
        row(f"{what}: models and their tests", ours, theirs, against),
        row(f"{what}: models alone", untested, theirs, against),
        *bench_reading(folder, bare),
    ]


def bench_reading(folder: Path, built: Path) -> list[Row]:
    """The first hundred accounts, on a connection that stays open: the five columns of a page, and all as the terminal
    wants them.
    """
    page = "select account_id, used_mtd, quota, pct_of_cap, hits_cap_on from utilization_mtd order by pct_of_cap desc"
    milliseconds: dict[str, dict[int, float]] = {f"{page} nulls last": {}, queries.UTILIZATION: {}}
    for accounts in READ_ACCOUNTS:
        copy = folder / f"published-{accounts}.duckdb"
        with duckdb.connect(str(copy)) as connection:
            connection.execute(f"attach '{built}' as built (read_only)")
            connection.execute(f"""
                create table utilization_mtd as
                select accounts.* replace (accounts.account_id || '-' || copies.number as account_id)
                from built.utilization_mtd as accounts, range({accounts} // {ACCOUNTS} + 1) as copies (number)
                limit {accounts}
            """)
        with duckdb.connect(str(copy), read_only=True) as connection:
            for query, medians in milliseconds.items():
                medians[accounts] = 1000 * statistics.median(_seconds(connection, query) for _ in range(READS))
    least = READ_ACCOUNTS[0]
    return [
        Row(
            f"top 100 of {accounts:,} accounts, {what}, open connection (median of {READS})",
            f"{value:.1f} ms",
            f"{medians[least]:.1f} ms",
            f"{value / medians[least]:.1f}",
            f"the same of {least:,}",
            value / medians[least],
        )
        for what, medians in zip(("a page", "all columns, soonest cap first"), milliseconds.values(), strict=True)
        for accounts, value in medians.items()
    ]


def _seconds(connection: duckdb.DuckDBPyConnection, query: str) -> float:
    started = time.perf_counter()
    rows = connection.execute(f"{query} limit 100").fetchall()
    seconds = time.perf_counter() - started
    assert len(rows) == 100
    return seconds


def write_quotas(path: Path) -> None:
    """A quota for every account of the history, near what it uses in ten days: some cross, some do not."""
    path.parent.mkdir()
    with path.open("w") as file:
        for number in range(1, ACCOUNTS + 1):
            properties = {"account_id": f"account-{number}", "api_quota_monthly": 1_000_000 // number + 1}
            event = {"event": "quota_set", "uuid": f"quota-{number}", "timestamp": "2026-01-01T00:00:00Z"}
            file.write(json.dumps({**event, "properties": properties}) + "\n")


def build_bare(manifest_file: Path, target: Path) -> None:
    """Run what dbt compiled, with the settings of its profile and nothing between the statements."""
    manifest = json.loads(manifest_file.read_text())
    nodes = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] in ("model", "seed")}
    order = TopologicalSorter({key: node["depends_on"].get("nodes", []) for key, node in nodes.items()}).static_order()
    config = {"threads": 2, "storage_compatibility_version": "v1.5.0"}
    with duckdb.connect(str(target), config=config) as connection:
        connection.execute("set TimeZone = 'UTC'; set disabled_optimizers = 'build_side_probe_side'")
        for key in order:
            if key not in nodes:
                continue
            node = nodes[key]
            kind = "view" if node["config"]["materialized"] == "view" else "table"
            sql = node.get("compiled_code")
            if node["resource_type"] == "seed":
                types = json.dumps(node["config"]["column_types"]).replace('"', "'")
                sql = f"select * from read_csv('{ROOT}/dbt_project/{node['original_file_path']}', types = {types})"
            started = time.perf_counter()
            connection.execute(f"create {kind} {node['name']} as {sql}")
            sys.stdout.write(f"{time.perf_counter() - started:7.3f} s  {node['name']}\n")


def assert_same(ours: Path, bare: Path) -> None:
    """:raises AssertionError: the two did not count the same."""
    counts = []
    for path in (ours, bare):
        with duckdb.connect(str(path), read_only=True) as connection:
            counts.append(connection.execute("select count(*), sum(used_mtd) from utilization_mtd").fetchall())
    assert counts[0] == counts[1], counts


if __name__ == "__main__":
    build_bare(Path(sys.argv[1]), Path(sys.argv[2]))
