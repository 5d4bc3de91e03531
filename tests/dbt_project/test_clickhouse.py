"""The marts on two nodes of ClickHouse against those on DuckDB, from the same lake: every column of every row.

The lake is the demo's, the real requests of test_real_requests.py where they are there, and what neither of them has.
The tests follow one another: more arrives before each build but the first.
"""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import duckdb
import pytest

from orchestration import demo
from orchestration.lake import alerts, meter_reports, subscription_periods
from orchestration.lake.lake import Lake
from orchestration.settings import PROJECT_ROOT
from orchestration.warehouse.clickhouse import load as clickhouse_load
from orchestration.warehouse.clickhouse import publish
from orchestration.warehouse.clickhouse.client import ClickHouse
from orchestration.warehouse.clickhouse.engine import ClickHouseEngine
from orchestration.warehouse.dbt import DbtProject
from tests.dbt_project.builder import COUNTED, project_with
from tests.fakes.clickhouse import NoClickHouseError, running
from tests.support.builders import land, make_event, make_quota
from tests.support.pipeline import assert_built, ingest
from tests.support.waiting import RUN_SECONDS

pytestmark = pytest.mark.clickhouse

NOW = datetime(2026, 11, 20, 8, 17, 5, tzinfo=UTC)
LATER = NOW + timedelta(days=1, hours=1)
REAL_REQUESTS = Path(__file__).parents[3] / "shared" / "data" / "apache"
NOT_IN_THE_DEMO = {
    "cycle": ("cycle", "2026-10-15", ""),
    "reset": ("month", "", ""),
    "trial": ("trial", "2026-10-20", "2026-11-25"),
    "lifetime": ("lifetime", "2026-09-01", ""),
    "old lifetime": ("lifetime", "1962-03-04", ""),
    "subscribed": ("stripe", "", ""),
    "unsubscribed": ("stripe", "", ""),
}
"""Accounts with usage periods of each kind: kind, anchor, end."""


@dataclass(frozen=True)
class Engines:
    """The same project twice, on the same lake."""

    data: Path
    server: ClickHouse
    on_duckdb: DbtProject
    on_clickhouse: DbtProject

    def load(self) -> None:
        lake = Lake(self.data / "lake")
        clickhouse_load.load(self.server, lake, str(lake.root), self.data / "load.lock", lambda _: None)

    def build(self, now: datetime) -> None:
        """Load and build all of it, with its tests, on both at once."""
        self.load()
        with ThreadPoolExecutor(2) as pool:
            for results in pool.map(lambda project: project.build(now, "Europe/Berlin"), self.both):
                assert_built(results)

    @property
    def both(self) -> tuple[DbtProject, DbtProject]:
        return self.on_duckdb, self.on_clickhouse

    def differences(self) -> dict[str, tuple[int, list[tuple[object, ...]]]]:
        """Of each published table how many rows DuckDB has, and some that only one of both has."""
        columns, published = self.on_clickhouse.published_columns(), self.data / "published.duckdb"
        publish.publish(self.server, columns, published, self.data / "publish.lock")
        found = {}
        with duckdb.connect(str(published)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(f"attach '{self.on_duckdb.warehouse}' as expected (read_only)")
            for table in columns:
                there, here = f"select * from {table}", f"select * from expected.{table}"
                [rows] = connection.execute(f"select count(*) from expected.{table}").fetchall()
                only_one_has = connection.execute(
                    f"""(select 'clickhouse', * from ({there} except all {here}) limit 3)
                        union all (select 'duckdb', * from ({here} except all {there}) limit 3)"""
                ).fetchall()
                found[table] = (rows[0], only_one_has)
        return found


METERS = """\
people,false,login,unique,user,,,people,person,0,people_quota,carry,,true,people,,
peak,false,ping,max,open,,,connections,connection,0,peak_quota,carry,,true,peak,,
egress,false,llm_request,sum,out.gb,region=eu|us,,GB,GB,3,egress_quota,carry,true,true,egress,,
"""
"""Beside those of the project: with them there is one of each kind."""


def with_meters(folder: Path) -> Path:
    """The dbt project with meters of each kind, all of which are reported to Stripe."""
    meters = (PROJECT_ROOT / "dbt_project" / "seeds" / "meters.csv").read_text()
    meters = meters.replace("seats,seat,0,,carry,,false,,", "seats,seat,0,,carry,,true,seats-at-stripe,")
    return project_with(folder, meters=meters + METERS)


def used(account: str, at: datetime, number: int) -> Iterator[dict[str, object]]:
    """What is counted of an account in an hour: tokens with GB, users, connections; one value each cannot be."""
    value: object = f"0.{number % 10}25" if number % 7 else "lots"
    said = {
        "llm_request": {"total_tokens": number * 100, "model": "large", "out": {"gb": value}, "region": "eu"},
        "login": {"user": f"user {number % 9}"},
        "ping": {"open": number % 13},
    }
    for index, (name, properties) in enumerate(said.items()):
        moment = (at + timedelta(minutes=number % 50, microseconds=index)).isoformat()
        yield make_event(account, moment, event=name, properties={"account_id": account, **properties})


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    data = tmp_path_factory.mktemp("engines")
    project = with_meters(data / "project")
    generated(data, project)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(data))
        try:
            with running(2, user_files=data) as nodes:
                url = nodes[0].url("marts")
                engine = ClickHouseEngine(url, str(data / "lake"), data / ".build", data / "published.duckdb")
                other = data / "clickhouse"
                engines = Engines(
                    data,
                    ClickHouse(url),
                    DbtProject(project, data / "dbt", data / "warehouse.duckdb"),
                    DbtProject(project, other / "dbt", other / "warehouse.duckdb", engine),
                )
                for project in engines.both:
                    project.warm()
                yield engines
        except NoClickHouseError as error:
            pytest.skip(f"no ClickHouse: {error}")


