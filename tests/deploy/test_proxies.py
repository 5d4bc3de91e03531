"""The examples in deploy/ of proxies in front of the collector, and of units of systemd, read by the real programs.
Proxies in front of the pages are in test_pages_behind_proxies.py.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.proxies import DEPLOY, Proxy, caddy, nginx, program
from tests.orchestration.collector.loopback import KEY, Collecting, settings
from tests.support.waiting import wait_until

EVENT = json.dumps({"event": "api_call"}).encode()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collecting]:
    with Collecting(settings(tmp_path)) as running:
        yield running


def passes_on_events_alone(proxy: Proxy, collector: Collecting) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    taken = proxy.ask("POST", f"/v1/analytics/x/?api_key={KEY}", EVENT, **key)
    assert (taken.status, taken.body) == (200, b'{"accepted":1,"quarantined":0}')
    assert proxy.ask("POST", "/batch/", EVENT, **{"X-API-Key": f"{KEY}x"}).status == 401
    assert proxy.ask("POST", "/x", b" " * (7 << 20), **key).status == 413  # the collector's own, with what to do
    for path in ("/metrics", "/healthz", "/readyz"):
        assert proxy.ask("GET", path).status == 405
    assert proxy.ask("OPTIONS", "/x").status == 405  # the collector's: no page may send
    wait_until(lambda: "/batch/" in proxy.logged())
    assert KEY not in proxy.logged()
    assert collector.finished() == [json.loads(EVENT)]


def test_nginx_passes_on_events_and_nothing_else(collector: Collecting, tmp_path: Path) -> None:
    with nginx("nginx.conf", "collect", tmp_path, {"127.0.0.1:8080": collector.port}) as proxy:
        passes_on_events_alone(proxy, collector)


def test_caddy_passes_on_events_and_nothing_else(collector: Collecting, tmp_path: Path) -> None:
    with caddy("Caddyfile", "collect", tmp_path, "127.0.0.1:8080", collector.port) as proxy:
        passes_on_events_alone(proxy, collector)


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_no_key_is_in_the_log_while_the_collector_is_away(kind: str, tmp_path: Path) -> None:
    with (
        nginx("nginx.conf", "collect", tmp_path, {"127.0.0.1:8080": 9})
        if kind == "nginx"
        else caddy("Caddyfile", "collect", tmp_path, "127.0.0.1:8080", 9) as proxy
    ):
        assert proxy.ask("POST", f"/batch/?api_key={KEY}", EVENT).status == 502
        wait_until(lambda: "/batch/" in proxy.logged())
    assert KEY not in proxy.logged()


@pytest.mark.parametrize(("name", "command"), [("collector", "collect --workers 2"), ("pages", "pages")])
def test_systemd_accepts_the_unit(name: str, command: str, tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    unit = (DEPLOY / f"headroom-{name}.service").read_text()
    [started] = re.findall(rf"^ExecStart=(\S+) {command}$", unit, re.MULTILINE)
    copy = tmp_path / f"headroom-{name}.service"
    copy.write_text(unit.replace(started, sys.executable))
    done = subprocess.run([analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd cannot verify units here: nothing is proved about its example in deploy/")
    assert [line for line in done.stderr.splitlines() if copy.name in line] == []
    assert done.returncode == 0, done.stderr
