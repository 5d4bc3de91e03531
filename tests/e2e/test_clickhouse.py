"""`headroom` with the marts on ClickHouse, two real nodes: it prints and publishes what it does with them on DuckDB.

The tests follow one another on the same folders.
"""

import re
import shutil
from collections.abc import Iterator

import duckdb
import pytest

from tests.e2e.program import Program, Result, finish
from tests.fakes.clickhouse import CLUSTER, PASSWORD, USER, NoClickHouseError, Node, running

pytestmark = pytest.mark.clickhouse


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    try:
        with running(2) as started:
            yield started
    except NoClickHouseError as error:
        pytest.skip(f"no ClickHouse: {error}")


@pytest.fixture(scope="module")
def on_duckdb(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """With the events of the demo."""
    program = Program(tmp_path_factory.mktemp("duckdb"))
    program.run("generate", "--accounts", "60", "--days", "40", "--events", "20000")
    return program


@pytest.fixture(scope="module")
def on_clickhouse(nodes: list[Node], on_duckdb: Program, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """With the same events."""
    url = f"http://{USER}:{PASSWORD}@127.0.0.1:{nodes[0].http_port}/program?cluster={CLUSTER}"
    program = Program(tmp_path_factory.mktemp("clickhouse"), {"HEADROOM_CLICKHOUSE_URL": url})
    shutil.copytree(on_duckdb.landing, program.landing, dirs_exist_ok=True)
    program.data.mkdir(exist_ok=True)
    shutil.copy(on_duckdb.data / "accounts.csv", program.data)
    return program


def printed(program: Program, result: Result) -> str:
    """What a run says, without its seconds, its folder, and the real clock."""
    text = result.stdout.replace(str(program.folder), "…")
    return re.sub(r"Previewed \S+ \S+ UTC", "Previewed", text[text.index("Ingested") :])


def columns(program: Program) -> dict[str, list[tuple[str, str]]]:
    with duckdb.connect(str(program.data / "published.duckdb"), read_only=True) as connection:
        found = connection.execute(
            """select table_name, column_name, data_type from duckdb_columns()
               where not internal order by table_name, column_index"""
        ).fetchall()
    tables: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in found:
        tables.setdefault(table, []).append((column, kind))
    return tables


def test_run_prints_what_it_prints_on_duckdb(on_duckdb: Program, on_clickhouse: Program) -> None:
    programs = (on_clickhouse, on_duckdb)
    results = [finish(process) for process in [program.start("run") for program in programs]]
    found, wanted = map(printed, programs, results)
    assert found == wanted
    assert "Usage digest · Wed 20 Nov" in found
    assert "Stripe: would send" in found


def test_published_copy_has_the_same_tables_with_the_same_types(on_duckdb: Program, on_clickhouse: Program) -> None:
    """But for the views on the lake, which the server has, and for what the next build remembers."""
    wanted, found = columns(on_duckdb), columns(on_clickhouse)
    missing = set(wanted) - set(found)
    assert missing == {name for name in missing if name.startswith("stg_")}
    assert found == {name: wanted[name] for name in found}
    assert {"stg_accounts", "stg_customers", "billable_usage_hourly"} <= set(found)


def test_server_error_is_said_in_a_sentence_and_publishes_nothing(on_clickhouse: Program) -> None:
    published = (on_clickhouse.data / "published.duckdb").read_bytes()
    url = on_clickhouse.environment["HEADROOM_CLICKHOUSE_URL"]

    result = on_clickhouse.run("run", "--only", "models", status=1, HEADROOM_CLICKHOUSE_URL=url.replace(":a-", ":b-"))
    assert "models failed: ClickHouse at 127.0.0.1:" in result.stderr
    assert "correct user and password in HEADROOM_CLICKHOUSE_URL" in result.stderr
    assert "Traceback" not in result.stderr
    assert (on_clickhouse.data / "published.duckdb").read_bytes() == published


def test_doctor_says_how_the_server_is(on_clickhouse: Program) -> None:
    said = on_clickhouse.run("doctor").stdout
    assert "ClickHouse: all 2 nodes of cluster headroom answer" in said
    assert "ClickHouse: it has the whole lake" in said


def test_rules_are_tried_as_they_are_on_duckdb(on_duckdb: Program, on_clickhouse: Program) -> None:
    """The published rules are made older than the files: as if these had been edited since."""
    said = []
    for program in (on_duckdb, on_clickhouse):
        with duckdb.connect(str(program.data / "published.duckdb")) as connection:
            connection.execute("update thresholds set threshold_pct = 85 where threshold_pct = 80")
        said.append(program.run("rules", "plan").stdout)
    assert said[0] == said[1]
    for line in ("thresholds.csv: 80 % (new)", "thresholds.csv: 85 % (gone)"):
        assert line in said[0]


def test_password_is_left_nowhere(on_clickhouse: Program) -> None:
    assert not [path for path in on_clickhouse.files() if PASSWORD.encode() in path.read_bytes()]
