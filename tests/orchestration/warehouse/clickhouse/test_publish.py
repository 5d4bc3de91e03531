"""The published copy of marts on ClickHouse: the types that contracts name, and one whole build or the one before."""

import sys
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestration.warehouse.clickhouse import publish as clickhouse_publish
from orchestration.warehouse.clickhouse.client import ClickHouse, ClickHouseError
from orchestration.warehouse.clickhouse.publish import publish
from tests.fakes.clickhouse import PASSWORD, USER, NoClickHouseError, Node, running
from tests.support.duckdb_file import opened
from tests.support.killing import KilledError, at_line

pytestmark = pytest.mark.clickhouse
TYPES = {
    "account_id": "varchar",
    "used": "bigint",
    "variance": "decimal(38,0)",
    "pct": "decimal(18,6)",
    "ratio": "double",
    "is_current": "boolean",
    "usage_date": "date",
    "at": "timestamp",
    "quota": "bigint",
}
ROW = """
    'Zoë ''acme''' as account_id, toInt64(9007199254740993) as used,
    toDecimal128('99999999999999999999999999999999999999', 0) as variance, toDecimal64('79.999999', 6) as pct,
    toFloat64(0.1) as ratio, true as is_current, toDate('2026-11-20') as usage_date,
    toDateTime64('2026-11-20 07:59:59.123456', 6, 'UTC') as at, cast(null as Nullable(Int64)) as quota
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    try:
        with running(1) as [started]:
            yield started
    except NoClickHouseError as error:
        pytest.skip(f"no ClickHouse: {error}")


@pytest.fixture
def server(node: Node) -> ClickHouse:
    """With a mart of one row, and one whose number is that of the build."""
    server = ClickHouse(SecretStr(f"http://{USER}:{PASSWORD}@127.0.0.1:{node.http_port}/default"))
    server.ask(f"create or replace table types engine = MergeTree order by tuple() as select {ROW}")
    build(server, 1)
    return server


def build(server: ClickHouse, number: int, query: str = "") -> None:
    for name in ("a", "b"):
        rows = query if name == "b" and query else f"select toInt64({number}) as build from numbers(3)"
        server.ask(f"create or replace view {name} as {rows}")


def published(server: ClickHouse, folder: Path) -> Path:
    path = folder / "published.duckdb"
    columns = {"a": {"build": "bigint"}, "b": {"build": "bigint"}}
    assert publish(server, columns, path, folder / "lock") == {"a": 3, "b": 3}
    return path


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    with opened(path, read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_types_and_values_are_those_of_the_contract(server: ClickHouse, tmp_path: Path) -> None:
    path = tmp_path / "published.duckdb"
    assert publish(server, {"types": TYPES}, path, tmp_path / "lock") == {"types": 1}

    assert {name: kind.lower() for name, kind, *_ in ask(path, "describe types")} == TYPES
    moment = datetime(2026, 11, 20, 7, 59, 59, 123456)  # noqa: DTZ001 - in the marts timestamps are naive UTC
    [row] = ask(path, "from types")
    assert row == (
        *("Zoë 'acme'", 9007199254740993, Decimal(10**38 - 1), Decimal("79.999999"), 0.1),
        *(True, date(2026, 11, 20), moment, None),
    )
    assert [file.name for file in tmp_path.iterdir() if "published" in file.name] == ["published.duckdb"]


def test_export_that_fails_on_its_way_leaves_the_copy_that_was_there(server: ClickHouse, tmp_path: Path) -> None:
    path = published(server, tmp_path)
    build(
        server, 2, "select toInt64(number + throwIf(number = 20000000, 'on its way')) as build from numbers(40000000)"
    )

    with pytest.raises(ClickHouseError, match="on its way"):
        published(server, tmp_path)
    assert ask(path, "from a union all from b") == [(1,)] * 6
    server.ask("drop view b")
    with pytest.raises(ClickHouseError, match=r"identifier 'b'.*`headroom run --only models` makes it"):
        published(server, tmp_path)
    build(server, 3)
    assert ask(published(server, tmp_path), "from a union all from b") == [(3,)] * 6


def test_readers_see_one_build_wherever_publishing_was_killed(server: ClickHouse, tmp_path: Path) -> None:
    path = published(server, tmp_path)
    build(server, 2)

    def kill() -> None:
        raise KilledError

    for line in count(1):
        sys.settrace(at_line(line, {clickhouse_publish.__file__}, kill))
        try:
            published(server, tmp_path)
            break
        except KilledError:
            pass
        finally:
            sys.settrace(None)
        assert ask(path, "select distinct build from (from a union all from b)") in ([(1,)], [(2,)])
    assert line > 10
    assert ask(path, "from a union all from b") == [(2,)] * 6
