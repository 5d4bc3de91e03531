"""Libraries and recipes that people already run, unmodified, against the real collector: each event counts once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.clients import counted, installed, nginx
from tests.clients.counted import Counted
from tests.clients.proxy import LossyNetwork
from tests.orchestration.collector import loopback

pytestmark = pytest.mark.clients

DRIVERS = Path(__file__).parent / "drivers"
DRIVER_SECONDS = 60

POSTHOG = installed.python("posthog==7.91.1")
POSTHOG_NODE = installed.node("posthog-node@5.70.0")
SEGMENT = installed.python("segment-analytics-python==2.4.0")
SEGMENT_NODE = installed.node("@segment/analytics-node@3.1.0")
OPENMETER = installed.python("openmeter==1.0.0b236")
OPENMETER_NODE = installed.node("@openmeter/sdk@1.0.0-beta.232")
CLOUDEVENTS = installed.python("cloudevents==1.13.0", "requests==2.32.5")
CLOUDEVENTS_NODE = installed.node("cloudevents@10.0.0")
OPENTELEMETRY = installed.python("opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2")
WINSTON = installed.node("winston@3.19.0")
FETCH = installed.node()


@dataclass(frozen=True)
class Client:
    """A library, the driver that uses it, and in which way."""

    packages: installed.Packages
    driver: str
    options: str = ""
    requests: int = 1
    """For three events: one, or one for each."""
    retries: bool = True
    """By itself, or because its driver does."""

    def __str__(self) -> str:
        return f"{self.driver} {self.options}".strip().replace(" ", "-")


CLIENTS = [
    *(Client(POSTHOG, "posthog_batches.py", options) for options in ("", "gzip", "v1", "v1 gzip")),
    *(Client(POSTHOG_NODE, "posthog-node.cjs", options) for options in ("", "v1")),
    *(Client(SEGMENT, "segment_tracks.py", options) for options in ("", "gzip")),
    Client(SEGMENT_NODE, "segment-node.cjs"),
    Client(OPENMETER, "openmeter_events.py", requests=3),
    Client(OPENMETER, "openmeter_events.py", "batch"),
    Client(OPENMETER_NODE, "openmeter-node.cjs", requests=3),
    Client(OPENMETER_NODE, "openmeter-node.cjs", "batch"),
    *(Client(CLOUDEVENTS, "cloudevents_requests.py", mode, requests=3) for mode in ("structured", "binary")),
    *(Client(CLOUDEVENTS_NODE, "cloudevents-node.cjs", mode, requests=3) for mode in ("structured", "binary")),
    *(Client(OPENTELEMETRY, "opentelemetry_logs.py", options) for options in ("", "gzip", "body")),
    *(Client(WINSTON, "winston-http.cjs", options, requests=3, retries=False) for options in ("", "basic")),
    Client(WINSTON, "winston-http.cjs", "batch", retries=False),
]
EVENTS = [
    Counted("4711", "5f0c6d6a-6a3f-4a6e-9b0e-4c1df5f7a703", datetime(2026, 11, 20, 23, 59, 59, 999000, tzinfo=UTC)),
    Counted("acme", "0b9c2a53-51fe-4d0a-8a5b-0e8f5a6d1701", datetime(2026, 11, 20, 7, 12, 3, tzinfo=UTC)),
    Counted("čaj & 数", "2d1e8a04-77b1-4f3e-a0de-9b4f4a9f8702", datetime(2026, 11, 19, 0, 0, 0, 250000, tzinfo=UTC)),
]


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[loopback.Program]:
    program = loopback.Program(tmp_path / "data")
    with program.running():
        yield program


def drive(client: Client, port: int, events: list[Counted] = EVENTS) -> None:
    """Send the events; the client must report success."""
    try:
        folder = client.packages.install()
        program = [installed.node_program()] if client.driver.endswith(".cjs") else [sys.executable, "-S"]
    except installed.NotInstalledError as reason:
        pytest.skip(f"{' and '.join(client.packages.names)} cannot be installed: {reason}")
    given = {
        "url": f"http://127.0.0.1:{port}",
        "key": loopback.KEY,
        "events": [{"account": each.account_id, "id": each.event_id, "time": _text(each.event_at)} for each in events],
    }
    outcome = subprocess.run(
        [*program, str(DRIVERS / client.driver), *client.options.split()],
        input=json.dumps(given),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "NODE_PATH": str(folder / "node_modules")},
        capture_output=True,
        text=True,
        timeout=DRIVER_SECONDS,
    )
    assert outcome.returncode == 0, outcome.stderr[-4000:]


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def answered(collector: loopback.Program) -> dict[str, int]:
    """Requests by status."""
    page = loopback.request(collector.port, "/metrics", method="GET").body.decode()
    found: dict[str, int] = {}
    for line in page.splitlines():
        if line.startswith("headroom_collector_requests_total{") and "/healthz" not in line:
            status = line.split('status="')[1][:3]
            found[status] = found.get(status, 0) + int(float(line.split()[-1]))
    return found


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_event_counts_with_its_account_id_and_time_for_each_client(client: Client, collector: loopback.Program) -> None:
    drive(client, collector.port)
    statuses: Any = answered(collector)
    collector.stop()

    assert sum(statuses.values()) == client.requests, statuses
    assert counted.in_segments(collector) == len(EVENTS)
    assert counted.in_lake(collector.data) == EVENTS


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_event_counts_once_for_each_client_behind_nginx(
    client: Client, collector: loopback.Program, tmp_path: Path
) -> None:
    with nginx.in_front(collector.port, tmp_path / "nginx") as port:
        drive(client, port)
    collector.stop()

    assert counted.in_segments(collector) == len(EVENTS)
    assert counted.in_lake(collector.data) == EVENTS


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.retries], ids=str)
def test_event_counts_once_when_the_first_answer_is_lost(client: Client, collector: loopback.Program) -> None:
    with LossyNetwork(collector.port) as network:
        drive(client, network.port)
    collector.stop()

    assert network.lost == 1
    repeated = 1 if client.requests > 1 else len(EVENTS)
    assert counted.in_segments(collector) == len(EVENTS) + repeated
    assert counted.in_lake(collector.data) == EVENTS


def test_call_counts_at_its_arrival_when_sent_without_id_and_time(collector: loopback.Program) -> None:
    accounts = ["acme", "acme", "globex"]
    before = datetime.now(UTC)
    drive(Client(FETCH, "fetch-recipe.cjs"), collector.port, [Counted(name, "", before) for name in accounts])
    after = datetime.now(UTC)
    collector.stop()

    calls = counted.in_lake(collector.data)
    assert [call.account_id for call in calls] == accounts
    assert all(before - timedelta(seconds=1) <= call.event_at <= after for call in calls)
    assert len({call.event_id for call in calls}) == len(accounts)
