"""The lake in ClickHouse, on two real nodes: each call once, whatever ends a load, and whichever lake it is.

The tests follow one another on the same nodes, each in a database of its own; the last ones end a node.
"""

import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import duckdb
import pytest
from clickhouse_driver import Client
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from orchestration import settings
from orchestration.lake.batch import CALL_COLUMNS
from orchestration.lake.lake import Lake
from orchestration.lake.manifests import Batch
from orchestration.settings import Settings
from orchestration.usage.findings import Finding
from orchestration.warehouse.clickhouse import load as clickhouse_load
from orchestration.warehouse.clickhouse.client import ClickHouse, ClickHouseError
from orchestration.warehouse.engines import engine_of
from tests.dbt_project import lakes as lake_batches
from tests.fakes import clickhouse as servers
from tests.fakes.clickhouse import CLUSTER, PASSWORD, USER, NoClickHouseError, Node, running
from tests.support.builders import NOW, land, make_event, make_quota
from tests.support.killing import KilledError
from tests.support.pipeline import ingest
from tests.support.waiting import wait_until

pytestmark = pytest.mark.clickhouse
ACCOUNTS = 20
_numbers = count(1)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("AWS_ACCESS_KEY_ID", "test")  # for objects, a server has credentials of its own
            patched.setenv("AWS_SECRET_ACCESS_KEY", "test")
            with running(2) as started:
                yield started
    except NoClickHouseError as error:
        pytest.skip(f"no ClickHouse: {error}")


@pytest.fixture
def server(nodes: list[Node]) -> ClickHouse:
    return reached(nodes[0], f"load_{next(_numbers)}")


def url(node: Node, database: str, cluster: str = CLUSTER, password: str = PASSWORD) -> str:
    shards = f"?cluster={cluster}" if cluster else ""
    return f"http://{USER}:{password}@127.0.0.1:{node.http_port}/{database}{shards}"


def reached(node: Node, database: str, cluster: str = CLUSTER, password: str = PASSWORD) -> ClickHouse:
    return ClickHouse(SecretStr(url(node, database, cluster, password)))


@pytest.fixture
def lake(data: Path) -> Lake:
    """With one batch."""
    add_batch(data, 1)
    return Lake(data / "lake")


def add_batch(data: Path, day: int) -> None:
    """A call of each account on the day of November and on the first, a quota, and a line that is refused."""
    for at in (f"2026-11-{day:02}T12:00:00Z", f"2026-11-01T{day:02}:30:00Z"):
        events = [make_event(f"account {number}", at) for number in range(ACCOUNTS)]
        land(data / "landing", f"{at}.ndjson", *events, "{broken", make_quota("account 1", day, at))
    ingest(data, data / "landing", NOW)


def load(server: ClickHouse, lake: Lake) -> list[str]:
    said: list[str] = []
    clickhouse_load.load(server, lake, str(lake.root), lake.root / ".build", said.append)
    return said


def assert_equal(server: ClickHouse, lake: Lake) -> None:
    """Both hold the same rows of every source."""
    with duckdb.connect() as connection:
        for table, files in (
            ("raw_events", "batches/*/calls/*/*.parquet"),
            ("raw_other_events", "batches/*/others.parquet"),
        ):
            rows = connection.execute(
                f"""select source, event_id, account_id, epoch_us(event_at), cast(cast(event_at as date) as varchar),
                        batch, properties
                    from read_parquet('{lake.root}/{files}') order by all"""
            ).fetchall()
            found = server.ask(
                f"""select source, event_id, account_id, toUnixTimestamp64Micro(event_at), toString(toDate(event_at)),
                        batch, properties
                    from {table} order by all"""
            )
            assert [tuple(row.values()) for row in found] == rows
        [[refused]] = connection.execute(
            f"select count(*) from read_parquet('{lake.root}/batches/*/rejected.parquet')"
        ).fetchall()
    assert server.ask("select count() as rows from rejected_lines") == [{"rows": refused}]


def test_load_brings_every_row_once_to_both_nodes(
    server: ClickHouse, nodes: list[Node], data: Path, lake: Lake
) -> None:
    assert clickhouse_load.lag(server, lake, str(lake.root)) == 1
    assert load(server, lake) == ["ClickHouse has the lake up to batch 1"]
    assert_equal(server, lake)
    database = server.address.database
    shares = [int(node.query("select count() from raw_events_shard", database)) for node in nodes]
    assert sum(shares) == 2 * ACCOUNTS
    assert all(shares)

    add_batch(data, 2)
    assert clickhouse_load.lag(server, lake, str(lake.root)) == 1
    assert load(server, lake) == ["ClickHouse has the lake up to batch 2"]
    assert load(server, lake) == []
    assert_equal(server, lake)
    assert clickhouse_load.lag(server, lake, str(lake.root)) == 0


def test_load_needs_no_cluster(nodes: list[Node], lake: Lake) -> None:
    server = reached(nodes[0], "alone", cluster="")
    load(server, lake)
    assert_equal(server, lake)
    assert server.ask("select engine from system.tables where database = 'alone' and name = 'raw_events'") == [
        {"engine": "MergeTree"}
    ]


