"""The examples in deploy/ of what stands in front of the collector and what starts it, read by the real programs."""

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.orchestration.collector.loopback import KEY, Collecting, settings
from tests.support.waiting import PATIENCE_SECONDS, free_port, wait_until

DEPLOY = PROJECT_ROOT / "deploy"
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"
EVENT = json.dumps({"event": "api_call"}).encode()


def program(name: str) -> str:
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed: nothing is proved about its example in deploy/")
    return found


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collecting]:
    with Collecting(settings(tmp_path)) as running:
        yield running


@contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    log = folder / "proxy.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env={"HOME": str(folder), "PATH": SYSTEM_PATH}, cwd=folder
        )
    try:
        wait_until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection("localhost", port, timeout=PATIENCE_SECONDS, context=context)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def passes_on_events_alone(port: int, collector: Collecting, log: Path) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    assert ask(port, "POST", f"/v1/analytics/x/?api_key={KEY}", EVENT, **key) == (
        200,
        b'{"accepted":1,"quarantined":0}',
    )
    assert ask(port, "POST", "/batch/", EVENT, **{"X-API-Key": f"{KEY}x"})[0] == 401
    assert ask(port, "POST", "/x", b" " * (7 << 20), **key)[0] == 413  # the collector's own, with what to do
    for path in ("/metrics", "/healthz", "/readyz"):
        assert ask(port, "GET", path)[0] == 405
    assert ask(port, "OPTIONS", "/x")[0] == 405  # the collector's: no page may send
    wait_until(lambda: log.exists() and "/batch/" in log.read_text())
    assert KEY not in log.read_text()
    assert collector.finished() == [json.loads(EVENT)]


def test_nginx_passes_on_events_and_nothing_else(collector: Collecting, tmp_path: Path) -> None:
    nginx, openssl, port = program("nginx"), program("openssl"), free_port()
    key, certificate, log = tmp_path / "key", tmp_path / "certificate", tmp_path / "access.log"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    example = (DEPLOY / "nginx.conf").read_text()
    for here, there in (
        ("/etc/nginx/collect.example.com.pem", str(certificate)),
        ("/etc/nginx/collect.example.com.key", str(key)),
        ("/var/log/nginx/headroom.log", str(log)),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("127.0.0.1:8080", f"127.0.0.1:{collector.port}"),
    ):
        assert here in example
        example = example.replace(here, there)
    unused = "".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; events {{}} http {{ {unused} {example} }}"
    )
    command = [nginx, "-c", str(configuration), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
    with running(command, port, tmp_path):
        passes_on_events_alone(port, collector, log)


def test_caddy_passes_on_events_and_nothing_else(collector: Collecting, tmp_path: Path) -> None:
    caddy, port = program("caddy"), free_port()
    example = (DEPLOY / "Caddyfile").read_text()
    for here, there in (
        ("collect.example.com {", f"localhost:{port} {{\n\tbind 127.0.0.1\n\ttls internal"),
        ("127.0.0.1:8080", f"127.0.0.1:{collector.port}"),
    ):
        assert example.count(here) == 1 + (here == "127.0.0.1:8080")  # once in a comment
        example = example.replace(here, there)
    configuration = tmp_path / "Caddyfile"
    options = "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
    configuration.write_text(options + example)
    command = [caddy, "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with running(command, port, tmp_path):
        passes_on_events_alone(port, collector, tmp_path / "proxy.log")


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    unit = (DEPLOY / "headroom-collector.service").read_text()
    [command] = re.findall(r"^ExecStart=(\S+) collect --workers 2$", unit, re.MULTILINE)
    copy = tmp_path / "headroom-collector.service"
    copy.write_text(unit.replace(command, sys.executable))
    done = subprocess.run([analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd cannot verify units here: nothing is proved about its example in deploy/")
    assert [line for line in done.stderr.splitlines() if copy.name in line] == []
    assert done.returncode == 0, done.stderr
