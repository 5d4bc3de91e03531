"""The collector's acknowledged, durable throughput against bare servers, each on the same one core; and what it does
without a disk, with an object store on loopback.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from orchestration.lake.lake import Lake
from orchestration.lake.sources import Bucket
from tests.bench.measure import ROOT, Row
from tests.fakes import stores

ROUNDS = 3
SECONDS = 5
CONNECTIONS = 64
AGAINST = {
    "stores": "httptools and uvloop that parse JSON and commit in groups, no more, same core",
    "answers": "httptools and uvloop that only answer, same core",
}


def bench(folder: Path) -> list[Row]:
    if not shutil.which("wrk"):
        return [Row("collector", "not measured", "", "", "wrk is not installed (apt-get install wrk)")]
    event = {
        "event": "api_call",
        "uuid": "5b9e2f2c-6a53-4d0e-9f0a-0c5d1f6f3c11",
        "distinct_id": "account-1",
        "timestamp": "2026-11-20T07:12:03.123Z",
        "properties": {"account_id": "account-1", "endpoint": "/v1/search", "status": 200, "region": "eu-west-1"},
    }
    rows = []
    for what, events in (("single events", 1), ("arrays of 100", 100)):
        body = json.dumps(event if events == 1 else [event] * events)
        per_second: dict[str, list[float]] = {"ours": [], **{kind: [] for kind in AGAINST}}
        for _ in range(ROUNDS):
            with _collector(folder) as (port, key):
                per_second["ours"].append(_requests_per_second(folder, port, key, body) * events)
            for kind in AGAINST:
                with _bare(kind, folder) as port:
                    per_second[kind].append(_requests_per_second(folder, port, "none", body) * events)
        for kind, against in AGAINST.items():
            pairs = zip(per_second["ours"], per_second[kind], strict=True)
            ratio = statistics.median(ours / theirs for ours, theirs in pairs)
            rows.append(
                Row(
                    f"collector, {what}, {CONNECTIONS} connections (median of {ROUNDS})",
                    f"{statistics.median(per_second['ours']):,.0f} events/s",
                    f"{statistics.median(per_second[kind]):,.0f} events/s",
                    f"{ratio:.2f} of its speed",
                    against,
                    1 / ratio,
                )
            )
    return rows


def bench_bucket(folder: Path) -> list[Row]:
    """No baseline: the store is a test server in Python, and the other core is its and wrk's. What counts is how long
    a request waits, how many objects that makes, and how long they take to be read.
    """
    if not shutil.which("wrk"):
        return [Row("collector, bucket", "not measured", "", "", "wrk is not installed (apt-get install wrk)")]
    rows, body = [], json.dumps({"event": "api_call", "properties": {"account_id": "account-1"}})
    with stores.running() as endpoint, stores.bucket(endpoint) as client:
        os.environ.update(stores.variables(endpoint))
        for wait_ms in (50, 250, 1000):
            url = f"s3://{stores.BUCKET}/{wait_ms}"
            with _collector(folder, HEADROOM_COLLECT_URL=url, HEADROOM_COLLECT_WAIT_MS=str(wait_ms)) as (port, key):
                said = _driven(folder, port, key, body, connections=512)
            objects = len([name for name in stores.keys(client, f"{wait_ms}/") if name.endswith(".ndjson")])
            [latency] = re.findall(r"99%\s+(\S+)", said)
            lake, started = Lake(folder / f"lake {wait_ms}"), time.perf_counter()
            with lake.writing():
                lake.ingest(Bucket(url), {}, datetime.now(UTC))
            seconds = time.perf_counter() - started
            rows.append(
                Row(
                    f"collector, bucket, single events, 512 connections, a wait of {wait_ms} ms (once)",
                    f"{_per_second(said):,.0f} events/s, 99 % answered within {latency}",
                    "",
                    "",
                    f"{objects / SECONDS:.1f} objects/s; {objects} objects are ingested in {seconds:.1f} s",
                )
            )
    return rows


def _requests_per_second(folder: Path, port: int, key: str, body: str) -> float:
    return _per_second(_driven(folder, port, key, body))


def _per_second(said: str) -> float:
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])


def _driven(folder: Path, port: int, key: str, body: str, connections: int = CONNECTIONS) -> str:
    """What wrk says."""
    script = folder / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\n"
        f"wrk.headers['Authorization'] = 'Bearer {key}'\nwrk.headers['Content-Type'] = 'application/json'\n"
    )
    done = subprocess.run(
        [
            *pinned(1),
            *("wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "--timeout", "10s", "-s", str(script)),
            f"http://127.0.0.1:{port}/v1/analytics/bench/",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    if "Non-2xx" in done.stdout:
        raise SystemExit(f"the collector refused what the benchmark sent:\n{done.stdout}")
    return done.stdout


@contextmanager
def _collector(folder: Path, **more: str) -> Iterator[tuple[int, str]]:
    port, key = free_port(), secrets.token_hex(16)
    environment = {
        **os.environ,
        "HEADROOM_DATA": str(folder / "data"),
        "HEADROOM_COLLECT_PORT": str(port),
        "HEADROOM_COLLECT_KEYS": key,
        **more,
    }
    with server([*pinned(0), sys.executable, "-m", "orchestration.cli.main", "collect"], port, environment):
        yield port, key


@contextmanager
def _bare(kind: str, folder: Path) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.bare_server", kind, str(port), str(folder / "bare.ndjson")]
    with server([*pinned(0), *command], port, dict(os.environ)):
        yield port


@contextmanager
def server(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not _answers(port):
            if process.poll() is not None:
                raise SystemExit(f"{command} ended with {process.returncode}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def pinned(core: int) -> list[str]:
    return ["taskset", "-c", str(core)] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