def test_load_reads_a_lake_in_a_bucket(server: ClickHouse, lake: Lake) -> None:
    store = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    store.start()
    try:
        endpoint = "http://{}:{}".format(*store.get_host_and_port())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=endpoint, **keys)
        client.create_bucket(Bucket="usage")
        for path in lake.root.rglob("*.parquet"):
            client.upload_file(str(path), "usage", f"lake/{path.relative_to(lake.root).as_posix()}")
        clickhouse_load.load(server, lake, f"{endpoint}/usage/lake", lake.root / ".build", print)
        assert_equal(server, lake)
        with pytest.raises(ClickHouseError, match="HEADROOM_CLICKHOUSE_LAKE has to name the lake in its bucket"):
            clickhouse_load.load(server, lake, f"{endpoint}/usage/nothing", lake.root / ".build", print)
    finally:
        store.stop()


def test_everything_is_loaded_again_when_the_lake_is_another_one(server: ClickHouse, data: Path, lake: Lake) -> None:
    load(server, lake)
    lake.root.rename(data / "before")
    ingest(data, data / "landing", NOW + timedelta(minutes=1))
    assert load(server, lake)[0] == "ClickHouse has another lake's events: loading everything again"
    assert_equal(server, lake)


def test_days_that_the_lake_does_not_keep_go_from_both_nodes(
    server: ClickHouse, nodes: list[Node], data: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_batch(data, 2)
    load(server, lake)
    with lake.writing():
        lake.keep_from(date(2026, 11, 2))
    with lake.writing():
        lake.compact(contextlib.nullcontext())
    for removed in (0, 1):  # from no node, from one
        with monkeypatch.context() as patched:
            patched.setattr(Client, "execute", killed_before(Client.execute, iter(range(6 + removed))))
            with pytest.raises(KilledError):
                load(server, lake)
    assert load(server, lake) == []
    assert_equal(server, lake)
    oldest = [node.query("select min(event_date) from raw_events_shard", server.address.database) for node in nodes]
    assert oldest == ["2026-11-02\n", "2026-11-02\n"]
    assert server.ask("select toString(kept_from) as day from kept_from") == [{"day": "2026-11-02"}]

    add_batch(data, 3)
    load(server, lake)
    assert_equal(server, lake)
    anew = reached(nodes[1], "anew")
    load(anew, lake)
    assert_equal(anew, lake)


def test_load_is_put_right_by_the_next_when_killed_before_any_statement(
    server: ClickHouse, data: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statements that change something, on the one node and on the other."""
    add_batch(data, 2)
    load(server, lake)
    others = {"raw_other_events": clickhouse_load.OTHERS["raw_other_events"]}
    monkeypatch.setattr(clickhouse_load, "OTHERS", others)  # the rest is replaced in the same way
    for kill_at in count():
        # As after a load of everything that was killed just before it was remembered.
        server.ask("alter table loaded_batches delete where batch > 0 settings mutations_sync = 2")
        with monkeypatch.context() as patched:
            left = iter(range(kill_at))
            patched.setattr(ClickHouse, "ask", killed_before(ClickHouse.ask, left))
            patched.setattr(Client, "execute", killed_before(Client.execute, left))
            try:
                load(server, lake)
                break
            except KilledError:
                pass
        load(server, lake)
        assert_equal(server, lake)
    assert_equal(server, lake)
    assert kill_at > 15


def killed_before(statement: Callable[..., Any], left: Iterator[int]) -> Callable[..., Any]:
    def execute(self: object, sql: str, *arguments: Any, **settings: Any) -> Any:
        if not sql.startswith("select") and next(left, None) is None:
            raise KilledError
        return statement(self, sql, *arguments, **settings)

    return execute


LOADING = """
import sys
from pathlib import Path
from pydantic import SecretStr
from orchestration.warehouse.clickhouse.load import load
from orchestration.lake.batch import CALL_COLUMNS
from orchestration.warehouse.clickhouse.client import ClickHouse
from orchestration.lake.lake import Lake

lake = Lake(Path(sys.argv[2]))
load(ClickHouse(SecretStr(sys.argv[1])), lake, str(lake.root), lake.root / ".build", print)
"""


def test_load_that_was_killed_while_calls_came_in_is_put_right_by_the_next(
    nodes: list[Node], server: ClickHouse, data: Path, lake: Lake
) -> None:
    """The server would go on with what a killed process asked for; a million calls take it a second."""
    load(server, lake)
    calls = 1_000_000
    folder = lake_batches.add(lake.root, [])
    (folder / "calls" / "event_date=2026-11-05").mkdir(parents=True)
    values = {
        "event_id": "range",
        "account_id": "'account ' || range % 1000",
        "event_at": "timestamptz '2026-11-05 00:00:00+00'",
        "ingested_at": "timestamptz '2026-11-05 00:00:00+00'",
        "batch": folder.name,
    }
    columns = ", ".join(f"cast({values.get(name, 'null')} as {kind}) as {name}" for name, kind in CALL_COLUMNS.items())
    with duckdb.connect() as connection:
        connection.execute(
            f"""copy (select {columns} from range({calls})) to '{folder}/calls/event_date=2026-11-05/calls.parquet'
                (format parquet)"""
        )
    manifest = Batch(int(folder.name), NOW.isoformat(), accepted=calls)
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest)))

    where = url(nodes[0], server.address.database)
    with subprocess.Popen([sys.executable, "-c", LOADING, where, str(lake.root)]) as process:
        while not server.ask(f"select 1 from raw_events where batch = {manifest.number} limit 1"):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    load(server, lake)
    found = f"select count() as rows, uniqExact(event_id) as ids from raw_events where batch = {manifest.number}"
    assert server.ask(found) == [{"rows": calls, "ids": calls}]


def test_load_ends_what_a_killed_build_had_asked_for(nodes: list[Node], server: ClickHouse, lake: Lake) -> None:
    """It would write into a mart while the next build does."""
    load(server, lake)
    server.ask("create table mart engine = MergeTree order by tuple() as select 1 as x")
    query = urlencode({"database": server.address.database, "function_sleep_max_microseconds_per_block": 0})
    headers = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD, "User-Agent": "dbt-clickhouse/1.10.3"}
    build = http.client.HTTPConnection("127.0.0.1", nodes[0].http_port)
    build.request("POST", f"/?{query}", "insert into mart select sleepEachRow(3) from numbers(1000)", headers)
    running = "select query from system.processes where query like 'insert into mart %'"
    while not server.ask(running):
        pass
    build.close()
    assert server.ask(running)

    load(server, lake)
    assert not server.ask(running)
    assert server.ask("select count() as rows from mart") == [{"rows": 1}]


def test_load_says_so_when_the_server_has_another_lake(server: ClickHouse, data: Path, lake: Lake) -> None:
    shutil.copytree(lake.root, data / "copy")
    add_batch(data, 2)
    with pytest.raises(
        ClickHouseError, match=f"it has 42 events and the lake 84. Run again .* is not {lake.root} here"
    ):
        clickhouse_load.load(server, lake, str(data / "copy"), data / ".build", print)
    load(server, lake)
    assert_equal(server, lake)


def test_load_says_so_when_the_server_does_not_find_the_lake(server: ClickHouse, data: Path, lake: Lake) -> None:
    with pytest.raises(ClickHouseError, match=r"/nowhere/.* HEADROOM_CLICKHOUSE_LAKE has to say where"):
        clickhouse_load.load(server, lake, "/nowhere", data / ".build", print)
    with pytest.raises(ClickHouseError, match=r"would take /a/b.* for a pattern"):
        clickhouse_load.load(server, lake, "/a/b[*]", data / ".build", print)


def test_refusals_say_what_to_do(nodes: list[Node], lake: Lake) -> None:
    with pytest.raises(ClickHouseError, match="correct user and password in HEADROOM_CLICKHOUSE_URL") as caught:
        load(reached(nodes[0], "refused", password="wr0ng"), lake)
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(
        ClickHouseError, match=r"knows no cluster nothing \(it knows .*headroom.*\): correct \?cluster="
    ):
        load(reached(nodes[0], "refused", cluster="nothing"), lake)


def test_profile_without_the_settings_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "USERS", servers.USERS.replace("<join_use_nulls>1</join_use_nulls>", ""))
    with running(1) as [node], pytest.raises(ClickHouseError, match="lacks join_use_nulls; figures would be wrong"):
        load(reached(node, "unset"), lake)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def examined(config: Settings) -> list[Finding]:
    """What `headroom doctor` says of the engine."""
    return list(engine_of(config).examine(Lake(config.lake)))


def test_load_and_doctor_say_so_when_a_node_is_away(
    nodes: list[Node], server: ClickHouse, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last: the node does not come back."""
    monkeypatch.setenv("HEADROOM_CLICKHOUSE_URL", url(nodes[0], server.address.database))
    load(server, lake)
    lines = [f"{each.subject} {each.problem}" for each in examined(settings.load())]
    assert re.fullmatch(r"ClickHouse at 127.0.0.1:\d+ answers, version [\d.]+ ", lines[0])
    assert lines[1:] == ["ClickHouse: all 2 nodes of cluster headroom answer ", "ClickHouse: it has the whole lake "]

    with contextlib.suppress(AssertionError, OSError):
        nodes[1].query("system shutdown")
    wait_until(lambda: not (listens(nodes[1].http_port) or listens(nodes[1].tcp_port)))
    away = rf"node 127.0.0.1:{nodes[1].tcp_port}.*start that node"
    with pytest.raises(ClickHouseError, match=away):
        load(server, lake)
    with pytest.raises(ClickHouseError, match=rf"127.0.0.1:{nodes[1].tcp_port}.*start that node, or take it out"):
        server.ask("select count() from raw_events")  # the server's own 279
    assert re.search(away, [each.problem for each in examined(settings.load())][-1])
