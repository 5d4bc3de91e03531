"""The example of the gate, from a customer's call to the figures and back: real processes of the collector, the pages,
the API with its gate, and `headroom run`, on the real clock.

Two customers have 20 units each: acme's quota is hard, that of globex soft. A report costs 5 units, a search 1.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from headroom_gate import subject_of_key
from orchestration.settings import PROJECT_ROOT
from tests.e2e.program import INHERITED, Process, Program, kill
from tests.fakes import redis as servers
from tests.support.waiting import PATIENCE_SECONDS, free_port, wait_until

EXAMPLES = PROJECT_ROOT / "orchestration" / "collector" / "snippets" / "examples"
PLANS = """\
plan,meter,included_units,base_price,pricing,unit_price,package_units,package_price,limit_kind,rate_limit_per_second,\
next_plan,currency
team,api-calls,20,49.00,none,,,,hard,,,USD
growth,api-calls,20,49.00,flat,0.5,,,soft,,,USD
"""
TIERS = "plan,meter,tier_number,up_to_units,unit_price,flat_price\n"
WEIGHTS = "endpoint,effective_from,weight\n/v1/reports/{id},2024-01-01,5\n"
PLAN_OF = {"acme": "team", "globex": "growth"}
QUOTA, UPGRADE = 20, 60
USAGE_PAGE = "https://usage.example.com/u/"
PATIENT: dict[str, Any] = {"trust_env": False, "timeout": PATIENCE_SECONDS}
COLLECTOR_KEY = "marked-COLLECTOR-secret"


@dataclass(frozen=True)
class Api:
    """The API with the gate, as uvicorn starts it."""

    application: str = "gate_main:app"
    modules: tuple[Path, ...] = (EXAMPLES,)


@dataclass
class Installation:
    """All processes but the API, which is killed and started again."""

    program: Program
    example: Api
    collector_process: Process
    redis_url: str
    collector: str
    pages: str
    gate_key: str
    port: int = field(default_factory=free_port)
    api: "subprocess.Popen[bytes] | None" = None
    printed: str = ""
    """By the last run."""

    @property
    def spool(self) -> Path:
        return self.program.folder / "spool"

    def start_api(self) -> None:
        """Until it knows the limits."""
        environment = {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "HEADROOM_URL": f"{self.collector}/v1/analytics/my-api/",
            "HEADROOM_KEY": COLLECTOR_KEY,
            "HEADROOM_GATE_LIMITS": f"{self.pages}/v1/limits",
            "HEADROOM_GATE_KEY": self.gate_key,
            "HEADROOM_GATE_REDIS": self.redis_url,
            "HEADROOM_GATE_SPOOL": str(self.spool),
            "PYTHONPATH": os.pathsep.join(map(str, self.example.modules)),
        }
        options = ["--port", str(self.port), "--log-level", "warning", self.example.application]
        self.api = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *options], cwd=self.program.folder, env=environment
        )
        wait_until(self.published_at)

    def kill_api(self) -> None:
        assert self.api
        self.api.kill()
        self.api.wait()

    def published_at(self) -> int | None:
        """Of the snapshot that the gate goes by; None before it answers and has one."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/readyz", **PATIENT)
        except httpx.TransportError:
            return None
        found: int | None = answer.json()["limits_of"]
        return found

    def caller(self, account_id: str) -> httpx.Client:
        headers = {"authorization": f"Bearer sk-{account_id}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, **PATIENT)

    def send(self, **properties: object) -> None:
        """A quota_set event, as the billing system sends it."""
        headers = {"authorization": f"Bearer {COLLECTOR_KEY}"}
        body = {
            "event": "quota_set",
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "properties": properties,
        }
        httpx.post(f"{self.collector}/v1/analytics/my-api/", json=body, headers=headers, **PATIENT).raise_for_status()

    def run(self, **environment: str) -> None:
        """A run over all that was sent, until the gate goes by its snapshot."""
        wait_until(self.is_all_sent)
        self.printed = self.program.run("run", **environment).stdout
        snapshot = json.loads((self.program.data / "limits.json").read_text())
        published_at = int(datetime.fromisoformat(snapshot["published_at"]).timestamp())
        if self.api:
            wait_until(lambda: self.published_at() == published_at)

    def is_all_sent(self) -> bool:
        """Whether the gate has sent its events, and the collector has handed over its segments."""
        return not [*self.spool.glob("*"), *self.program.landing.rglob("*.part")]

    def used(self, account_id: str) -> int:
        [row] = self.program.rows(f"select used_mtd from utilization_mtd where account_id = '{account_id}'")
        return int(row["used_mtd"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a price list of its own."""
    root = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("target", "logs")
    for folder in ("orchestration", "dbt_project"):
        shutil.copytree(PROJECT_ROOT / folder, root / folder, ignore=ignored)
    for file in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(PROJECT_ROOT / file, root)
    for name, content in {"plans": PLANS, "plan_tiers": TIERS, "endpoint_weights": WEIGHTS}.items():
        (root / "dbt_project" / "seeds" / f"{name}.csv").write_text(content)
    return root


@pytest.fixture(scope="module")
def api() -> Api:
    """On Starlette. tests/clients/test_gate.py has one on FastAPI."""
    return Api()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, root: Path, api: Api) -> Iterator[Installation]:
    """Everything runs, and the gate knows both customers' quotas."""
    ports = {"HEADROOM_COLLECT_PORT": str(free_port()), "HEADROOM_PAGES_PORT": str(free_port())}
    environment = {
        **ports,
        "HEADROOM_NOW": "",
        "HEADROOM_COLLECT_KEYS": COLLECTOR_KEY,
        "HEADROOM_COLLECT_SEAL_SECONDS": "0.2",
        "HEADROOM_PAGES_URL": USAGE_PAGE.removesuffix("/u/"),
    }
    program = Program(tmp_path_factory.mktemp("gate"), environment, root)
    program.data.mkdir()
    anchor = f"{datetime.now(UTC) - timedelta(days=10):%Y-%m-%d}"  # no period ends while the tests run
    (program.data / "accounts.csv").write_text(
        "account_id,name,plan,mrr,stripe_customer_id,period_kind,period_anchor\n"
        + "".join(f"{name},{name},{plan},49.00,cus_{name},cycle,{anchor}\n" for name, plan in PLAN_OF.items())
    )
    (program.data / "subjects.csv").write_text(
        "subject,account_id,valid_from,valid_until\n"
        + "".join(f"{subject_of_key(f'sk-{name}')},{name},,\n" for name in PLAN_OF)
    )
    with ExitStack() as started:
        redis = started.enter_context(servers.running())
        processes = [program.fork(command) for command in ("collect", "pages")]
        for process in processes:
            started.callback(kill, process)
        collector, pages = (f"http://127.0.0.1:{port}" for port in ports.values())
        for address in (collector, pages):
            wait_until(lambda address=address: is_healthy(address))
        secret = program.ask("pages", "grant", "api gate", "--audience", "gate").stdout.split()[0]
        place = Installation(program, api, processes[0], redis.url, collector, pages, secret)
        for name, plan in PLAN_OF.items():
            place.send(account_id=name, api_quota_monthly=QUOTA, plan=plan)
        place.run()
        place.start_api()
        started.callback(place.kill_api)
        yield place


def is_healthy(address: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{address}/healthz", **PATIENT).status_code == 200
    return False


# The tests of this module follow one another.


def test_hard_quota_refuses_and_soft_one_says_how_far_over(place: Installation) -> None:
    with place.caller("acme") as acme, place.caller("globex") as globex:
        allowed = [acme.get(path) for path in ["/v1/reports/7"] * 3 + ["/v1/search/7"] * 5]
        refused = [acme.get(path) for path in ("/v1/search/7", "/v1/reports/7", "/v1/search/8")]
        over = [globex.get("/v1/reports/7") for _ in range(5)]

    assert [answer.status_code for answer in (*allowed, *over)] == [200] * 13
    assert [remaining(answer) for answer in allowed] == [15, 10, 5, 4, 3, 2, 1, 0]
    assert [answer.headers.get("x-ratelimit-overage") for answer in over] == [None] * 4 + ["5"]
    assert [answer.status_code for answer in refused] == [429] * 3
    for answer in refused:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.json()["usage"], answer.json()["violated-policies"]) == (USAGE_PAGE, ["quota"])
        assert 0 < int(answer.headers["retry-after"]) <= 31 * 86_400
        assert remaining(answer) == 0


def test_upgrade_opens_the_gate_with_the_next_snapshot(place: Installation) -> None:
    with place.caller("acme") as acme, place.caller("globex") as globex:
        place.send(account_id="acme", api_quota_monthly=UPGRADE, plan="team")
        assert acme.get("/v1/search/9").status_code == 429

        place.run()
        assert (place.used("acme"), place.used("globex")) == (20, 25)
        assert remaining(acme.get("/v1/search/9")) == UPGRADE - 20 - 1
        assert globex.get("/v1/search/9").headers["x-ratelimit-overage"] == "6"

    [hit] = place.program.rows("select account_id, meter, sent_limit, sent_used, verdict from usage_limit_hits")
    assert list(hit.values()) == ["acme", "api-calls", QUOTA, 20, "agree"]


def test_killed_gate_loses_nothing_that_it_has_answered(place: Installation) -> None:
    answered = {"acme": 21, "globex": 26}  # units, by the tests before

    def call(account_id: str) -> None:
        with place.caller(account_id) as caller, suppress(httpx.TransportError):
            while caller.get("/v1/search/1").status_code == 200:
                answered[account_id] += 1

    os.kill(place.collector_process.pid, signal.SIGSTOP)  # so that all events still wait
    acme, globex = callers = [Thread(target=call, args=[account_id]) for account_id in answered]
    for caller in callers:
        caller.start()
    acme.join()  # which its quota ends
    wait_until(lambda: answered["globex"] > 80)
    place.kill_api()
    globex.join()
    assert [*place.spool.iterdir()]

    os.kill(place.collector_process.pid, signal.SIGCONT)
    place.start_api()
    with place.caller("globex") as again:
        assert again.get("/v1/search/2").status_code == 200
        place.run(HEADROOM_NOW=f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}")
        used = place.used("globex")
        assert again.get("/v1/search/2").headers["x-ratelimit-overage"] == str(used - QUOTA + 1)

    assert place.used("acme") == answered["acme"] == UPGRADE
    # the answer that was under way may have been written, and not have arrived
    assert used - (answered["globex"] + 1) in (0, 1)


def test_bill_has_what_was_let_through_and_error_rates_the_rest(place: Installation) -> None:
    """By that run, which was made for the day after: then the hour is closed, and the day complete."""
    used = {name: place.used(name) for name in PLAN_OF}
    billed = place.program.rows(
        "select account_id, sum(billable_units)::int as units from billable_usage_hourly group by 1"
    )
    assert {row["account_id"]: row["units"] for row in billed} == used
    assert f"({sum(used.values())} billable units, 0 more without a Stripe customer)" in place.printed

    rates = "select account_id, calls_7d, refused_calls_7d, calls_with_status_7d from error_rates order by account_id"
    [acme, globex] = place.program.rows(rates)
    assert list(acme.values()) == ["acme", 3 + 45, 5, 48 + 5]
    assert globex["refused_calls_7d"] == 0
    refused = "select endpoint, refused_calls from daily_usage_by_endpoint where refused_calls > 0 order by endpoint"
    by_endpoint = [tuple(row.values()) for row in place.program.rows(refused)]
    assert by_endpoint == [("/v1/reports/{id}", 1), ("/v1/search/{id}", 4)]


def remaining(answer: httpx.Response) -> int:
    return int(answer.headers["x-ratelimit-remaining"])