@pytest.fixture(autouse=True)
def place(clean_environment: None, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_DATA", str(engines.data))


def generated(data: Path, project: Path) -> None:
    """A lake with something of everything."""
    landing, accounts = data / "landing", data / "accounts.csv"
    demo.generate(landing, accounts, now=NOW, accounts=60, days=60, events=20_000)
    if REAL_REQUESTS.exists():
        for file in REAL_REQUESTS.glob("*.ndjson"):
            shutil.copy(file, landing / f"real-{file.name}")
    with accounts.open() as file:
        rows = list(csv.DictReader(file))
    for name, (kind, anchor, end) in NOT_IN_THE_DEMO.items():
        rows.append({"account_id": name, "plan": "growth", "period_kind": kind, "period_anchor": anchor})
        rows[-1] |= {"period_ends_on": end, "stripe_customer_id": f"cus_{name.replace(' ', '_')}"}
    with accounts.open("w") as file:
        writer = csv.DictWriter(file, fieldnames={name: None for row in rows for name in row})
        writer.writeheader()
        writer.writerows(rows)
    (data / "subjects.csv").write_text(
        "subject,account_id,valid_from,valid_until\n"
        "key-1,cycle,,2026-11-10T12:30:00Z\nkey-1,trial,2026-11-10T12:30:00Z,\nkey-2,čaj,2026-11-01,\n"
    )
    (data / "customers.csv").write_text(
        "account_id,stripe_customer_id,valid_from,valid_until\n"
        "cycle,cus_before,,2026-11-05T00:00:00Z\ncycle,cus_after,2026-11-05T00:00:00Z,\n"
    )
    names = [*NOT_IN_THE_DEMO, "key-1", "key-2", "nobody's"]
    days = [NOW - timedelta(days=day, hours=number) for number in range(3) for day in range(50)]
    land(
        landing,
        "more.ndjson",
        *(call(name, at, minute) for name in names for at in days for minute in range(4)),
        *(make_quota(name, 250, "2026-10-01T00:00:00Z") for name in NOT_IN_THE_DEMO),
        make_quota("lifetime", 10**15, "2026-11-02T10:20:30.123456Z"),
        make_quota("trial", None, "2026-11-03T00:00:00Z"),
        make_quota("cycle", 0, "2026-11-18T07:00:00Z"),
        {
            "event": "usage.limit_reached",
            "uuid": "hit",
            "timestamp": "2026-11-15T10:00:00Z",
            "properties": {"account_id": "reset", "metric": "API_Calls", "limit": 251, "used": "250"},
        },
    )
    usage = [(name, NOW - timedelta(hours=number * 9), number) for name in NOT_IN_THE_DEMO for number in range(120)]
    land(landing, "meters.ndjson", *(event for place in usage for event in used(*place)))
    of_meters = {"token_quota_monthly": 30_000, "people_quota": 8, "peak_quota": 10, "egress_quota": 5.5}
    for name in NOT_IN_THE_DEMO:
        said = {"account_id": name, "plan": "growth", **of_meters}
        land(landing, f"quotas of {name}.ndjson", make_quota(name, at="2026-09-15T00:00:00Z", properties=said))
    ingest(data, landing, NOW, project)
    hour = datetime(2026, 11, 10, 12, tzinfo=UTC)
    states = [("confirmed", 3, None), ("failed", 4, "it was refused: look"), ("sent", 5, None)]
    reports = [
        ("cus_after", hour, number, units, units, f"id-{number}", state, NOW, 1, NOW, NOW, error, 3, NOW)
        for number, (state, units, error) in enumerate(states, start=1)
    ]
    meter_reports.write(data / "lake", hour.date(), [reports])
    subscription_periods.write(data / "lake", [*subscribed("subscribed"), *subscribed("after"), *subscribed("reset")])
    alerts.write(data / "lake", *answered())


def answered() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Alerts with an answer each, one of them withdrawn; one account's quota is raised on the 2nd."""
    at, began = datetime(2026, 11, 1, 8, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
    announced: list[dict[str, object]] = [
        {"account_id": name, "meter": "api-calls", "period_start": began, "quota": 250, "threshold": threshold}
        | {"crossed_at": at, "alerted_at": at + timedelta(hours=number), "message_key": f"m{number}"}
        for name in ("lifetime", "trial", "cycle")
        for number, threshold in enumerate(("80%", "100%"))
    ]
    said: list[dict[str, object]] = [
        {"message_key": f"m{number % 2}", "source": f"C/{number}", "account_id": name, "meter": "api-calls"}
        | {"disposition": disposition, "said_at": at + timedelta(days=number)}
        | {"withdrawn_at": at + timedelta(days=9) if number == 4 else None}
        for number, (name, disposition) in enumerate(
            itertools.product(("lifetime", "trial", "cycle"), ("contacted", "snoozed"))
        )
    ]
    return announced, said


def subscribed(customer: str) -> list[tuple[object, ...]]:
    """Three periods, and another subscription that has ended within its second."""
    starts = [datetime(2026, month, 10, 14, 20, 7, tzinfo=UTC) for month in (9, 10, 11, 12)]
    ended, trial_end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 9, 20, tzinfo=UTC)
    item = (f"cus_{customer}", f"sub_{customer}", f"si_{customer}", "api-calls")
    other = (f"cus_{customer}", f"old_{customer}", f"si_old_{customer}", "api-calls")
    return [
        *((*item, *bounds, "active", False, None) for bounds in itertools.pairwise(starts)),
        (*other, datetime(2026, 8, 20, tzinfo=UTC), trial_end, "canceled", True, ended),
        (*other, trial_end, datetime(2026, 10, 20, tzinfo=UTC), "canceled", False, ended),
    ]


def call(account: str, at: datetime, minute: int) -> dict[str, object]:
    """One of every fifth is sampled, and statuses of all kinds are there."""
    properties: dict[str, object] = {"account_id": account, "endpoint": f"/v1/{minute}"}
    properties["status"] = (200, 429, 503, 404, 999)[(at.day + minute) % 5]
    if at.day % 5 == 0:
        properties["sample_weight"] = 10
    moment = at + timedelta(minutes=minute, microseconds=minute)
    return make_event(account, moment.isoformat(), properties=properties)


def arrive(engines: Engines, name: str, *events: object, now: datetime) -> None:
    land(engines.data / "landing", name, *events)
    ingest(engines.data, engines.data / "landing", now, engines.on_duckdb.folder)


def test_marts_are_row_by_row_the_same_on_both_engines(engines: Engines) -> None:
    engines.build(NOW)
    found = engines.differences()
    for table, (count, rows) in found.items():  # pytest -rP shows it; the table in docs/operate/clickhouse.md
        sys.stdout.write(f"| {table} | {count:,} | {len(rows)} |\n")
    assert {name: rows for name, (_, rows) in found.items() if rows} == {}

    models = engines.on_duckdb.folder / "models"
    marts = {path.stem for folder in ("intermediate", "marts") for path in (models / folder).glob("*.sql")}
    assert marts <= set(found)
    compared = {name for name, (rows, _) in found.items() if rows}
    assert marts - compared == set()  # two empty tables would be the same, too


@pytest.mark.parametrize(
    "statement",
    [
        "delete from `marts`.`hourly_usage`",
        *("insert into `marts`.`hourly_usage`", "insert into `marts`.`hourly_usage_by_endpoint`"),
        "create or replace table marts.recount_progress",
    ],
)
def test_count_is_killed_between_its_statements(engines: Engines, statement: str) -> None:
    late = [call("reset", NOW - timedelta(days=day), len(statement)) for day in (1, 17, 40)]
    arrive(engines, f"{len(statement)}.ndjson", *late, now=LATER)
    engines.load()

    assert killed_before(statement, engines, LATER) == -signal.SIGKILL


def test_late_data_and_changed_quota_count_by_increments_after_kills(engines: Engines) -> None:
    made = engines.server.ask("select name, uuid from system.tables where database = currentDatabase()")
    uuids = {row["name"]: row["uuid"] for row in made}
    quota = make_quota("reset", 900, "2026-11-20T20:00:00Z")
    arrive(engines, "late.ndjson", quota, call("new", LATER, 0), now=LATER)

    engines.build(LATER + timedelta(hours=1))

    assert {name: rows for name, (_, rows) in engines.differences().items() if rows} == {}
    for table in ("hourly_usage", "hourly_usage_by_endpoint"):  # counted as a whole, it would be another table
        [kept] = engines.server.ask(f"select uuid from system.tables where name = '{table}'")
        assert kept["uuid"] == uuids[table]


def killed_before(statement: str, engines: Engines, now: datetime) -> int:
    """The exit status of a build that is killed before this statement reaches the server."""
    address = engines.server.address

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if statement in " ".join(body.decode().split()).lower():
                os.killpg(dbt.pid, signal.SIGKILL)
                return
            with closing(HTTPConnection(address.host, address.port)) as connection:
                connection.request("POST", self.path, body, dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "keep-alive"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    Thread(target=server.serve_forever, daemon=True).start()
    project = engines.on_clickhouse
    assert project.engine
    dbt = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("dbt"), "--quiet", "build", "--select", *COUNTED),
            *("--exclude-resource-type", "unit_test", "--indirect-selection", "empty"),
            *("--project-dir", project.folder, "--profiles-dir", project.folder, "--target-path", project.target),
            *("--log-path", project.target, "--vars", json.dumps({"now": now.isoformat()})),
        ],
        env={
            **os.environ,
            **project.engine.dbt_environment,
            "HEADROOM_CLICKHOUSE_PORT": str(server.server_port),
        },
        start_new_session=True,
    )
    try:
        return dbt.wait(timeout=RUN_SECONDS)
    finally:
        server.shutdown()
        server.server_close()
